"""Data sets as uint8 images in one canonical order, split into train, validation and test.

Images are ordered by the hash of their pixels (streamed ones by that of their path), so that the
split and every sample drawn from it are the same whatever file layout they came from.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from snt_core.common.errors import UserError, unknown
from snt_core.common.files import atomic_write, cache_dir, data_dir
from snt_core.common.locks import awaited_lock
from snt_core.common.quarantine import is_file, set_aside
from snt_core.data import digits
from snt_core.data.facts import FACTS
from snt_core.data.split import Dataset, Images, Split


def load(name: str, val_size: int) -> Dataset:
    """Return the data set with its first `val_size` training images set apart for validation.

    CIFAR is read from `SNT_DATA_DIR` (see `snt_core.data.cifar`) once and from a decoded cache
    after that; ImageNet stays on disk (see `snt_core.data.imagenet`), and a copy without training
    images has empty `train` and `val`. Raises UserError when a data set is missing or is not what
    `FACTS` says.
    """
    if name not in FACTS:
        raise unknown("data set", name, FACTS)
    train, test, digest = _parts(name)
    least = 0 if name == "imagenet" else 1  # checkpoints are not trained and need no validation
    if len(train) and not least <= val_size < len(train):
        raise UserError(f"val_size is {val_size}; {name} allows {least} to {len(train) - 1}")
    return Dataset(name, train[val_size:], train[:val_size], test, FACTS[name], digest)


def _parts(name: str) -> tuple[Images, Images, str]:
    """Return all training images, the test images, and the digest of both."""
    if name in ("digits", "few-digits"):
        return _digits(name)
    if name == "imagenet":
        from snt_core.data import imagenet

        return imagenet.read(data_dir() / name, FACTS[name].size)
    return _cached(name)


def canonical_order(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the indices that sort images by the hash of pixels and label."""
    keys = [
        hashlib.blake2b(image.tobytes() + int(label).to_bytes(2, "big"), digest_size=16).digest()
        for image, label in zip(images, labels, strict=True)
    ]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__))


def check(name: str, images: np.ndarray, labels: np.ndarray, part: str) -> None:
    """Raise UserError unless counts, shape, classes and (for train) channel means are right."""
    facts = FACTS[name]
    count = getattr(facts, part)
    shape = (count, facts.size, facts.size, 3)
    if images.shape != shape or images.dtype != np.uint8:
        raise UserError(
            f"{name} {part} images are {images.dtype} {images.shape}; expected uint8 {shape}: "
            f"fetch the files again"
        )
    found = np.unique(labels)
    if len(labels) != count or not np.array_equal(found, np.arange(facts.num_classes)):
        raise UserError(
            f"{name} {part} has {len(labels)} labels of {len(found)} classes; expected {count} "
            f"of {facts.num_classes}: fetch the files again"
        )
    if part == "train":
        mean = images.mean(axis=(0, 1, 2)) / 255
        # wider than the rounding of `FACTS`; channels in another order miss by far more
        if np.abs(mean - facts.mean).max() > 5e-4:
            raise UserError(
                f"{name} channel means are {mean.round(4).tolist()}; expected "
                f"{list(facts.mean)}: these are not its pixels, fetch the files again"
            )


Parts = tuple[Split, Split, str]


def _finish(name: str, parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> Parts:
    """Return train and test, checked and in canonical order, and the digest of their content."""
    splits = []
    for part in ("train", "test"):
        images, labels = parts[part]
        check(name, images, labels, part)
        order = canonical_order(images, labels)
        images, labels = images[order], labels[order].astype(np.int64)
        splits.append(Split(torch.from_numpy(images), torch.from_numpy(labels)))
    return splits[0], splits[1], _digest(*splits)


def _digest(*splits: Split) -> str:
    """Return 16 hex digits of the SHA-256 of all pixels and labels."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(split.images.contiguous().numpy().data)
        digest.update(split.labels.contiguous().numpy().data)
    return digest.hexdigest()[:16]


def _digits(name: str) -> Parts:
    """Return scikit-learn's 8x8 digits, each pixel grown to 4x4 and repeated in three channels.

    The first in canonical order are the test images and the next ones train, as many as `FACTS`
    says.
    """
    small, labels = digits.raw()
    # values are 0 to 16
    grey = np.rint(small * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey.repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=3)
    order = canonical_order(images, labels)
    images, labels = images[order], labels[order]
    test, end = FACTS[name].test, FACTS[name].test + FACTS[name].train
    parts = {"test": (images[:test], labels[:test]), "train": (images[test:end], labels[test:end])}
    return _finish(name, parts)


def _cached(name: str) -> Parts:
    path = cache_dir() / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    # One process downloads and decodes; the others wait for it and then read.
    with awaited_lock(path.with_suffix(".lock")):
        if is_file(path, path.parent, f"{name} is decoded again"):
            try:
                return _read_cache(name, path)
            except Exception as error:  # whatever a file that is not what was written leads to
                reason = (str(error) or type(error).__name__).splitlines()[0]
                set_aside(path, path.parent, reason, f"{name} is decoded again")
        return _decode(name, path)


def _read_cache(name: str, path: Path) -> Parts:
    """Return what lies in the cache. Raises an error of any kind unless it is what was decoded.

    The content is hashed at each start, since a time stamp would not show what changed on the disk.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        told = (file.metadata() or {})["digest"]
        parts = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    train = Split(parts["train_images"], parts["train_labels"])
    test = Split(parts["test_images"], parts["test_labels"])
    for split, part in ((train, "train"), (test, "test")):
        check(name, split.images.numpy(), split.labels.numpy(), part)
    if told != _digest(train, test):
        raise ValueError("its content does not match its digest")
    return train, test, told


def _decode(name: str, path: Path) -> Parts:
    """Return what the data set's own files hold, and put it into the cache."""
    from safetensors.torch import save

    from snt_core.data import cifar

    train, test, digest = _finish(name, cifar.read(name, data_dir()))
    tensors = {
        "train_images": train.images,
        "train_labels": train.labels,
        "test_images": test.images,
        "test_labels": test.labels,
    }
    atomic_write(path, save(tensors, metadata={"digest": digest}))
    return train, test, digest
