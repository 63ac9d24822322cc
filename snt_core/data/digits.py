"""Handwritten digits that come with scikit-learn: small, and there without a network."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

FILE = "datasets/data/digits.csv.gz"  # within scikit-learn, whose `load_digits` reads it too


def raw() -> tuple[np.ndarray, np.ndarray]:
    """Return 1,797 images, float64 `N 8 8` from 0 to 16, and their labels, int64 `N`.

    They are what `sklearn.datasets.load_digits` returns. To import that would bring scipy, pandas
    and pyarrow into each process that computes on them.
    """
    package = find_spec("sklearn")
    assert package is not None, "a dependency"
    assert package.origin is not None, "it is a folder with a file"
    table = np.loadtxt(Path(package.origin).parent / FILE, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
