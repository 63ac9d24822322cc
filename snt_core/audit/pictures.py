"""A folder of images: what its folders mean as classes, and the images as a net takes them.

Classes are read so, in this order: `labels.csv` (file, class index) of a flat folder; folders
listed in `classes.txt` (a name a line); folders named by class index; by WordNet id or ImageNet's
own names where the net has 1000 classes; else, where there are as many folders as classes, in the
order of their names, as torchvision does. A flat folder has no labels: then the float net's own
answers stand for them.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snt_core.common.errors import UserError
from snt_core.common.files import place

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
PARTS = ("val", "validation", "test")  # of a folder that holds a train part beside


@dataclass(frozen=True)
class Listing:
    """The images of a folder, and the class folder of each; empty where the folder is flat."""

    folder: Path
    files: tuple[str, ...]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def drawn(self, most: int) -> Listing:
        """Return the first `most` by the hash of their paths, which mixes the classes."""

        def key(name: str) -> bytes:
            return hashlib.blake2b(name.encode("utf-8", "surrogateescape")).digest()

        if len(self.files) <= most:
            return Listing(
                self.folder, tuple(sorted(self.files, key=key)), self.classes, self.notes
            )
        note = (
            f"{most:,} of the {len(self.files):,} images serve, drawn by the hash of their paths."
        )
        some = tuple(sorted(self.files, key=key)[:most])
        return Listing(self.folder, some, self.classes, (*self.notes, note))


def listing(data: str) -> Listing:
    """Return the images of the folder `data`. Raises UserError where there is none."""
    folder = place("--data", data)
    if not folder.is_dir():
        raise UserError(f"--data is '{data}', but there is no such folder")
    notes: tuple[str, ...] = ()
    inner = [name for name in PARTS if (folder / name).is_dir()]
    if inner and (folder / "train").is_dir():
        notes = (f"Of {folder.name} the part {inner[0]} serves.",)
        folder = folder / inner[0]
    files = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    if not files:
        raise UserError(
            f"--data is '{data}', and no image lies in it: none ends in "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    nested = [Path(name).parts[0] for name in files if len(Path(name).parts) > 1]
    if nested and len(nested) < len(files):
        loose = next(name for name in files if len(Path(name).parts) == 1)
        raise UserError(
            f"{folder} holds class folders and loose images such as {loose}; move those into "
            f"their classes, or out of the way"
        )
    return Listing(folder, tuple(files), tuple(sorted(set(nested))), notes)


def labels_of(found: Listing, outputs: int) -> tuple[list[int] | None, str]:
    """Return the class index of each image, None without labels, and how that was read.

    Raises UserError where folders and the `outputs` classes of the net do not fit.
    """
    table = found.folder / "labels.csv"
    if table.is_file():
        return _from_table(found, table, outputs), "labels.csv"
    if not found.classes:
        return None, "no labels: agreement with the float net stands for accuracy"
    index, how = _meaning(found, outputs)
    labels = [index[Path(name).parts[0]] for name in found.files]
    if max(labels) >= outputs:
        odd = next(name for name, label in index.items() if label >= outputs)
        raise UserError(f"class '{odd}' is number {index[odd]}, and the net has {outputs} classes")
    return labels, how


def _meaning(found: Listing, outputs: int) -> tuple[dict[str, int], str]:
    names = found.classes
    written = found.folder / "classes.txt"
    if written.is_file():
        order = [line.strip() for line in written.read_text(encoding="utf-8").splitlines()]
        order = [line for line in order if line]
        if odd := [name for name in names if name not in order]:
            raise UserError(f"{written} does not list '{odd[0]}', which is a folder beside it")
        return {name: order.index(name) for name in names}, "classes.txt"
    numbered = all(name.isascii() and name.isdecimal() for name in names)
    if numbered and max(map(int, names)) < outputs:
        return {name: int(name) for name in names}, "folders named by class index"
    if outputs == 1000 and (known := _imagenet(names)):
        return known, "ImageNet's names"
    if len(names) == outputs:
        return {name: i for i, name in enumerate(names)}, "folders in the order of their names"
    raise UserError(
        f"--data has {len(names)} class folder{'s' * (len(names) > 1)} "
        f"({', '.join(names[:3])}{', ...' * (len(names) > 3)}) and the net {outputs} "
        f"classes; name the folders by class index, or list all classes in {written}, one a line"
    )


def _imagenet(names: tuple[str, ...]) -> dict[str, int]:
    """Return ImageNet's index of folders named by WordNet id or by name; {} if any fails."""
    from snt_core.common.vision import torchvision

    torchvision()
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    ids = list(info.label_names())
    known = {name: index for index, name in enumerate(ids)}
    for index in range(len(ids)):
        for word in info.index_to_description(index).split(","):
            known.setdefault(word.strip().lower(), index)
    plain = [name if name in known else name.lower().replace("_", " ") for name in names]
    return {n: known[p] for n, p in zip(names, plain)} if all(p in known for p in plain) else {}


def _from_table(found: Listing, table: Path, outputs: int) -> list[int]:
    with table.open(encoding="utf-8", newline="") as lines:
        rows = {row[0]: row[1].strip() for row in csv.reader(lines) if len(row) >= 2}
    labels = []
    for name in found.files:
        value = rows.get(name, "")
        if not value.isdecimal() or int(value) >= outputs:
            raise UserError(
                f"{table} says '{value}' of {name}; each line is FILE,CLASS, with a class index "
                f"below {outputs}"
            )
        labels.append(int(value))
    return labels


def tensors(found: Listing, transform: Callable[[Any], Any]) -> Tensor:
    """Return the images, N C H W float, each through `transform`.

    Raises UserError for one that cannot be read, or that `transform` makes of another shape.
    """
    import torch

    from snt_core.data import picture

    images: list[Tensor] = []
    for name in found.files:
        try:
            image = picture.read(found.folder / name)
        except UserError as error:
            raise UserError(f"{error}; mend that file, or move it out of the folder") from error
        try:
            made = transform(image)
        except Exception as error:  # whatever a user's own transform does
            raise UserError(f"the transform fails on {name}: {error}") from error
        if not isinstance(made, torch.Tensor) or (images and made.shape != images[0].shape):
            shape = tuple(made.shape) if isinstance(made, torch.Tensor) else type(made).__name__
            raise UserError(f"the transform makes {shape} of {name}; it must make equal tensors")
        images.append(made)
    return torch.stack(images)


def usual(size: int = 224) -> Callable[[Any], Any]:
    """Return the transform that most ImageNet nets want: a middle of `size`, ImageNet's mean."""
    import numpy as np
    import torch

    from snt_core.data.facts import FACTS
    from snt_core.data.imagenet import centre_crop

    mean, std = (torch.tensor(getattr(FACTS["imagenet"], k)).view(3, 1, 1) for k in ("mean", "std"))

    def transform(image: Any) -> Tensor:
        pixels = torch.from_numpy(np.array(centre_crop(image, size))).permute(2, 0, 1)
        return (pixels.float() / 255 - mean) / std

    return transform
