"""What carrying out a run takes and gives: a place with store, engine and data; an outcome."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from snt_core.runs.spec import Net, Spec, root

if TYPE_CHECKING:
    from torch import Tensor, nn

    from snt_core.data.load import Dataset
    from snt_core.runs.store import Store
    from snt_core.training.engine import Engine
    from snt_core.training.fit import Evaluation, Fit

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run found. `dtype` is the number format of its training, or of its sweep; `fused`
    says whether it trained with one-pass kernels."""

    metrics: dict[str, Any]
    n_samples: int
    dtype: str = "fp32"
    fused: bool = False
    status: str = "done"
    earlier: float = 0.0
    resumed_at_step: int = 0


@dataclass(frozen=True)
class Place:
    """Where a run is carried out; `progress` is told parts done and parts in all."""

    store: Store
    engine: Engine
    progress: Progress

    def data(self, spec: Spec) -> Dataset:
        """The net's data set on the engine's device, standardised as the net expects it."""
        net = root(spec)
        data = _dataset(net.data, net.val_size, self.engine.device)
        facts = dataclasses.replace(data.facts, **getattr(net, "standardisation", {}))
        return dataclasses.replace(data, facts=facts)

    def net(self, spec: Spec) -> nn.Module:
        """The parent's net with its weights, in eval mode on the engine's device."""
        net = root(spec)
        model = fresh(net)
        model.load_state_dict(self.store.get_weights(net))
        return model.to(self.engine.device).eval()

    def keep(self, net: Net, model: nn.Module) -> None:
        """Store the weights of `net`; of several ranks the first one does."""
        from snt_core.training.ranks import is_main

        if is_main():
            self.store.put_weights(net, model.state_dict())

    def sample(self, spec: Spec, n: int) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """The first `n` training images without augmentation, their labels, and what turns such
        images into the net's input: the arguments of every measurement of the loss."""
        from snt_core.data.load import normalise

        data = self.data(spec)
        part = data.train.tensors(n)
        return part.images, part.labels, lambda images: normalise(images, data.facts)


@cache
def _dataset(name: str, val_size: int, device: str) -> Dataset:
    """Loaded once per process."""
    from snt_core.data.load import load

    return load(name, val_size).to(device)


def fresh(net: Net) -> nn.Module:
    """The net as it is before training."""
    from snt_core import nets
    from snt_core.data.facts import FACTS

    return nets.build(net.model, net.variant, FACTS[net.data].num_classes, net.seed)


def packed(evaluation: Evaluation) -> dict[str, Any]:
    """JSON form of an evaluation; `correct` is one bit an image, base64, for paired intervals."""
    bits = np.packbits(evaluation.correct.numpy())
    return {
        "top1": evaluation.top1,
        "loss": evaluation.loss,
        "n": len(evaluation.correct),
        "correct": base64.b64encode(bits.tobytes()).decode(),
    }


def after_fit(metrics: dict[str, Any], n_samples: int, engine: Engine, done: Fit) -> Outcome:
    """Outcome of a run that trained, with what the training knows of itself."""
    return Outcome(
        metrics=metrics,
        n_samples=n_samples,
        dtype=engine.dtype,
        fused=done.fused,
        earlier=done.earlier,
        resumed_at_step=done.resumed,
    )


def training_images(net: Net, epochs: int, passes: int = 1) -> float:
    """Images that pass through the net in `epochs` epochs of its training split."""
    from snt_core.data.facts import FACTS

    return float(epochs * (FACTS[net.data].train - net.val_size) * passes)


def test_images(net: Net) -> int:
    from snt_core.data.facts import FACTS

    return FACTS[net.data].test
