"""The paper's change: Eq. (1) and the pre-activation order, in new nets and in nets that exist."""
