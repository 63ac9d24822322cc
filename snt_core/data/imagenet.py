"""ImageNet-1k (ILSVRC-2012) read from its JPEG files, decoded when they are needed.

Looked for as `SNT_DATA_DIR/imagenet/{train,val}/<WordNet id>/*.JPEG`, any part of it: folders
decide the labels, so some classes, some images, or `val` alone are a data set too. `val` is the
test set; validation images are a part of `train`.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.utils import data as torch_data

from snt_core.common.errors import UserError, unknown
from snt_core.data import picture
from snt_core.data.split import Draw, Split

# those that torchvision's ImageFolder reads, in capitals too
SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
DECODED_AT_ONCE = 64  # images that one worker decodes, where the caller names no number
# share of the area, width : height, and tries before the middle is taken
AREA, RATIO, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10  # as Szegedy et al., 2015, arXiv:1409.4842

Key = tuple[int, ...] | None  # random stream of an image's crop; None for the centre
Order = list[tuple[int, Key]]  # rows of one batch


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """Images in files, `labels` int64 `N`; as `snt_core.data.split.Split`, without `images`.

    Args:
        folder: what `names`, relative paths as a numpy array of bytes, are relative to.
        size: height and width that images are given.
        workers: processes that decode; 0 decodes in this one. Changes nothing but speed.
        device: where batches go.
    """

    folder: Path
    names: np.ndarray
    labels: Tensor
    size: int
    workers: int
    device: str = "cpu"

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: slice) -> Streamed:
        return replace(self, names=self.names[rows], labels=self.labels[rows])

    def to(self, device: str) -> Streamed:
        """Return the same images, whose batches go to `device`; labels go there at once."""
        return replace(self, labels=self.labels.to(device), device=device)

    def tensors(self, n: int) -> Split:
        """Return the first `n` images (or all, if there are fewer) in memory.

        Raises UserError if there is none.
        """
        parts = list(self[:n].batches(DECODED_AT_ONCE))
        if not parts:
            raise UserError(f"{self.folder} holds no images, and {n} are asked for")
        images = torch.cat([part.images for part in parts])
        return Split(images, torch.cat([part.labels for part in parts]))

    def batches(self, size: int) -> Iterator[Split]:
        """Yield all images in order, the middle of each, the last batch as small as it is."""
        starts = range(0, len(self), size)
        orders = (range(start, min(start + size, len(self))) for start in starts)
        return self._decoded([(row, None) for row in order] for order in orders)

    def drawn(
        self, draws: Iterable[Draw], name: str, seed: int, share: slice = slice(None)
    ) -> Iterator[Split]:
        """Yield for each draw this rank's `share` of its batch, cropped as `name` says.

        A crop is a function of (seed, epoch, row) alone. Raises UserError for another `name`.
        """
        if name not in ("random-resized-crop", "none"):
            allowed = ("random-resized-crop", "none")
            raise unknown("augmentation of streamed images", name, allowed)

        def key(draw: Draw, row: int) -> Key:
            # 1: the purpose, as in `Split.drawn`; 0 is the order of the images (`training.fit`)
            return None if name == "none" else (seed, 1, draw.epoch, row)

        return self._decoded(
            [(row, key(draw, row)) for row in draw.rows[share].tolist()] for draw in draws
        )

    def _decoded(self, orders: Iterable[Order]) -> Iterator[Split]:
        on_gpu = torch.device(self.device).type == "cuda"
        loader: torch_data.DataLoader = torch_data.DataLoader(
            _Decoder(self.folder, self.names, self.size),
            sampler=orders,  # one "sample" is a batch
            batch_size=None,
            num_workers=self.workers,
            pin_memory=on_gpu,
            generator=Generator(),  # or it would draw from torch's own stream
        )
        for found in _ended_with_reason(loader):
            if isinstance(found, UserError):
                raise found
            rows, images = found
            images = images.to(self.device, non_blocking=on_gpu)
            yield Split(images, self.labels[rows.to(self.labels.device)])


@dataclass(frozen=True)
class _Decoder(torch_data.Dataset):
    """Names and size, which a worker process holds: no tensor, so that no CUDA gets there."""

    folder: Path
    names: np.ndarray
    size: int

    def __getitem__(self, order: Order) -> tuple[Tensor, Tensor] | UserError:
        # An error is handed on, not raised: torch would wrap a worker's in its traceback. It goes
        # without its own, which dask sends along, and whose frames would keep the workers alive.
        try:
            images = [torch.from_numpy(self._decode(row, key)) for row, key in order]
        except UserError as error:
            return UserError(str(error))
        return torch.tensor([row for row, _ in order]), torch.stack(images)

    def _decode(self, row: int, key: Key) -> np.ndarray:
        image = picture.read(self.folder / os.fsdecode(self.names[row]))
        return np.array(
            centre_crop(image, self.size)
            if key is None
            else random_resized_crop(image, self.size, np.random.default_rng(key))
        )


def _ended_with_reason(loader: Iterable[Any]) -> Iterator[Any]:
    """Yield what `loader` does; that a worker was killed is a UserError."""
    try:
        yield from loader
    except (RuntimeError, ConnectionError, EOFError) as error:
        # while a batch is on its way, its pipe breaks before torch sees that the worker has ended
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"a process that decodes images ended ({said}); free memory or space in /dev/shm"
        ) from error


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """Return the middle `size` x `size`, once the shorter side is 8/7 of that (224 of 256)."""
    short = round(size * 8 / 7)
    w, h = (side * short // min(image.size) for side in image.size)
    image = image.resize((w, h), Image.Resampling.BILINEAR)
    left, top = round((w - size) / 2), round((h - size) / 2)
    return image.crop((left, top, left + size, top + size))


def random_resized_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Return a part of random area and shape, made `size` x `size`, mirrored half the time."""
    left, top, w, h = random_box(*image.size, rng)
    image = image.crop((left, top, left + w, top + h))
    image = image.resize((size, size), Image.Resampling.BILINEAR)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def random_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw left, top, width and height of a part of 8 to 100 % of the area, 3:4 to 4:3 in shape.

    Of an image so long that no try fits, the middle.
    """
    for _ in range(TRIES):
        area = width * height * rng.uniform(*AREA)
        # the logarithm is uniform, so that 3:4 is as likely as 4:3
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.integers(width - w + 1), rng.integers(height - h + 1)
            return int(left), int(top), w, h
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return (width - w) // 2, (height - h) // 2, w, h


def read(root: Path, size: int) -> tuple[Streamed, Streamed, str]:
    """Return `train` (empty if there is no such folder), `val`, and the digest of both.

    Images are ordered by the hash of their path, which mixes the classes. The digest is of the
    sorted paths and file sizes: it names a copy without reading it.

    Raises:
        UserError: no `val` folder, no images in it, or a folder that is no class.
    """
    classes = _classes()
    digest = hashlib.sha256()
    parts = []
    for part in ("train", "val"):
        files = _files(root / part, classes)
        for name, length in sorted(files.items()):
            digest.update(os.fsencode(f"{part}/{name} {length}\n"))
        names = sorted(files, key=lambda name: hashlib.blake2b(os.fsencode(name)).digest())
        labels = [classes[name.partition("/")[0]] for name in names]
        parts.append(
            Streamed(
                folder=root / part,
                # an array, which forked workers share: a look at a list writes reference counts,
                # and copies it page by page
                names=np.array([os.fsencode(name) for name in names], dtype=bytes),
                labels=torch.tensor(labels, dtype=torch.int64),
                size=size,
                workers=_cores(),
            )
        )
    train, test = parts
    if not len(test):
        raise UserError(
            f"no images {root / 'val'}/<WordNet id>/*.JPEG, such as in val/n01440764: "
            f"SNT_DATA_DIR must name the folder that holds imagenet/val (and imagenet/train)"
        )
    return train, test, digest.hexdigest()[:16]


def _classes() -> dict[str, int]:
    """Return ILSVRC-2012's index of each WordNet id."""
    from snt_core.common.vision import torchvision

    torchvision()
    from timm.data import ImageNetInfo

    return {name: index for index, name in enumerate(ImageNetInfo().label_names())}


def _files(folder: Path, classes: dict[str, int]) -> dict[str, int]:
    """Return the sizes in bytes of the images in `folder`, by their path in it; {} without it."""
    found: dict[str, int] = {}
    if not folder.is_dir():
        return found
    for place in os.scandir(folder):
        if not os.path.isdir(place.path):
            if place.name in classes:
                raise UserError(f"{place.path} is no folder; mend or remove it")
            continue
        if place.name not in classes:
            raise UserError(
                f"{place.path} is no ImageNet class: folders are named by the WordNet ids of "
                f"ILSVRC-2012, such as n01440764"
            )
        for file in os.scandir(place.path):
            if Path(file.name).suffix.lower() in SUFFIXES:
                found[f"{place.name}/{file.name}"] = _length(file)
    return found


def _length(file: os.DirEntry[str]) -> int:
    """Return the size of a file in bytes; a UserError for what is none, such as a folder."""
    try:
        about = file.stat()
    except OSError as error:
        if not file.is_symlink():
            raise
        raise UserError(f"{file.path} is a link that leads nowhere; mend or remove it") from error
    if not stat.S_ISREG(about.st_mode):
        raise UserError(f"{file.path} is called an image and is no file; mend or remove it")
    return about.st_size


def _cores() -> int:
    """Return how many cores this process may use, shared among the ranks of torchrun."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
