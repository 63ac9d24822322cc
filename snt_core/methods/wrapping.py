"""The plain module inside wrappers: torch.compile, DistributedDataParallel, DataParallel.

::

    from snt_core.methods.wrapping import unwrapped

    unwrapped(torch.compile(my_model)) is my_model  # True
"""

from __future__ import annotations

import torch
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the plain module inside torch.compile's, DDP's and DataParallel's, nested or not."""
    while True:
        if isinstance(model, torch._dynamo.OptimizedModule):
            model = model._orig_mod
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model
