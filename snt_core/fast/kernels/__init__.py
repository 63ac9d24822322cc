"""Compiles the kernels of this folder for this processor, once, and calls them on tensors.

The library lies in the cache folder under a name that stands for source, compiler and processor.
One that is damaged, or that somebody else could have changed, is compiled anew.
It has a plain C interface and needs no headers of Python or torch, so it compiles in two seconds.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from snt_core.common.files import atomic_write, cache_dir

SOURCES = sorted(Path(__file__).parent.glob("*.cpp"))
HEADERS = sorted(Path(__file__).parent.glob("*.h"))
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-std=c++17", "-shared", "-fPIC")
LANES = 16  # as in lanes.h
DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


def compiler() -> str | None:
    """Return the path of the C++ compiler, `CXX` or else `c++`; None if it is not on PATH."""
    return shutil.which(os.environ.get("CXX", "c++"))


@cache
def available() -> bool:
    """Whether the kernels can be had; compiles them where they are not there yet."""
    try:
        _library()
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def untraced(*tensors: Tensor | None) -> bool:
    """Whether nothing but autograd follows what is done to these tensors.

    False within torch.compile, torch.export, jit.trace, torch.func, forward mode and dispatch modes
    (fake tensors, make_fx), and for subclasses of tensors. There a number may have no memory, or
    what a kernel does to its memory would go unseen. None is passed over.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or forward_ad._current_level >= 0:
        return False
    if torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack():
        return False
    return all(type(t) in (Tensor, nn.Parameter) for t in tensors if t is not None)


def served(*tensors: Tensor | None) -> bool:
    """Whether the kernels can be called on these tensors: dense memory of a CPU, and untraced."""
    return untraced(*tensors) and all(_has_memory(t) for t in tensors if t is not None)


def _has_memory(x: Tensor) -> bool:
    # the views that x.conj().imag makes keep their sign aside, and zeros of autograd have no memory
    plain = x.layout is torch.strided and not x.is_neg() and not x._is_zerotensor()
    plain = plain and not torch._C._functorch.is_legacy_batchedtensor(x)
    return plain and x.device.type == "cpu" and x.dtype in DTYPES


def call(name: str, dtype: torch.dtype, *values: Tensor | int | float | None) -> None:
    """Run a kernel; a tensor goes as the address of its memory, None as no address."""
    getattr(_library(), f"{name}_{DTYPES[dtype]}")(*map(_argument, values))


def _argument(value: Tensor | int | float | None) -> ctypes._SimpleCData:
    # Left to itself ctypes passes an int as 32 bits and no float at all; kernels take 64 and 32.
    if isinstance(value, float):
        return ctypes.c_float(value)
    if isinstance(value, int):
        return ctypes.c_int64(value)
    return ctypes.c_void_p(None if value is None else value.data_ptr())


def _instructions() -> str:
    """Return what this processor can do, its name alone being shared by several generations."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    known = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    return "\n".join(dict.fromkeys(known)) or platform.processor() or platform.machine()


@cache
def _library() -> ctypes.CDLL:
    """Return the compiled kernels, from the cache folder where they are there already.

    Raises:
        OSError, CalledProcessError: there is no compiler, or none that does.
    """
    cxx = compiler()
    if cxx is None:
        raise FileNotFoundError("no C++ compiler")
    said = subprocess.run([cxx, "--version"], capture_output=True, text=True, check=True).stdout
    code = [path.read_text(encoding="utf-8") for path in (*HEADERS, *SOURCES)]
    # A cache folder may serve several machines, and what -march=native compiles fits one of them.
    about = "\n".join([*code, *FLAGS, said, _instructions()])
    name = f"kernels-{hashlib.sha256(about.encode()).hexdigest()[:16]}.so"
    path = cache_dir() / "native" / name
    if _is_whole(path):
        return ctypes.CDLL(str(path))
    # not in the cache folder, where others might change it before it is looked at
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / name
        command = [cxx, *FLAGS, "-o", str(built), *map(str, SOURCES)]
        subprocess.run(command, capture_output=True, check=True)
        with suppress(OSError):  # a full or foreign cache costs the others their two seconds
            _keep(built.read_bytes(), path)
        # once it is loaded its file may go
        return ctypes.CDLL(str(path if _is_whole(path) else built))


def _keep(content: bytes, path: Path) -> None:
    """Put a library into the cache folder, and beside it the digest by which it is known again."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    if path.parent.stat().st_uid == os.getuid():
        path.parent.chmod(0o755)
    atomic_write(path, content)
    atomic_write(_digest_file(path), hashlib.sha256(content).hexdigest().encode())


def _is_whole(path: Path) -> bool:
    """Whether a library is as it was compiled, and nobody else can have changed it.

    To load half a file ends the process, and to load a stranger's runs a stranger's code.
    """
    try:
        if not all(map(_is_ours, (path.parent, path, _digest_file(path)))):
            return False
        digest = _digest_file(path).read_text(encoding="ascii")
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
    except (OSError, ValueError):
        return False


def _is_ours(path: Path) -> bool:
    about = path.lstat()
    others = stat.S_IWGRP | stat.S_IWOTH
    return about.st_uid in (0, os.getuid()) and not about.st_mode & others


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".so.sha256")
