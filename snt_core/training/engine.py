"""How a run is carried out: device, number format, threads. Never part of a run's identity."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
import sysconfig
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The way in which a machine carries out runs: device, number format, kernels, threads.

    `dtype` is the autocast format of training and of pruning sweeps ("bf16" or "fp32"); other
    measurements are in fp32. `fused` runs Eq. (1), and on a CPU batch normalisation with it, as
    one-pass kernels. On a CPU results repeat bitwise at a fixed number of threads only, so that
    number is fixed at 1 and cores are used by more processes. `graphs` lets a training send its
    steps as CUDA graphs.
    """

    device: str
    dtype: str
    fused: bool
    graphs: bool = False
    threads: int = 1

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which a training's passes run."""
        if self.dtype == "fp32":
            return nullcontext()
        return torch.autocast(self.device, torch.bfloat16)

    @property
    def name(self) -> str:
        """Return the device as a person would name it."""
        return torch.cuda.get_device_name() if self.device == "cuda" else cpu_name()


def detect(*, exact: bool = False, device: str = "") -> Engine:
    """Return the fast way that this machine offers; with `exact`, fp32 and plain operators.

    `device` is "cpu" or "cuda"; empty for a card where there is one.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = "bf16" if not exact and _native_bf16(device) else "fp32"
    fused = not exact and _has_kernels(device)
    graphs = not exact and device == "cuda"
    return Engine(device=device, dtype=dtype, fused=fused, graphs=graphs)


def _has_kernels(device: str) -> bool:
    if device == "cuda":
        return can_compile()
    from snt_core.fast import kernels

    return kernels.available()


def busy_cores() -> float:
    """Return how many cores others keep busy, over half a second in which this process sleeps."""
    return psutil.cpu_percent(interval=0.5) / 100 * (psutil.cpu_count() or 1)


def busy() -> str | None:
    """Return what to say of a machine where others keep half of its cores or more busy."""
    cores, others = psutil.cpu_count() or 1, busy_cores()
    return f"{others:.1f} of {cores} cores" if others >= cores / 2 else None


def keep_memory() -> None:
    """Let this process keep the memory that it frees, where the C library is glibc.

    Each step frees what the next one asks for again; given back in between, it would have to come
    page by page.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    # By number, since ctypes reads no headers. Blocks above the second are always given back.
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, at its limit


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
    """Return the processor's name as its maker prints it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            names = [
                line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def peak_memory(device: str) -> int:
    """Return the most bytes used so far: of the card, or of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024  # Linux counts in KiB
