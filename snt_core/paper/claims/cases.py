"""Which test answers which claim, and the runs that it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from snt_core.paper.claims import others, pruning, quantization, transformers
from snt_core.paper.claims.findings import Finding
from snt_core.runs.store import Record


@dataclass(frozen=True, kw_only=True)
class Case:
    """A claim's test with the artefact, approaches and kinds of run that it reads.

    Without `approaches` the test takes whatever runs are there and says itself when they do not do.

    `parts` are the options of the artefact under which the test is made, each by itself.
    """

    artefact: str
    test: Callable[[Sequence[Record]], Finding]
    approaches: tuple[str, ...]
    kinds: tuple[str, ...]
    parts: tuple[dict[str, str], ...] = ({},)


def _backbones(*names: str, **more: str) -> tuple[dict[str, str], ...]:
    return tuple({"backbone": name, **more} for name in names)


_TWO = ("adam", "sam")
_THREE = ("adam", "sam", "arch")

CASES = {
    "overhead": Case(
        artefact="table1",
        test=others.overhead,
        approaches=("adam",),
        kinds=("step_time",),
        parts=_backbones("resnet20", "mixer_s", "mobilenet_v1"),
    ),
    "vit-lambda": Case(
        artefact="table2",
        test=transformers.vit_lambda,
        approaches=_TWO,
        kinds=("lambda_max",),
    ),
    "vit-pruning": Case(
        artefact="table2",
        test=transformers.vit_pruning,
        approaches=_TWO,
        kinds=("one_shot",),
    ),
    "vit-token-pruning": Case(
        artefact="table2",
        test=transformers.vit_token_pruning,
        approaches=_TWO,
        kinds=("tokens",),
    ),
    "vit-token-merging": Case(
        artefact="table2",
        test=transformers.vit_token_merging,
        approaches=_TWO,
        kinds=("tokens",),
    ),
    "vit-a8w8": Case(
        artefact="table2",
        test=transformers.vit_a8w8,
        approaches=_TWO,
        kinds=("one_shot", "static"),
    ),
    "pca": Case(
        artefact="figure1",
        test=transformers.pca,
        approaches=_TWO,
        kinds=("pca",),
    ),
    "outliers": Case(
        artefact="figure2",
        test=transformers.outliers,
        approaches=_TWO,
        kinds=("channels",),
    ),
    "entropy": Case(
        artefact="figure3",
        test=others.entropy,
        approaches=("adam", "arch"),
        kinds=("entropy",),
    ),
    "ptq-resnet20": Case(
        artefact="table3",
        test=quantization.ptq_resnet20,
        approaches=_THREE,
        kinds=("lambda_max", "ptq"),
        parts=_backbones("resnet20"),
    ),
    "ptq-mixer": Case(
        artefact="table3",
        test=quantization.ptq_mixer,
        approaches=_THREE,
        kinds=("lambda_max", "static"),
        parts=_backbones("mixer_s"),
    ),
    "ptq-mobilenet": Case(
        artefact="table3",
        test=quantization.ptq_mobilenet,
        approaches=_THREE,
        kinds=("lambda_max", "static"),
        parts=_backbones("mobilenet_v1"),
    ),
    "qat-resnet18": Case(
        artefact="table3qat",
        test=quantization.qat_resnet18,
        approaches=("adam", "arch"),
        kinds=("lambda_max", "qat"),
        parts=_backbones("resnet18"),
    ),
    "qat-mixer": Case(
        artefact="table3qat",
        test=quantization.qat_mixer,
        approaches=_THREE,
        kinds=("qat",),
        parts=_backbones("mixer_s"),
    ),
    "qat-mobilenet": Case(
        artefact="table3qat",
        test=quantization.qat_mobilenet,
        approaches=_THREE,
        kinds=("lambda_max", "qat"),
        parts=_backbones("mobilenet_v1"),
    ),
    "imp-mixer": Case(
        artefact="figure5",
        test=pruning.imp_mixer,
        approaches=_THREE,
        kinds=("imp",),
        parts=_backbones("mixer_s", method="iterative"),
    ),
    "imp-resnet": Case(
        artefact="figure5",
        test=pruning.imp_resnet,
        approaches=("adam", "arch"),
        kinds=("imp",),
        parts=_backbones("resnet20", method="iterative"),
    ),
    "one-shot": Case(
        artefact="figure5",
        test=pruning.one_shot,
        approaches=_THREE,
        kinds=("one_shot",),
        parts=_backbones("resnet20", "mixer_s", method="one-shot"),
    ),
    "ptq-curves": Case(
        artefact="figure6",
        test=quantization.ptq_curves,
        approaches=_THREE,
        kinds=("ptq",),
    ),
    "ablation": Case(
        artefact="table4",
        test=quantization.ablation,
        approaches=("adam", "preact", "arch"),
        kinds=("lambda_max", "ptq"),
    ),
    "augmentation": Case(
        artefact="figure7",
        test=pruning.augmentation,
        approaches=("adam", "arch"),
        kinds=("one_shot",),
    ),
    "proxy": Case(
        artefact="proxy",
        test=others.proxy,
        approaches=(),
        kinds=(),
        parts=_backbones("resnet20", "mixer_s", "mobilenet_v1", "vit"),
    ),
}
