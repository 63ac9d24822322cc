"""Evaluations in records: accuracy, loss, and one bit for each test image."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from snt_core.runs.shapes import PERCENT, count, fields, number, text

if TYPE_CHECKING:
    from snt_core.training.evaluate import Evaluation

Packed = dict[str, Any]
MOST_IMAGES = 10**8
EVALUATED = {"top1": PERCENT, "n": count(1, MOST_IMAGES), "correct": text("[A-Za-z0-9+/]+={0,2}")}
EVALUATION = fields({"loss": number(0)}, **EVALUATED)


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
    """Return which test images were right: bool `N`, in the data set's canonical order.

    Raises ValueError where there are not as many bits as images.
    """
    bits = np.frombuffer(base64.b64decode(evaluation["correct"]), np.uint8)
    if len(bits) != -(-evaluation["n"] // 8):
        raise ValueError(f"{8 * len(bits)} bits stand for {evaluation['n']} images")
    return np.unpackbits(bits, count=evaluation["n"]).astype(bool)


def top1(evaluation: Packed) -> float:
    """Return the accuracy in percent."""
    value: float = evaluation["top1"]
    return value
