"""CIFAR-10 and CIFAR-100 from any of three layouts.

1. The Hugging Face Hub's parquet: `cifar10/train-*.parquet`, `cifar10/test-*.parquet`.
2. torchvision's folders: `cifar-10-batches-py`, `cifar-100-python`.
3. Neither there: torchvision's download of 2.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import socket
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from snt_core.common.errors import UserError
from snt_core.data.facts import FACTS

if TYPE_CHECKING:
    import pyarrow as pa

Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Layout:
    """File names, label columns and MD5 sums as the data set's authors published them."""

    parquet_label: str
    folder: str
    pickle_label: str
    archive: str
    archive_md5: str
    train: dict[str, str]
    test: dict[str, str]


LAYOUTS = {
    "cifar10": Layout(
        parquet_label="label",
        folder="cifar-10-batches-py",
        pickle_label="labels",
        archive="cifar-10-python.tar.gz",
        archive_md5="c58f30108f718f92721af3b95e74349a",
        train={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
    ),
    "cifar100": Layout(
        parquet_label="fine_label",
        folder="cifar-100-python",
        pickle_label="fine_labels",
        archive="cifar-100-python.tar.gz",
        archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    ),
}
ARCHIVES = "https://www.cs.toronto.edu/~kriz/"


def read(name: str, root: Path) -> dict[str, Arrays]:
    """Return `{"train": (images, labels), "test": ...}` from `root`, images uint8 `N 32 32 3`.

    Raises UserError, naming the three ways to provide the files, when none works.
    """
    layout = LAYOUTS[name]
    if list((root / name).glob("train-*.parquet")):
        return {part: _parquet(root / name, part, layout) for part in ("train", "test")}
    if not (root / layout.folder).is_dir():
        _download(name, layout, root)
    folder = root / layout.folder
    return {part: _pickles(folder, getattr(layout, part), layout) for part in ("train", "test")}


def inspect(name: str, root: Path) -> None:
    """Raise UserError where `read` would fail, as far as a glance tells: no image is decoded.

    Of parquet the columns and the number of rows are looked at, of the originals the MD5 sums;
    where neither is there, whether the archive can be reached.
    """
    layout = LAYOUTS[name]
    if list((root / name).glob("train-*.parquet")):
        parts = {part: _files(root / name, part) for part in ("train", "test")}
        for part, files in parts.items():
            rows = sum(_rows(file, layout) for file in files)
            if rows != (expected := getattr(FACTS[name], part)):
                raise UserError(
                    f"{root / name}/{part}-*.parquet hold {rows} images; expected {expected}: "
                    f"fetch the files again"
                )
    elif (root / layout.folder).is_dir():
        for file, md5 in (layout.train | layout.test).items():
            _original(root / layout.folder / file, md5)
    else:
        request = urllib.request.Request(ARCHIVES + layout.archive, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=5):
                pass
        except OSError as error:
            raise _missing(name, layout, root, error) from error


def _decode(content: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def _files(folder: Path, part: str) -> list[Path]:
    files = sorted(folder.glob(f"{part}-*.parquet"))
    if not files:
        raise UserError(f"{folder} has no {part}-*.parquet; put the data set's other files there")
    for file in files:
        if not file.is_file():
            raise UserError(f"{file} is no file; fetch it again")
    return files


def _rows(file: Path, layout: Layout) -> int:
    """Return how many images a parquet file holds, by its footer."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            _check_columns(file, opened.schema_arrow, layout)
            return int(opened.metadata.num_rows)
    except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
        raise _unreadable(file, error) from error


def _check_columns(file: Path, schema: pa.Schema, layout: Layout) -> None:
    """Raise UserError unless there are images as the Hub stores them, and labels."""
    import pyarrow as pa

    def kind(column: str) -> Any:
        return schema.field(column).type if column in schema.names else None

    image, label = kind("img"), kind(layout.parquet_label)
    if not (image and pa.types.is_struct(image) and image.get_field_index("bytes") >= 0):
        raise UserError(
            f"{file} has no column 'img' of structs with 'bytes' (columns: "
            f"{', '.join(schema.names) or 'none'}); fetch the Hugging Face Hub's own files"
        )
    if not (label and pa.types.is_integer(label)):
        raise UserError(
            f"{file} has no column '{layout.parquet_label}' of whole numbers (columns: "
            f"{', '.join(schema.names)}); fetch the Hugging Face Hub's own files"
        )


def _unreadable(file: Path, error: Exception) -> UserError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return UserError(f"{file} cannot be read ({reason}); fetch it again")


def _parquet(folder: Path, part: str, layout: Layout) -> Arrays:
    import pyarrow.parquet as pq

    images, labels = [], []
    for file in _files(folder, part):
        _rows(file, layout)
        try:
            table = pq.read_table(file, columns=["img", layout.parquet_label])
            column = table.column("img").combine_chunks().field("bytes").to_pylist()
            with ThreadPoolExecutor() as pool:
                images.append(np.stack(list(pool.map(_decode, column, chunksize=1024))))
            labels.append(table.column(layout.parquet_label).to_numpy())
        except Exception as error:  # whatever a decoder makes of bytes that are no image
            raise _unreadable(file, error) from error
    try:
        return np.concatenate(images), np.concatenate(labels)
    except ValueError as error:
        raise UserError(f"{folder} holds images of several sizes; fetch it again") from error


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that builds NumPy arrays out of plain values and refuses everything else."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.ALLOWED:
            return super().find_class(module, name)
        raise UserError(f"a CIFAR pickle asks for {module}.{name}; it is not one of the originals")


def _pickles(folder: Path, files: dict[str, str], layout: Layout) -> Arrays:
    images, labels = [], []
    for file, md5 in files.items():
        content = _original(folder / file, md5)
        batch = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
        # a row holds the red, the green and the blue map of an image, one after the other
        images.append(np.asarray(batch["data"]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(np.asarray(batch[layout.pickle_label]))
    return np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels)


def _original(path: Path, md5: str) -> bytes:
    """Return the content of an original file. Raises UserError if it is another."""
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise UserError(f"{path} is missing or not the original (MD5 differs); fetch it again")
    return content


def _download(name: str, layout: Layout, root: Path) -> None:
    from snt_core.common.vision import torchvision

    tv = torchvision()
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Unpacked aside and moved when whole, so that a kill leaves no half of a data set.
        with tempfile.TemporaryDirectory(dir=root) as aside:
            tv.datasets.utils.download_and_extract_archive(
                ARCHIVES + layout.archive, aside, md5=layout.archive_md5
            )
            (Path(aside) / layout.folder).rename(root / layout.folder)
    except (OSError, RuntimeError) as error:
        raise _missing(name, layout, root, error) from error
    finally:
        socket.setdefaulttimeout(before)


def _missing(name: str, layout: Layout, root: Path, error: Exception) -> UserError:
    reason = (str(getattr(error, "reason", error)) or type(error).__name__).splitlines()[0]
    return UserError(
        f"{name} is not in {root} and its download failed ({reason}); set SNT_DATA_DIR to a "
        f"folder with {name}/train-*.parquet (Hugging Face layout) or {layout.folder}/ "
        f"(torchvision's), or connect to the network to have it downloaded"
    )
