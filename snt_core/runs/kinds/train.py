"""Training from random weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snt_core.common.checks import one_of, within
from snt_core.data.facts import FACTS
from snt_core.nets import MODELS, VARIANTS
from snt_core.runs.kinds._evaluation import EVALUATION, packed, top1, unpacked
from snt_core.runs.kinds._finetune import READING
from snt_core.runs.shapes import Shape, count, fields, many
from snt_core.runs.spec import Context, Metrics, Net, Outcome, Row, untrained
from snt_core.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class TrainSpec(Net):
    """One training from random weights; its record holds the test accuracy of the float net."""

    kind: ClassVar[str] = "train"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("top1", "parameters", "correct")
    shape: ClassVar[Shape] = fields(
        test=EVALUATION, history=many(READING), steps=count(1), parameters=count(1)
    )
    leaves_weights: ClassVar[bool] = True

    recipe: Recipe

    def check(self) -> None:
        one_of("data set", self.data, FACTS)
        one_of("model", self.model, MODELS)
        one_of("variant", self.variant, VARIANTS)
        within("seed", self.seed, 0, 2**31)

    @property
    def approach(self) -> str:
        """The paper's name for optimizer and architecture together: adam, sam, arch, preact.

        What the paper has no name for: the variant's, with the optimizer's behind it unless Adam.
        """
        if self.variant == "base":
            return self.recipe.optimizer
        name = {"preact": "preact", "snt": "arch"}.get(self.variant, self.variant)
        return name if self.recipe.optimizer == "adam" else f"{name}+{self.recipe.optimizer}"

    def work(self) -> float:
        passes = 2 if self.recipe.optimizer == "sam" else 1
        return self.training_images(self.recipe.epochs, passes)

    def perform(self, context: Context) -> Outcome:
        """Train, keep the weights, read the test set once."""
        from snt_core.training.evaluate import evaluate
        from snt_core.training.fit import Diverged, fit

        data = context.data()
        model = untrained(self)
        try:
            done = fit(
                model,
                data,
                self.recipe,
                context.engine,
                seed=self.seed,
                checkpoint=context.checkpoint,
                progress=context.progress,
            )
        except Diverged as error:
            found = {"diverged_at": error.step}
            dtype = context.engine.dtype
            return Outcome(metrics=found, n_samples=0, dtype=dtype, status="diverged")
        context.keep(model)
        metrics = {
            "test": packed(evaluate(model, data.test, data.facts)),
            "history": done.history,
            "steps": done.steps,
            "parameters": sum(p.numel() for p in model.parameters()),
        }
        return Outcome.of_fit(metrics, len(data.test), context.engine, done)

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return {"top1": top1(metrics["test"])}

    def rows(self, metrics: Metrics) -> list[Row]:
        """Return one row: test top-1 (percent) of the float net, parameters, which were right."""
        test = metrics["test"]
        correct = unpacked(test)
        return [{"top1": top1(test), "parameters": metrics["parameters"], "correct": correct}]
