"""The order of axes in memory: channels last, in which convolutions are fastest."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Net = TypeVar("Net", bound=nn.Module)


def channels_last(model: Net) -> Net:
    """Return the model itself, its weights of four axes laid out channels last in memory."""
    # torch's stubs of `Module.to` do not know the argument, its documentation does
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
