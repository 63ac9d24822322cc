"""What both ways of pruning record: test accuracy at each sparsity, the dense net first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from snt_core.runs.kinds._evaluation import EVALUATED, packed, top1, unpacked
from snt_core.runs.shapes import SHARE, fields, many
from snt_core.runs.spec import Net, Row

if TYPE_CHECKING:
    from snt_core.training.evaluate import Evaluation

COLUMNS = ("sparsity", "top1", "drop", "correct", "augment")
SHAPE = fields(sweep=many(fields(sparsity=SHARE, **EVALUATED), least=1))
TENTHS = tuple(round(0.1 * i, 1) for i in range(1, 10))


def point(sparsity: float, evaluation: Evaluation) -> dict[str, Any]:
    """Return one entry of a sweep."""
    return {"sparsity": sparsity, **packed(evaluation)}


def headline(sweep: list[Mapping[str, Any]]) -> dict[str, float]:
    return {f"top1 at {row['sparsity']}": row["top1"] for row in sweep}


def rows(net: Net, sweep: list[dict[str, Any]]) -> list[Row]:
    """Return a row per sparsity: test top-1 (percent), drop from the dense net (points), which
    images were right, and the augmentation that the net was trained with."""
    recipe = getattr(net, "recipe", None)
    return [
        {
            "sparsity": found["sparsity"],
            "top1": top1(found),
            "drop": top1(sweep[0]) - top1(found),
            "correct": unpacked(found),
            "augment": recipe.augment if recipe else "",
        }
        for found in sweep
    ]
