"""Evaluations in records: accuracy, loss, and one bit for each test image."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from snt_core.training.evaluate import Evaluation

Packed = dict[str, Any]


def packed(evaluation: Evaluation) -> Packed:
    """Return the JSON form of an evaluation; `correct` is one bit an image, in base64.

    The bits let two nets be compared image by image, which a bootstrap needs.
    """
    bits = np.packbits(evaluation.correct.numpy())
    return {
        "top1": evaluation.top1,
        "loss": evaluation.loss,
        "n": len(evaluation.correct),
        "correct": base64.b64encode(bits.tobytes()).decode(),
    }


def unpacked(evaluation: Packed) -> np.ndarray:
    """Return which test images were right: bool `N`, in the data set's canonical order."""
    bits = np.frombuffer(base64.b64decode(evaluation["correct"]), np.uint8)
    return np.unpackbits(bits, count=evaluation["n"]).astype(bool)


def top1(evaluation: Packed) -> float:
    """Return the accuracy in percent."""
    value: float = evaluation["top1"]
    return value
