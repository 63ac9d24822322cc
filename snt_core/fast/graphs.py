"""A training step as one launch: recorded as a CUDA graph, then replayed.

The step of a small net is hundreds of kernels of a few microseconds each. Sent one by one they take
longer to send than to run. A graph replays the same kernels on the same memory, so what changes
from step to step must lie at fixed addresses: the batch, and the learning rate (`set_rate`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

# Plain steps before the recording: the optimizer's state, cuDNN and Eq. (1)'s kernel are made.
WARM_UP = 3

Step = Callable[[Tensor, Tensor], Tensor]
Work = Callable[[], Tensor]


class Recorded:
    """A `step(images, labels)` that is called as it is at first, then recorded, then replayed.

    The tensor that a call returns is overwritten by the next call. Where a step cannot be recorded
    (it looks at a value on the card, say) it goes on as it is, which `notify` is told in a line.
    """

    def __init__(self, step: Step, notify: Callable[[str], None]) -> None:
        self.step, self.notify = step, notify
        self.calls = 0
        self.images = self.labels = torch.empty(0)
        self.replay: Work | None = None
        self.refused = False

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        # a replay reads where the recording read, so each batch is copied there
        if self.calls == 0:
            self.images, self.labels = torch.empty_like(images), torch.empty_like(labels)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.calls += 1
        if self.calls <= WARM_UP:
            return beside(self._work)
        if self.replay is None and not self.refused:
            try:
                self.replay = record(self._work)
            except RuntimeError as error:
                self.refused = True
                # the end of a failed recording fails too, and hides why
                reason = str(error.__context__ or error).partition("\n")[0]
                self.notify(f"Steps are sent kernel by kernel, not as a CUDA graph: {reason}")
        return self._work() if self.replay is None else self.replay()

    def _work(self) -> Tensor:
        return self.step(self.images, self.labels)


def record(work: Work) -> Work:
    """Return what replays `work`, which is not carried out now.

    Raises:
        RuntimeError: `work` cannot be recorded.
    """
    here = torch.cuda.current_stream()
    graph = torch.cuda.CUDAGraph()
    try:
        # Of this thread only: the one that pins a DataLoader's batches must not end the recording.
        with torch.cuda.graph(graph, stream=_side(), capture_error_mode="thread_local"):
            result = work()
    except RuntimeError:
        torch.cuda.set_stream(here)  # torch leaves its own when a recording fails
        raise

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


def beside(work: Work) -> Tensor:
    """Return `work()`, done on the stream of the recording: what it makes must belong there."""
    here = torch.cuda.current_stream()
    _side().wait_stream(here)  # the batch that is copied here must be there first
    with torch.cuda.stream(_side()):
        result = work()
    here.wait_stream(_side())
    return result


@cache
def _side() -> Any:
    """Return one stream for all of a process: memory and cuBLAS's workspaces belong to a stream."""
    return torch.cuda.Stream()


def rate_at_fixed_address(optimizer: Any, device: str) -> None:
    """Make `optimizer` fit for a recording: its learning rate a tensor on `device`."""
    # torch warns of such steps outside of a recording, where those of the warm-up are meant to be
    warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), device=device)
        group["capturable"] = True


def set_rate(optimizer: Any, rate: float) -> None:
    """Set the learning rate of all groups, at its address where it has one."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
