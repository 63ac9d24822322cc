"""Lanczos' method on maps whose eigenvalues are known."""

from __future__ import annotations

import torch

from snt_core.methods.curvature.lambda_max import SETTLED
from snt_core.methods.curvature.lanczos import lanczos


def test_long_vectors_are_as_exact_as_short_ones() -> None:
    """torch's float32 norm of so many entries errs by 1e-3, and so would every eigenvalue."""
    start = torch.randn(2**24, generator=torch.Generator().manual_seed(0))
    values, _, beta = next(lanczos(lambda v: 3 * v, start, 1))
    assert abs(values.item() - 3) < 1e-5
    assert beta < 1e-4


def test_sums_in_float32_change_a_record_of_resnet18_by_less_than_a_thousandth() -> None:
    """As the list of assumptions says."""
    start = torch.randn(11_173_962, generator=torch.Generator().manual_seed(0))
    values, *_ = next(lanczos(lambda v: 3 * v, start, 1, long=SETTLED))
    assert 1e-5 < abs(values.item() / 3 - 1) < 1e-3


def test_long_vectors_of_two_eigenvalues_are_solved_in_two_products() -> None:
    start = torch.ones(2**23)
    map_of = torch.ones(2**23)
    map_of[:1000] = 50
    *_, (values, vectors, _) = lanczos(lambda v: map_of * v, start, 2)
    torch.testing.assert_close(values, torch.tensor([1.0, 50.0]).double(), rtol=1e-5, atol=0)
    share = vectors[0, -1].square().item()  # of the start in the second one's space
    assert abs(share - 1000 / (2**23)) < 1e-6
