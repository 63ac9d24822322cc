"""Augmentation of uint8 batches `B H W C`, a whole batch at once on its device.

Randomness is a function of (seed, purpose, step), never of what ran before.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from snt_core.common.errors import unknown

LEVELS = 31  # strengths of TrivialAugment: 0 (nothing) to 30


def generator(device: str, *keys: int) -> Generator:
    """Return a random stream that belongs to `keys` alone."""
    # SeedSequence mixes the keys, so that near ones give unrelated streams. 63 bits fit int64 too.
    seed = int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return Generator(device).manual_seed(seed)


def augment(images: Tensor, name: str, generator: Generator) -> Tensor:
    """Return `images` as training sees them under the recipe's `name`; uint8 `B H W C` as before.

    Raises UserError for another name.
    """
    if name == "none":
        return images
    if name == "crop-flip":
        return crop_flip(images, generator)
    if name == "trivial-augment":
        return trivial_augment(crop_flip(images, generator), generator)
    allowed = ("crop-flip", "trivial-augment", "none")
    raise unknown("augmentation of images in memory", name, allowed)


def crop_flip(images: Tensor, generator: Generator, pad: int = 4) -> Tensor:
    """Crop each image at random after zero padding, and mirror every other one on average."""
    b, h, w, _ = images.shape
    device = images.device

    def draw(high: int) -> Tensor:
        """Return a whole number below `high` for each image, `B 1`."""
        return torch.randint(high, (b, 1), generator=generator, device=device)

    rows = draw(2 * pad + 1) + torch.arange(h, device=device)
    cols = draw(2 * pad + 1) + torch.arange(w, device=device)
    cols = torch.where(draw(2) == 1, cols.flip(1), cols)
    # One gather crops and mirrors all images: the host need not read what was drawn.
    padded = F.pad(images, (0, 0, pad, pad, pad, pad))
    batch = torch.arange(b, device=device)[:, None, None]
    return padded[batch, rows[:, :, None], cols[:, None, :]]


def trivial_augment(images: Tensor, generator: Generator) -> Tensor:
    """Apply to each image one random operation at one random strength, with one random sign.

    TrivialAugment with its wide ranges (Müller and Hutter, 2021, arXiv:2103.10158): of 14
    operations, as Pillow defines them, the one that does nothing included. Some have no sign.
    """

    def draw(high: int) -> Tensor:
        """Return a whole number below `high` for each image, `B`."""
        return torch.randint(high, (len(images),), generator=generator, device=images.device)

    which, level, sign = draw(len(OPERATIONS)), draw(LEVELS), 2 * draw(2) - 1
    out = images.clone()
    for number, operation in enumerate(OPERATIONS):
        rows = (which == number).nonzero()[:, 0]
        out[rows] = operation(images[rows], level[rows], sign[rows])
    return out


# An operation takes images `B H W C`, their levels 0..30 and signs -1 or 1 (int64 `B`). It returns
# new images of the same shape, uint8. The largest strengths (0.99, 32, 135 degrees, 2 bits) are
# those of the paper's wide ranges, in torchvision's TrivialAugmentWide as here.


def identity(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Return the images themselves."""
    return x


def shear_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Shift each row to a side by up to 0.99 times its distance from the top."""
    rows, cols = _centres(x)
    return _read(x, rows, cols + _share(level, sign, 0.99) * rows)


def shear_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Shift each column up or down by up to 0.99 times its distance from the left."""
    rows, cols = _centres(x)
    return _read(x, rows + _share(level, sign, 0.99) * cols, cols)


def translate_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Shift to a side by up to 32 whole pixels, which can leave nothing of a small image."""
    rows, cols = _centres(x)
    return _read(x, rows, cols + _share(level, sign, 32).trunc())


def translate_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Shift up or down by up to 32 whole pixels."""
    rows, cols = _centres(x)
    return _read(x, rows + _share(level, sign, 32).trunc(), cols)


def rotate(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Rotate about the centre by up to 135 degrees, counter-clockwise for sign 1."""
    rows, cols = _centres(x)
    middle_row, middle_col = x.shape[1] / 2, x.shape[2] / 2
    rows, cols = rows - middle_row, cols - middle_col
    angle = torch.deg2rad(_share(level, sign, 135))
    cos, sin = angle.cos(), angle.sin()
    return _read(x, sin * cols + cos * rows + middle_row, cos * cols - sin * rows + middle_col)


def brightness(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Move towards black or away from it."""
    return _away_from(torch.zeros_like(x), x, level, sign)


def color(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Move towards the grey image or away from it."""
    return _away_from(_grey(x), x, level, sign)


def contrast(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Move towards the image's mean grey, rounded as Pillow does, or away from it."""
    mean = _grey(x).double().mean((1, 2, 3), keepdim=True)
    return _away_from((mean + 0.5).floor(), x, level, sign)


def sharpness(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Move towards a 3x3 blur or away from it; the border stays as it is.

    The blur is Pillow's SMOOTH: weights of 1, and 5 in the middle.
    """
    smooth = x.permute(0, 3, 1, 2).float()
    inner = smooth[:, :, 1:-1, 1:-1]
    sums = F.avg_pool2d(smooth, 3, stride=1, divisor_override=1)
    inner.copy_(((sums + 4 * inner) / 13).round())
    return _away_from(smooth.permute(0, 2, 3, 1), x, level, sign)


def posterize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Keep the highest 8 to 2 bits."""
    dropped = (6 * level // (LEVELS - 1)).to(x.dtype)[:, None, None, None]
    return x >> dropped << dropped


def solarize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Invert values from a threshold on, which falls from 256 (none) to 0 (all)."""
    threshold = 256 - 256 * level // (LEVELS - 1)
    return torch.where(x >= threshold[:, None, None, None], 255 - x, x)


def auto_contrast(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Stretch each channel to 0..255; one of a single value stays."""
    low, high = x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True)
    stretched = (x - low).int() * 255 // (high - low).clamp_min(1)
    return torch.where(high > low, stretched.to(x.dtype), x)


def equalize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Even out each channel's histogram."""
    b, h, w, c = x.shape
    flat = x.permute(0, 3, 1, 2).reshape(b * c, h * w).long()
    counts = torch.zeros(b * c, 256, dtype=torch.int64, device=x.device)
    counts.scatter_add_(1, flat, torch.ones_like(flat))
    # Pillow's equalize: 255 steps over all pixels but those of the largest value, in whole numbers
    step = (h * w - counts.gather(1, flat.amax(1, keepdim=True))) // 255
    below = counts.cumsum(1) - counts
    even = ((below + step // 2) // step.clamp_min(1)).clamp_max(255)
    new = torch.where(step > 0, even.gather(1, flat), flat)
    return new.view(b, c, h, w).permute(0, 2, 3, 1).to(torch.uint8)


OPERATIONS = (
    identity,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
    rotate,
    brightness,
    color,
    contrast,
    sharpness,
    posterize,
    solarize,
    auto_contrast,
    equalize,
)


def _share(level: Tensor, sign: Tensor, most: float) -> Tensor:
    """Return the signed strength of each image, `B 1 1`: `level` 0..30 becomes 0..`most`."""
    return (sign * level * most / (LEVELS - 1))[:, None, None]


def _centres(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows `H 1` and the columns `1 W` of the pixels' centres, in pixels."""
    _, h, w, _ = x.shape
    rows, cols = torch.arange(h, device=x.device) + 0.5, torch.arange(w, device=x.device) + 0.5
    return rows[:, None], cols[None, :]


def _read(x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """Return the pixel that each place falls into, black outside; places broadcast to `B H W`."""
    b, h, w, _ = x.shape
    row, col = rows.floor().long().expand(b, h, w), cols.floor().long().expand(b, h, w)
    inside = (row >= 0) & (row < h) & (col >= 0) & (col < w)
    batch = torch.arange(b, device=x.device)[:, None, None]
    return x[batch, row.clamp(0, h - 1), col.clamp(0, w - 1)] * inside[..., None]


def _grey(x: Tensor) -> Tensor:
    """Return the luminance `B H W 1` (ITU-R 601-2), rounded."""
    weights = torch.tensor([299, 587, 114], device=x.device)
    return (x * weights).sum(-1, keepdim=True).add(500) // 1000


def _away_from(dull: Tensor, x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Return `x` moved towards `dull` (sign -1, at most 99 % of the way) or as far from it."""
    factor = 1 + _share(level, sign, 0.99)[..., None]
    return (dull + factor * (x.float() - dull)).clamp(0, 255).to(torch.uint8)
