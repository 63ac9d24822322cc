"""What a compression gains in time: measured, and the mildest setting that gains enough.

Works on any two models of the same input::

    from snt_core.methods.compress.speed import speedup
    from snt_core.methods.compress.token_vit import merge_tokens

    print(speedup(my_vit, merge_tokens(my_vit, r=2), images))

``solve_setting(my_vit, images, 1.9, merge_tokens, range(25))`` returns the fewest merges a block
that make the ViT 1.9 times as fast, and the speed-up that was measured.

Times are those of this machine at this moment, in the number format of the surrounding autocast.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from snt_core.common.timing import seconds_of
from snt_core.methods.models.wrapping import copied

Setting = TypeVar("Setting")


def speedup(model: nn.Module, compressed: nn.Module, images: Tensor, *, repeats: int = 11) -> float:
    """Return the forward time of ``model`` over that of ``compressed``: above 1 is a gain.

    The two run in turn, so that both feel what else the machine does; the median of the ratios of
    the pairs counts.

    Args:
        model: left as it was; copies of both are timed, in eval mode and without gradients.
        compressed: likewise.
        images: one batch, B C H W, on the models' device.
        repeats: pairs that are timed, after one that is not.

    Raises:
        ValueError: ``repeats`` is less than 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats {repeats} must be at least 1")
    plain, fast = copied(model).eval(), copied(compressed).eval()
    pairs = [(_seconds(plain, images), _seconds(fast, images)) for _ in range(repeats + 1)]
    return statistics.median(slow / quick for slow, quick in pairs[1:])  # the first warms up


def solve_setting(
    model: nn.Module,
    images: Tensor,
    target: float,
    compress: Callable[[nn.Module, Setting], nn.Module],
    settings: Sequence[Setting],
    *,
    repeats: int = 11,
) -> tuple[Setting, float]:
    """Return the mildest setting whose speed-up reaches the target, found by bisection.

    Args:
        model: as in :func:`speedup`.
        images: as in :func:`speedup`.
        target: speed-up to reach, > 0.
        compress: from the model and a setting to a new model, e.g. ``merge_tokens``.
        settings: from the mildest to the strongest, each faster than the one before.
        repeats: as in :func:`speedup`.

    Returns:
        The setting, and the speed-up that was measured with it.

    Raises:
        ValueError: no setting is fast enough, or an argument is out of range.
    """
    if not target > 0 or len(settings) == 0:
        raise ValueError(f"target {target} must be > 0, and settings {settings!r} not be empty")
    measured: dict[int, float] = {}

    def measure(i: int) -> float:
        measured[i] = speedup(model, compress(model, settings[i]), images, repeats=repeats)
        return measured[i]

    found = bisect_left(range(len(settings)), target, key=measure)
    if found == len(settings):
        best = max(measured.values())
        raise ValueError(f"speed-up {target} is out of reach: {best:.3g} is the largest found")
    return settings[found], measured[found]


def _seconds(model: nn.Module, images: Tensor) -> float:
    with torch.no_grad():
        return seconds_of(lambda: model(images), images.device)
