"""Data sets as uint8 tensors in one canonical order, split into train, validation and test.

Images are ordered by the hash of their pixels, so that the split and every sample drawn from it
are the same whatever file layout they came from.
"""

from __future__ import annotations

import fcntl
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from snt_core.errors import UserError, unknown
from snt_core.facts import FACTS, Facts
from snt_core.files import atomic_write, cache_dir, data_dir


@dataclass(frozen=True)
class Split:
    """`images` uint8 `N H W C`, `labels` int64 `N`."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice) -> Split:
        return Split(self.images[rows], self.labels[rows])

    def to(self, device: str) -> Split:
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """`digest` names the exact pixels and labels, whatever files they came from."""

    name: str
    train: Split
    val: Split
    test: Split
    facts: Facts
    digest: str

    def to(self, device: str) -> Dataset:
        train, val, test = (part.to(device) for part in (self.train, self.val, self.test))
        return Dataset(self.name, train, val, test, self.facts, self.digest)


def load(name: str, val_size: int) -> Dataset:
    """The data set with its first `val_size` training images set apart for validation.

    CIFAR is read from `SNT_DATA_DIR` (see `snt_core.cifar`) once and from a decoded cache
    after that. Raises UserError when it is missing or is not what `FACTS` says.
    """
    if name not in FACTS:
        raise unknown("data set", name, FACTS)
    facts = FACTS[name]
    if not 0 < val_size < facts.train:
        raise UserError(f"val_size is {val_size}; {name} allows 1 to {facts.train - 1}")
    train, test, digest = _digits() if name == "digits" else _cached(name)
    return Dataset(name, train[val_size:], train[:val_size], test, facts, digest)


def normalise(images: Tensor, facts: Facts) -> Tensor:
    """uint8 `B H W C` to float `B C H W` (channels last in memory), standardised per channel."""
    mean = torch.tensor(facts.mean, device=images.device) * 255
    std = torch.tensor(facts.std, device=images.device) * 255
    return ((images - mean) / std).permute(0, 3, 1, 2)


def crop_flip(images: Tensor, generator: Generator, pad: int = 4) -> Tensor:
    """Random crop after zero padding, and a left-right flip of every other image on average.

    uint8 `B H W C` in and out, the whole batch at once on its device.
    """
    b, h, w, _ = images.shape
    device = images.device

    def draw(high: int) -> Tensor:
        return torch.randint(high, (b, 1), generator=generator, device=device)

    rows = draw(2 * pad + 1) + torch.arange(h, device=device)
    cols = draw(2 * pad + 1) + torch.arange(w, device=device)
    cols = torch.where(draw(2) == 1, cols.flip(1), cols)
    padded = F.pad(images, (0, 0, pad, pad, pad, pad))
    batch = torch.arange(b, device=device)[:, None, None]
    return padded[batch, rows[:, :, None], cols[:, None, :]]


def canonical_order(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Indices that sort images by the hash of pixels and label."""
    keys = [
        hashlib.blake2b(image.tobytes() + int(label).to_bytes(2, "big"), digest_size=16).digest()
        for image, label in zip(images, labels, strict=True)
    ]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__))


def check(name: str, images: np.ndarray, labels: np.ndarray, part: str) -> None:
    """Raise UserError unless counts, shape, classes and (for train) channel means are right."""
    facts = FACTS[name]
    count = getattr(facts, part)
    if images.shape != (count, 32, 32, 3) or images.dtype != np.uint8:
        raise UserError(
            f"{name} {part} images are {images.dtype} {images.shape}; expected uint8 "
            f"{(count, 32, 32, 3)}: fetch the files again"
        )
    found = np.unique(labels)
    if len(labels) != count or not np.array_equal(found, np.arange(facts.num_classes)):
        raise UserError(
            f"{name} {part} has {len(labels)} labels of {len(found)} classes; expected {count} "
            f"of {facts.num_classes}: fetch the files again"
        )
    if part == "train":
        mean = images.mean(axis=(0, 1, 2)) / 255
        if np.abs(mean - facts.mean).max() > 5e-4:
            raise UserError(
                f"{name} channel means are {mean.round(4).tolist()}; expected "
                f"{list(facts.mean)}: these are not its pixels, fetch the files again"
            )


Parts = tuple[Split, Split, str]


def _finish(name: str, parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> Parts:
    """Check, order canonically, and name the content."""
    digest = hashlib.sha256()
    splits = []
    for part in ("train", "test"):
        images, labels = parts[part]
        check(name, images, labels, part)
        order = canonical_order(images, labels)
        images, labels = images[order], labels[order].astype(np.int64)
        digest.update(images.tobytes() + labels.tobytes())
        splits.append(Split(torch.from_numpy(images), torch.from_numpy(labels)))
    return splits[0], splits[1], digest.hexdigest()[:16]


def _digits() -> Parts:
    """scikit-learn's 8x8 digits, each pixel grown to 4x4 and repeated in three channels."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    grey = np.rint(raw.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey.repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=3)
    order = canonical_order(images, raw.target)
    images, labels = images[order], raw.target[order]
    test = FACTS["digits"].test
    parts = {"test": (images[:test], labels[:test]), "train": (images[test:], labels[test:])}
    return _finish("digits", parts)


def _cached(name: str) -> Parts:
    path = cache_dir() / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    # One process downloads and decodes; the others wait for it and then read.
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _read_cache(name, path) or _decode(name, path)


def _read_cache(name: str, path: Path) -> Parts | None:
    """What lies in the cache; None if it is absent, cut short or foreign."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            parts = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        train = Split(parts["train_images"], parts["train_labels"])
        test = Split(parts["test_images"], parts["test_labels"])
        check(name, train.images.numpy(), train.labels.numpy(), "train")
        check(name, test.images.numpy(), test.labels.numpy(), "test")
        return train, test, meta["digest"]
    except (FileNotFoundError, SafetensorError, KeyError, UserError):
        return None


def _decode(name: str, path: Path) -> Parts:
    from safetensors.torch import save

    from snt_core import cifar

    train, test, digest = _finish(name, cifar.read(name, data_dir()))
    tensors = {
        "train_images": train.images,
        "train_labels": train.labels,
        "test_images": test.images,
        "test_labels": test.labels,
    }
    atomic_write(path, save(tensors, metadata={"digest": digest}))
    return train, test, digest
