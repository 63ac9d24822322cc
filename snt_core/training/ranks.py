"""Data-parallel training by `torchrun`: ranks share every batch, and rank 0 alone writes.

Outside of torchrun there is one rank, and nothing here does anything::

    with ranks.joined():  # around the whole of a command
        fit(model, data, recipe, engine, seed=0)  # every rank calls it
        test = ranks.from_main(lambda: evaluate(model, data.test, data.facts))

Gradients are averaged over equal shares of each batch, in both of SAM's passes, so that N ranks
take the step that one process would. BatchNorm alone differs: each rank normalises by its own
share's statistics (as DistributedDataParallel does), and rank 0's running ones are kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from snt_core.common.errors import UserError

T = TypeVar("T")

# How long a rank waits for the others: long, since all wait while rank 0 evaluates. It is torchrun,
# not this, that ends them all when a rank dies.
PATIENCE = timedelta(days=1)


@contextmanager
def joined() -> Iterator[None]:
    """Join torchrun's processes for the block: one GPU each (then "cuda" is that one), or CPUs."""
    if not launched():
        yield
        return
    try:
        _join()
    except (KeyError, ValueError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"TORCHELASTIC_RUN_ID is set, but torchrun's processes cannot be joined ({reason}); "
            f"start the command with torchrun, or unset the variable"
        ) from error
    try:
        yield
    finally:
        dist.destroy_process_group()


def _join() -> None:
    backend = "gloo"
    if torch.cuda.is_available():
        # a GPU each, since NCCL lets no two ranks share one
        backend, local = "nccl", int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise UserError(
                f"--nproc-per-node must be at most {torch.cuda.device_count()}, a GPU each"
            )
        torch.cuda.set_device(local)
    dist.init_process_group(backend, timeout=PATIENCE)


def launched() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def count() -> int:
    """Return how many ranks there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is rank 0, the one that reports and writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def share(size: int) -> slice:
    """Return this rank's places in a batch of `size`; raise UserError if shares are not equal."""
    if size % count():
        raise UserError(f"batches of {size} images do not divide among {count()} ranks")
    each = size // count()
    first = dist.get_rank() * each if count() > 1 else 0
    return slice(first, first + each)


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over the ranks; all ranks get the same bits."""
    if count() == 1:
        return
    tensors = list(tensors)
    # one message for all: small ones cost their delay each
    flat = torch.cat([t.reshape(-1) for t in tensors]) / count()
    dist.all_reduce(flat)
    for tensor, piece in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(piece.view_as(tensor))


def from_main(compute: Callable[[], T]) -> T:
    """Return what rank 0 computes, on every rank; the others wait for it.

    It is pickled on the way, and a tensor in it should lie on the CPU.
    """
    if count() == 1:
        return compute()
    found: list[Any] = [compute() if is_main() else None]
    dist.broadcast_object_list(found)
    return found[0]
