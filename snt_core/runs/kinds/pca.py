"""How many principal components a transformer's weights need."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from snt_core.runs.shapes import Shape, fields, many, number
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Row, untrained

if TYPE_CHECKING:
    pass

SHARE = 200 / 768  # of the width: where the paper reads the curve


PART = fields(
    mean=many(number(), least=1),
    at_share=many(number(), least=1),
    effective_rank=many(number(0), least=1),
)


@dataclass(frozen=True, kw_only=True)
class PCASpec(Measurement):
    """Cumulative explained variance of FFN and QKV weights, per block and averaged."""

    kind: ClassVar[str] = "pca"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("state", "part", "curve", "explained", "effective_rank")
    shape: ClassVar[Shape] = fields(
        trained=fields(ffn=PART, qkv=PART), untrained=fields(ffn=PART, qkv=PART)
    )
    needs_data: ClassVar[bool] = False

    def work(self) -> float:
        return 1.0

    def perform(self, context: Context) -> Outcome:
        """Read weights alone, no image; the net before training is the yardstick."""
        metrics = {"trained": _curves(context.net()), "untrained": _curves(untrained(self.net))}
        return Outcome(metrics=metrics, n_samples=0)

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return {part: fmean(found["at_share"]) for part, found in metrics["trained"].items()}

    def rows(self, metrics: Metrics) -> list[Row]:
        """Return a row per part (ffn, qkv) of the net, and of the same net before training.

        `curve` is the cumulative explained variance, mean over blocks; `explained` its value at
        26 % of the width and `effective_rank` are means over blocks too.
        """
        return [
            {
                "state": state,
                "part": part,
                "curve": found["mean"],
                "explained": fmean(found["at_share"]),
                "effective_rank": fmean(found["effective_rank"]),
            }
            for state, parts in metrics.items()
            for part, found in parts.items()
        ]


def _curves(model: Any) -> dict[str, dict[str, list[float]]]:
    """Return, for feed-forward and QKV weights, the curve (mean over blocks), and each block's
    value at `SHARE` and effective rank."""
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


def _ranks(model: Any) -> dict[str, list[float]]:
    """Return the effective rank of each block's feed-forward weights (mean of both) and of QKV."""
    from snt_core.methods.analysis.weights import effective_rank

    return {
        "ffn": [
            (effective_rank(block.mlp.fc1.weight) + effective_rank(block.mlp.fc2.weight.T)) / 2
            for block in model.blocks
        ],
        "qkv": [effective_rank(block.attn.qkv.weight) for block in model.blocks],
    }
