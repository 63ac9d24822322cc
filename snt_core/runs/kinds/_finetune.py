"""What the quantizations share: read the test set, fine-tune, read it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snt_core.runs.kinds.context import Outcome, Place, after_fit, packed

if TYPE_CHECKING:
    from torch import nn


def tuned(spec: Any, student: nn.Module, place: Place, *, evaluations: int) -> Outcome:
    """`student` (fake-quantized, ready to train) before and after `spec.finetune`.

    Metrics: `before` and `after`, evaluations of the test set; `curve`, validation accuracy while
    fine-tuning; `steps`. Without a recipe only `before`.
    """
    from snt_core.methods.compress.quantize import freeze
    from snt_core.training.fit import Diverged, evaluate, fit

    data = place.data(spec)
    plain = freeze(student)
    before = packed(evaluate(plain, data.test, data.facts))
    if spec.finetune is None:
        return Outcome(metrics={"before": before}, n_samples=len(data.test))
    with place.engine.autocast():  # as the readings that follow it on the curve
        start = evaluate(plain, data.val, data.facts)
    try:
        done = fit(
            student,
            data,
            spec.finetune,
            place.engine,
            seed=spec.seed,
            evaluations=evaluations,
            checkpoint=place.store.checkpoint(spec),
            progress=place.progress,
        )
    except Diverged as error:
        return Outcome(
            metrics={"before": before, "diverged_at": error.step},
            n_samples=len(data.test),
            dtype=place.engine.dtype,
            status="diverged",
        )
    after = packed(evaluate(freeze(student), data.test, data.facts))
    first = {"step": 0, "epoch": 0.0, "val_top1": start.top1, "val_loss": start.loss}
    metrics = {
        "before": before,
        "after": after,
        "curve": [first, *done.history],
        "steps": done.steps,
    }
    return after_fit(metrics, len(data.test), place.engine, done)


def before_and_after(metrics: dict[str, Any]) -> dict[str, float]:
    return {key: metrics[key]["top1"] for key in ("before", "after") if key in metrics}
