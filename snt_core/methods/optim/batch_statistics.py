"""The buffers of a model, batch statistics among them, kept and put back."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Statistics:
    """The buffers of a model, wherever and of whatever dtype they are at the time.

    A module that replaces a buffer, rather than writing to it, gets its own tensor back.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._model = model
        self._places: list[tuple[dict[str, Tensor | None], str]] = []
        self._tensors: list[Tensor] = []
        self._values: list[Tensor] = []

    @torch.no_grad()
    def keep(self) -> None:
        """Remember what the buffers are now."""
        self._places, before, self._tensors = [], self._tensors, []
        # not model.modules(), which takes as long as all the copies
        modules: list[nn.Module | None] = [self._model]
        seen = set()
        while modules:
            module = modules.pop()
            if module is None or module in seen:
                continue
            seen.add(module)
            modules += module._modules.values()
            for name, buffer in module._buffers.items():
                if buffer is not None and not nn.parameter.is_lazy(buffer):
                    self._places.append((module._buffers, name))
                    self._tensors.append(buffer)
        # memory is made anew when the model has moved: then its buffers are other tensors
        if list(map(id, self._tensors)) != list(map(id, before)):
            self._values = [torch.empty_like(buffer) for buffer in self._tensors]
        if self._values:
            torch._foreach_copy_(self._values, self._tensors)

    @torch.no_grad()
    def restore(self) -> None:
        """Let the buffers be what they were."""
        for (buffers, name), tensor in zip(self._places, self._tensors, strict=True):
            buffers[name] = tensor
        if self._values:
            torch._foreach_copy_(self._tensors, self._values)
