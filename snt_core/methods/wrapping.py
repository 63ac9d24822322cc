"""The plain module inside what trains or runs it."""

from __future__ import annotations

from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the plain module inside ``torch.compile``, DataParallel or DistributedDataParallel.

    Wrappers may be nested; a plain module is returned as it is.

    Example::

        unwrapped(torch.compile(nn.DataParallel(net))) is net
    """
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif "_orig_mod" in model._modules:  # OptimizedModule, whose import is slow
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model
