"""How a run is carried out: device, number format, threads. Never part of a run's identity."""

from __future__ import annotations

import os
import platform
import shutil
import sysconfig
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True, kw_only=True)
class Engine:
    """`dtype` is the autocast format of training ("bf16" or "fp32"); measurements are in fp32.

    `fused` runs Eq. (1) as one compiled kernel. On a CPU results repeat bitwise at a fixed
    number of threads only, so that number is fixed at 1 and cores are used by more processes.
    """

    device: str
    dtype: str
    fused: bool
    threads: int = 1

    def autocast(self):
        if self.dtype == "fp32":
            return nullcontext()
        return torch.autocast(self.device, torch.bfloat16)

    @property
    def name(self) -> str:
        """The device as a person would name it."""
        return torch.cuda.get_device_name() if self.device == "cuda" else cpu_name()


def detect(*, exact: bool = False) -> Engine:
    """The fast way that this machine offers; with `exact`, plain fp32 without compiled kernels."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = "bf16" if not exact and _native_bf16(device) else "fp32"
    return Engine(device=device, dtype=dtype, fused=not exact and can_compile())


def can_compile() -> bool:
    """Whether torch.compile finds what it needs: a compiler and Python's headers."""
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    return shutil.which(os.environ.get("CXX", "c++")) is not None and headers.exists()


def _native_bf16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Emulated bf16 is slower than fp32, so only processors that have the instructions count.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            names = [
                line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
