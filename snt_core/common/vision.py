"""torchvision, also where its wheel does not fit the installed torch.

A CUDA wheel of torchvision beside a CPU build of torch fails on import, because it registers
fake kernels for operators that its missing binary would have declared. Declaring those two is
enough for everything that this project uses.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

import torch

_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []


@cache
def torchvision() -> ModuleType:
    """Return the imported package, `torchvision.datasets` included."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(operator + _NMS)
        _declared.append(library)  # an unreferenced Library takes its operators with it
    importlib.import_module("torchvision.datasets")
    return importlib.import_module("torchvision")
