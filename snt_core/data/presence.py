"""Whether a data set is there and whole, told in a moment: no torch, and no image is decoded."""

from __future__ import annotations

import os
from pathlib import Path

from snt_core.common.errors import UserError
from snt_core.common.files import cache_dir, data_dir
from snt_core.data import cifar
from snt_core.data.facts import FACTS


def require(name: str) -> None:
    """Raise UserError where `load` would find a data set missing, cut short or another.

    What only a look at every pixel tells is left to `load`.
    """
    if name == "imagenet":
        _require_images(data_dir() / name / "val")
    elif name in cifar.LAYOUTS and not _is_cached(name):
        cifar.inspect(name, data_dir())


def _is_cached(name: str) -> bool:
    """Whether the decoded data set lies in the cache, whole by its header and the file's length."""
    from safetensors import SafetensorError, safe_open

    facts, path = FACTS[name], cache_dir() / f"{name}.safetensors"
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="np") as file:
            shapes = {
                part: file.get_slice(f"{part}_images").get_shape() for part in ("train", "test")
            }
    except (OSError, SafetensorError):
        return False
    return all(shapes[part] == [getattr(facts, part), facts.size, facts.size, 3] for part in shapes)


def _require_images(val: Path) -> None:
    """Raise UserError unless there is a folder of a class with something in it."""
    if val.is_dir():
        for entry in os.scandir(val):
            if entry.is_dir() and any(os.scandir(entry.path)):
                return
    raise UserError(
        f"no images {val}/<WordNet id>/*.JPEG, such as in val/n01440764: "
        f"SNT_DATA_DIR must name the folder that holds imagenet/val (and imagenet/train)"
    )
