"""Images from anywhere: read as PIL and torchvision read them, or named in one line."""

from __future__ import annotations

import dataclasses
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snt_core.common.errors import UserError
from snt_core.common.vision import torchvision
from snt_core.data import imagenet, picture
from snt_core.data import load as data
from snt_core.data.facts import FACTS

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (40, 50, 1), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (40, 50)).astype(np.uint16)
RGB = Image.fromarray(COLOURS)
RGBA = Image.fromarray(np.concatenate([COLOURS, ALPHA], axis=2))


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # held by its side
    return exif


def saved(image: Image.Image, format: str, **options) -> bytes:
    content = io.BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


def palette() -> bytes:
    return saved(RGB.convert("P", palette=Image.Palette.ADAPTIVE), "PNG", transparency=3)


READ: dict[str, Callable[[], bytes]] = {
    "colour.JPEG": lambda: saved(RGB, "JPEG"),
    "grey.JpG": lambda: saved(RGB.convert("L"), "JPEG"),
    "one_bit.png": lambda: saved(RGB.convert("1"), "PNG"),
    "palette.png": palette,
    "cmyk.JPEG": lambda: saved(RGB.convert("CMYK"), "JPEG"),
    "transparent.PNG": lambda: saved(RGBA, "PNG"),
    "grey_transparent.png": lambda: saved(RGBA.convert("LA"), "PNG"),
    "moving.JPEG": lambda: saved(RGB, "GIF", save_all=True, append_images=[RGB.rotate(90)]),
    "turned.jpeg": lambda: saved(RGB, "JPEG", exif=turned()),
    "png_called.JPEG": lambda: saved(RGB, "PNG"),
    "bitmap.BMP": lambda: saved(RGB, "BMP"),
    "a.tiff": lambda: saved(RGB, "TIFF"),
    "a.webp": lambda: saved(RGB, "WEBP", lossless=True),
    "a.ppm": lambda: saved(RGB, "PPM"),
    "dot.png": lambda: saved(Image.new("RGB", (1, 1), "red"), "PNG"),
}


def put(folder: Path, name: str, content: bytes) -> Path:
    file = folder / name
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("name", READ)
def test_an_image_is_read_as_torchvision_reads_it(tmp_path, name):
    file = put(tmp_path, name, READ[name]())
    found = picture.read(file)
    assert found.mode == "RGB"
    torchvision()
    from torchvision.datasets.folder import pil_loader

    assert np.array_equal(np.array(found), np.array(pil_loader(str(file))))


def test_every_suffix_that_torchvision_knows_is_one():
    torchvision()
    from torchvision.datasets.folder import IMG_EXTENSIONS

    assert set(IMG_EXTENSIONS) == imagenet.SUFFIXES


def png(depth: int, kind: int, rows: np.ndarray) -> bytes:
    """A PNG written by hand, for the 16-bit colour that PIL cannot write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    height, width = rows.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_of_grey_are_those_of_colour(tmp_path, format):
    """PIL takes the upper half of 16-bit colour, as torchvision does, but cuts grey at 255."""
    grey = put(tmp_path, "grey.png", saved(Image.fromarray(DEEP), format))
    colour = put(tmp_path, "colour.png", png(16, 2, np.repeat(DEEP[..., None], 3, axis=2)))
    with Image.open(colour) as file:
        theirs = np.array(file.convert("RGB"))
    assert np.array_equal(np.array(picture.read(grey)), theirs)
    torchvision()
    from torchvision.transforms.v2.functional import to_dtype

    scaled = to_dtype(torch.from_numpy(DEEP), torch.uint8, scale=True).numpy()
    assert np.array_equal(np.array(picture.read(grey))[..., 0], scaled)


def bomb() -> bytes:
    return saved(Image.new("1", (20_000, 10_000)), "PNG")


JPEG = saved(RGB, "JPEG")
PNG = saved(RGB, "PNG")
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut.JPEG": (lambda: JPEG[:-300], "is not a readable image"),
    "head_alone.JPEG": (lambda: JPEG[:100], "is not a readable image"),
    "cut.png": (lambda: PNG[:200], "is not a readable image"),
    "flipped.png": (lambda: PNG[:60] + b"\xff\xff" + PNG[62:], "is not a readable image"),
    "empty.JPEG": (lambda: b"", "is not a readable image"),
    "text.JPEG": (lambda: b"some words\nin two lines\n", "is not a readable image"),
    "line\nbreak.JPEG": (lambda: b"", r"line\\nbreak.JPEG' is not a readable image"),
    "bomb.png": (bomb, "too many pixels: 178,956,970 are read at most"),
    "float.tiff": (
        lambda: saved(Image.fromarray(DEEP.astype(np.float32)), "TIFF"),
        "pixels of 32 bits",
    ),
    "deep.tiff": (lambda: saved(Image.fromarray(DEEP.astype(np.int32)), "TIFF"), "of 32 bits"),
    "long.png": (
        lambda: saved(Image.new("RGB", (60_000, 2)), "PNG"),
        "60000 x 2 pixels; one side may be 2,000 times",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_named_in_one_line(tmp_path, name):
    content, says = REFUSED[name]
    with pytest.raises(UserError, match=says) as error:
        picture.read(put(tmp_path, name, content()))
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


# a data set of such files --------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The folder of one class, in a data set of 32 pixels."""
    monkeypatch.setenv("SNT_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(imagenet, "_cores", lambda: 0)
    facts = dataclasses.replace(FACTS["imagenet"], size=32)
    monkeypatch.setitem(FACTS, "imagenet", facts)
    folder = tmp_path / "imagenet" / "val" / "n01440764"
    folder.mkdir(parents=True)
    return folder


def test_all_that_can_be_read_counts(place):
    for name, content in READ.items():
        put(place, name, content())
    split = data.load("imagenet", 0).test
    assert len(split) == len(READ)
    assert split.tensors(len(READ)).images.shape == (len(READ), 32, 32, 3)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["cut.JPEG", "bomb.png", "UserError: text.JPEG", "float.tiff"])
def test_a_worker_says_what_this_process_would(place, name, workers):
    content, says = REFUSED[name.removeprefix("UserError: ")]
    file = put(place, name, content())
    split = dataclasses.replace(data.load("imagenet", 0).test, workers=workers)
    with pytest.raises(UserError, match=says) as error:
        split.tensors(1)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda place: (place / "a.JPEG").mkdir(),
        lambda place: (place / "a.JPEG").symlink_to("nowhere"),
        lambda place: (place / "a.JPEG").symlink_to("a.JPEG"),
        lambda place: os.mkfifo(place / "a.JPEG"),
    ],
    ids=["folder", "dangling", "circle", "pipe"],
)
def test_what_is_no_file_is_named_before_anything_is_read(place, make):
    make(place)
    with pytest.raises(UserError, match=r"n01440764/a\.JPEG is (called an image|a link that)"):
        data.load("imagenet", 0)


def test_a_class_that_is_no_folder_is_named(place):
    (place.parent / "n01443537").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"val/n01443537 is no folder"):
        data.load("imagenet", 0)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. \nIt may be memory."),
        ConnectionResetError(104, "Connection reset by peer"),
        EOFError(),
    ],
)
def test_that_a_worker_was_killed_is_one_line(error):
    """Told as torch tells it: one that is killed here leaves its alarm to the other tests."""

    def loader():
        yield 1
        raise error

    batches = imagenet._ended_with_reason(loader())
    assert next(batches) == 1
    with pytest.raises(UserError, match="process that decodes images ended") as caught:
        next(batches)
    assert "\n" not in str(caught.value)


def test_other_errors_of_a_loader_are_not_taken_for_that():
    def loader():
        raise RuntimeError("shapes do not fit")
        yield

    with pytest.raises(RuntimeError, match="do not fit"):
        list(imagenet._ended_with_reason(loader()))
