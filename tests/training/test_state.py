"""A state that is damaged or another training's is refused in a line."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from snt_core.common.errors import UserError
from snt_core.common.sealed import read_sealed, write_sealed
from snt_core.training.state import State


def state(numerics: str = "fp32") -> State:
    return State(torch.zeros(()), numerics=numerics)


def saved(path, **changed):
    """What `save` writes, with some of its entries changed."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    state().save(path, model, optimizer, 1.0)
    if changed:
        content = torch.load(io.BytesIO(read_sealed(path))) | changed
        resave(content, path)
    return model, optimizer


def resave(content, path):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_sealed(path, buffer.getvalue())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"text of somebody"),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: resave([1, 2], path),
        lambda path: torch.save({}, path),  # not sealed
        lambda path: resave({}, path),
        lambda path: saved(path, optimizer=3),
        lambda path: saved(path, model=None),
        lambda path: saved(path, model=nn.Linear(3, 3).state_dict()),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, spoil):
    path = tmp_path / "checkpoint.pt"
    model, optimizer = saved(path)
    spoil(path)
    with pytest.raises(UserError, match=r"checkpoint\.pt does not fit .*remove it to start anew"):
        state().restore(path, model, optimizer)


def test_a_training_goes_on_in_its_own_numbers_only(tmp_path):
    path = tmp_path / "checkpoint.pt"
    model, optimizer = saved(path)
    state().restore(path, model, optimizer)
    with pytest.raises(UserError, match="was begun in fp32, not bf16"):
        state("bf16").restore(path, model, optimizer)
