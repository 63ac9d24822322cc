"""What each data set must look like."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Counts, statistics and size that a data set must have; anything else is refused on load.

    `mean` and `std` are per channel over the training images scaled to [0, 1], `size` is the
    images' height and width. A net trained elsewhere may want other statistics:
    `dataclasses.replace(data, facts=dataclasses.replace(data.facts, mean=..., std=...))`.
    """

    num_classes: int
    train: int
    test: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int = 32


FACTS = {
    "digits": Facts(
        num_classes=10,
        train=1437,
        test=360,
        mean=(0.3056, 0.3056, 0.3056),
        std=(0.3760, 0.3760, 0.3760),
    ),
    "few-digits": Facts(
        num_classes=10,
        train=72,
        test=24,
        mean=(0.2965, 0.2965, 0.2965),
        std=(0.3737, 0.3737, 0.3737),
    ),
    "cifar10": Facts(
        num_classes=10,
        train=50_000,
        test=10_000,
        mean=(0.49140, 0.48216, 0.44653),
        std=(0.24703, 0.24349, 0.26159),
    ),
    "cifar100": Facts(
        num_classes=100,
        train=50_000,
        test=10_000,
        mean=(0.50708, 0.48655, 0.44092),
        std=(0.26733, 0.25644, 0.27615),
    ),
    # Streamed from a folder that may hold a part of it: the counts are those of the whole.
    "imagenet": Facts(
        num_classes=1000,
        train=1_281_167,
        test=50_000,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        size=224,
    ),
}
