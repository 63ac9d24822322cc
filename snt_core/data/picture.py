"""One image file of anybody's, as eight-bit RGB or as an error that names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from snt_core.common.errors import UserError

# times that an image may be as long as it is wide: scaled to 256 pixels, it would be as large as
# the largest that is opened at all
LONG = 2_000


def read(path: Path) -> Image.Image:
    """Return an image in mode RGB; of several in a file, the first.

    Converted as PIL and torchvision convert: transparency is dropped, and a note in the file that
    says how the camera was held changes nothing. Of 16-bit grey the upper eight bits are taken, as
    PIL does of 16-bit colour; it would cut all that is brighter than 255.

    Raises:
        UserError: it is no image, is cut short or damaged, has too many pixels, or has pixels whose
            range is not known (32 bits, floating point).
    """
    try:
        with Image.open(path) as file:
            _require_reasonable(path, file)
            if _is_deep_grey(file):
                return Image.fromarray((np.asarray(file) >> 8).astype(np.uint8)).convert("RGB")
            return file.convert("RGB")
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(
            f"{_named(path)} has too many pixels: {limit:,} are read at most; scale it down"
        ) from error
    except Exception as error:  # whatever odd bytes lead a decoder to
        said = " ".join((str(error) or type(error).__name__).split())
        raise UserError(f"{_named(path)} is not a readable image ({said})") from error


def _require_reasonable(path: Path, file: Image.Image) -> None:
    if file.mode in ("I", "F") and not _is_deep_grey(file):
        raise UserError(
            f"{_named(path)} has pixels of 32 bits, whose range is not known; save it with 8 or 16"
        )
    if max(file.size) > LONG * min(file.size):
        width, height = file.size
        raise UserError(
            f"{_named(path)} is {width} x {height} pixels; one side may be {LONG:,} times the "
            f"other at most; cut it"
        )


def _is_deep_grey(file: Image.Image) -> bool:
    # Pillow before 11 calls the 16-bit grey of a PNG "I"
    return file.mode.startswith("I;16") or (file.mode == "I" and file.format == "PNG")


def _named(path: Path) -> str:
    """Return a path on one line, whatever it is called."""
    name = str(path)
    return name if name.isprintable() else repr(name)
