"""Training from random weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from snt_core.nets import MODELS
from snt_core.runs.kinds.context import Outcome, Place, after_fit, fresh, packed, training_images
from snt_core.runs.spec import DATA, VARIANTS, Recipe, one_of, within


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """One training from random weights; its record holds the test accuracy of the float net."""

    kind: ClassVar[str] = "train"
    schema: ClassVar[int] = 1
    leaves_weights: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True

    data: str
    val_size: int
    model: str
    variant: str
    recipe: Recipe
    seed: int

    def __post_init__(self) -> None:
        one_of("data set", self.data, DATA)
        one_of("model", self.model, MODELS)
        one_of("variant", self.variant, VARIANTS)
        within("seed", self.seed, 0, 2**31)

    @property
    def approach(self) -> str:
        """The paper's name for optimizer and architecture together: adam, sam, arch (or preact)."""
        if self.variant == "base":
            return self.recipe.optimizer
        name = {"preact": "preact", "snt": "arch"}.get(self.variant, self.variant)
        return name if self.recipe.optimizer == "adam" else f"{name}+sam"

    def work(self) -> float:
        passes = 2 if self.recipe.optimizer == "sam" else 1
        return training_images(self, self.recipe.epochs, passes)

    def carry_out(self, place: Place) -> Outcome:
        """Trains, keeps the weights, reads the test set once."""
        from snt_core.training.fit import Diverged, evaluate, fit

        data = place.data(self)
        model = fresh(self)
        try:
            done = fit(
                model,
                data,
                self.recipe,
                place.engine,
                seed=self.seed,
                checkpoint=place.store.checkpoint(self),
                progress=place.progress,
            )
        except Diverged as error:
            found = {"diverged_at": error.step}
            dtype = place.engine.dtype
            return Outcome(metrics=found, n_samples=0, dtype=dtype, status="diverged")
        place.keep(self, model)
        metrics = {
            "test": packed(evaluate(model, data.test, data.facts)),
            "history": done.history,
            "steps": done.steps,
            "parameters": sum(p.numel() for p in model.parameters()),
        }
        return after_fit(metrics, len(data.test), place.engine, done)

    @staticmethod
    def headline(metrics: dict[str, Any]) -> dict[str, float]:
        return {"top1": metrics["test"]["top1"]}
