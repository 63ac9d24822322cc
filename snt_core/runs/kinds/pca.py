"""How many principal components a transformer's weights need."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from snt_core.runs.kinds.context import Outcome, Place, fresh
from snt_core.runs.kinds.measurement import Measurement

if TYPE_CHECKING:
    from torch import nn

SHARE = 200 / 768  # of the width: where the paper reads the curve


@dataclass(frozen=True, kw_only=True)
class PCASpec(Measurement):
    """Cumulative explained variance of FFN and QKV weights, per block and averaged."""

    kind: ClassVar[str] = "pca"
    schema: ClassVar[int] = 1
    needs_data: ClassVar[bool] = False

    def work(self) -> float:
        return 1.0

    def carry_out(self, place: Place) -> Outcome:
        """From weights alone, no image is read; the net before training is the yardstick."""
        metrics = {"trained": _curves(place.net(self)), "untrained": _curves(fresh(self.parent))}
        return Outcome(metrics=metrics, n_samples=0)

    @staticmethod
    def headline(metrics: dict[str, Any]) -> dict[str, float]:
        return {part: fmean(found["at_share"]) for part, found in metrics["trained"].items()}


def _curves(model: nn.Module) -> dict[str, dict[str, list[float]]]:
    """For feed-forward and QKV weights: the curve (mean over blocks), each block's value at `SHARE`
    and its effective rank."""
    from snt_core.methods.analysis.weights import block_spectra, share_at

    curves, ranks = block_spectra(model), _ranks(model)
    return {
        part: {
            "mean": [round(x, 6) for x in curves[part].mean(0).tolist()],
            "at_share": [share_at(curve, SHARE) for curve in curves[part]],
            "effective_rank": ranks[part],
        }
        for part in ("ffn", "qkv")
    }


def _ranks(model: nn.Module) -> dict[str, list[float]]:
    """Effective rank of each block's feed-forward weights (mean of both) and of QKV."""
    from snt_core.methods.analysis.weights import effective_rank

    return {
        "ffn": [
            (effective_rank(block.mlp.fc1.weight) + effective_rank(block.mlp.fc2.weight.T)) / 2
            for block in model.blocks
        ],
        "qkv": [effective_rank(block.attn.qkv.weight) for block in model.blocks],
    }
