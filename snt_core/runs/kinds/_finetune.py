"""What the quantizations share: read the test set, fine-tune, read it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snt_core.runs.kinds._evaluation import EVALUATION, Packed, packed, top1, unpacked
from snt_core.runs.shapes import PERCENT, count, fields, many, number
from snt_core.runs.spec import Context, Metrics, Outcome, Row
from snt_core.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn


COLUMNS = (
    "kind",
    "weight_bits",
    "act_bits",
    "per_channel",
    "observer",
    "clipping",
    "edge_bits",
    "form",
    "rate",
    "before",
    "after",
    "trained",
    "correct",
    "before_correct",
)


READING = fields(
    {"lr": number(0), "train_loss": number(0), "val_loss": number(0)},
    step=count(),
    epoch=number(0),
    val_top1=PERCENT,
)
TRAINED = {"after": EVALUATION, "curve": many(READING), "steps": count(1)}
SHAPE = fields(before=EVALUATION, **TRAINED)


def perform(
    student: nn.Module, context: Context, recipe: Recipe | None, seed: int, evaluations: int
) -> Outcome:
    """Return what `student` (fake-quantized, ready to train) reaches before and after `recipe`.

    Metrics: `before` and `after`, evaluations of the test set; `curve`, validation accuracy at
    `evaluations` points of the fine-tuning; `steps`. Without a recipe only `before`.
    """
    from snt_core.methods.compress.quantize import freeze
    from snt_core.training.evaluate import evaluate
    from snt_core.training.fit import Diverged, fit

    data, engine = context.data(), context.engine
    plain = freeze(student)
    before = packed(evaluate(plain, data.test, data.facts))
    if recipe is None:
        return Outcome(metrics={"before": before}, n_samples=len(data.test))
    with engine.autocast():  # as the readings that follow it on the curve
        start = evaluate(plain, data.val, data.facts)
    try:
        done = fit(
            student,
            data,
            recipe,
            engine,
            seed=seed,
            evaluations=evaluations,
            checkpoint=context.checkpoint,
            progress=context.progress,
        )
    except Diverged as error:
        return Outcome(
            metrics={"before": before, "diverged_at": error.step},
            n_samples=len(data.test),
            dtype=engine.dtype,
            status="diverged",
        )
    first = {"step": 0, "epoch": 0.0, "val_top1": start.top1, "val_loss": start.loss}
    metrics = {
        "before": before,
        "after": packed(evaluate(freeze(student), data.test, data.facts)),
        "curve": [first, *done.history],
        "steps": done.steps,
    }
    return Outcome.of_fit(metrics, len(data.test), engine, done)


def headline(metrics: Metrics) -> dict[str, float]:
    return {key: top1(metrics[key]) for key in ("before", "after") if key in metrics}


def rows(spec: Any, metrics: Metrics) -> list[Row]:
    """Return one row: test top-1 (percent) before and after training with the quantization.

    `after` is `before` where there was no training (see `trained`). `act_bits` is 0 where
    activations stay in float, `edge_bits` where the first and last layer are as the others, `rate`,
    the peak of the training, where there was none; `correct` says which test images were right in
    the end.
    """
    end: Packed = metrics["after" if "after" in metrics else "before"]
    return [
        {
            "kind": spec.kind,
            "weight_bits": spec.weight_bits,
            "act_bits": getattr(spec, "act_bits", 0),
            "per_channel": getattr(spec, "per_channel", False),
            "observer": getattr(spec, "observer", ""),
            "clipping": getattr(spec, "clipping", ""),
            "edge_bits": getattr(spec, "edge_bits", 0),
            "form": getattr(spec, "form", ""),
            "rate": spec.finetune.lr if spec.finetune else 0.0,
            "before": top1(metrics["before"]),
            "after": top1(end),
            "trained": "after" in metrics,
            "correct": unpacked(end),
            "before_correct": unpacked(metrics["before"]),
        }
    ]
