"""DataFrame -> matplotlib figure. No numbers are computed here beyond means for display."""

from snt_core.paper.figure4 import blocks
from snt_core.paper.figures.analyses import (
    channels,
    codes,
    density,
    proxy,
    spectra,
    step_times,
    surfaces,
    table2,
    tokens,
)
from snt_core.paper.figures.compression import (
    against_paper,
    augmentation,
    finetuning,
    pruning,
    sensitivity,
)
from snt_core.paper.figures.performance import benchmarks
from snt_core.paper.looks import style

__all__ = [
    "against_paper",
    "augmentation",
    "benchmarks",
    "blocks",
    "channels",
    "codes",
    "density",
    "finetuning",
    "proxy",
    "pruning",
    "sensitivity",
    "spectra",
    "step_times",
    "style",
    "surfaces",
    "table2",
    "tokens",
]
