"""How long a call takes, whatever device does the work."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

CPU = torch.device("cpu")


def seconds_of(call: Callable[[], Any], device: torch.device = CPU) -> float:
    """Return the seconds that ``call()`` takes until ``device`` has done what it asks for."""
    wait_for(device)
    started = time.perf_counter()
    call()
    wait_for(device)
    return time.perf_counter() - started


def wait_for(device: torch.device) -> None:
    """Wait until all that was sent to the device is done, as timing needs."""
    if device.type != "cpu":  # kernels are queued, and the queue is what takes the time
        torch.accelerator.synchronize(device)
