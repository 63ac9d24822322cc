"""A recipe that cannot train is refused."""

from __future__ import annotations

import pytest

from snt_core.common.errors import UserError
from snt_core.training.recipe import Recipe


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"epochs": 1.5}, "epochs is 1.5; it must be a whole number"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lr": 0}, "lr is 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"weight_decay": 10, "lr": 0.1}, "weight_decay is 10 at lr 0.1"),
        ({"warmup_epochs": 3}, "warmup_epochs is 3.0"),
        ({"optimizer": "adma"}, "did you mean 'adam'"),
        ({"rho": 0.1}, "rho is 0.1"),
    ],
)
def test_a_value_out_of_its_range_is_named(changed, says):
    with pytest.raises(UserError, match=says):
        Recipe(**{"epochs": 2, "lr": 0.01, **changed})
