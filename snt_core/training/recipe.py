"""How weights are optimised: the recipe of a training or of a fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field

from snt_core.common.checks import LATER, coerce_fields, one_of, within
from snt_core.common.errors import UserError

OPTIMIZERS = ("adam", "sam", "sgd")
AUGMENTATIONS = ("crop-flip", "none", "trivial-augment", "random-resized-crop")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of an optimisation of weights, from scratch or in fine-tuning.

    `lr` is the peak of a linear warm-up followed by a cosine to zero; `rho` is SAM's radius
    (0 with Adam); `weight_decay` is decoupled from the gradient and spares biases,
    normalisation and the three parameters of Eq. (1). `sgd` has momentum 0.9 and a decay that is
    part of the gradient, as it is usual there. With `ema` above 0 the weights that count are the
    exponential moving average of those of all steps, of that decay a step.
    """

    optimizer: str = "adam"
    rho: float = 0.0
    adaptive: bool = False
    epochs: int
    batch_size: int = 128
    lr: float
    # The first records hold a whole number of epochs as an integer, and their ids with it.
    warmup_epochs: float = field(default=0.0, metadata={"spelt": "integer where whole"})
    weight_decay: float = 0.0
    augment: str = "crop-flip"
    ema: float = field(default=0.0, metadata=LATER)

    def __post_init__(self) -> None:
        coerce_fields(self)
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        one_of("augmentation", self.augment, AUGMENTATIONS)
        within("epochs", self.epochs, 1, 10_000)
        within("batch_size", self.batch_size, 1, 65_536)
        within("lr", self.lr, 0, 100)
        within("rho", self.rho, 0, 10)
        within("warmup_epochs", self.warmup_epochs, 0, self.epochs)
        within("weight_decay", self.weight_decay, 0, 10)
        within("ema", self.ema, 0, 0.999999)
        if self.lr == 0:
            raise UserError("lr is 0, which trains nothing; give a rate above it, such as 0.01")
        if self.lr * self.weight_decay >= 1:
            raise UserError(
                f"weight_decay is {self.weight_decay:g} at lr {self.lr:g}, so that a step takes "
                f"the whole weight away; their product must lie below 1"
            )
        if (self.optimizer == "sam") != (self.rho > 0):
            raise UserError(
                f"rho is {self.rho} with optimizer '{self.optimizer}'; only sam has one"
            )
