"""Augmentation: crops and flips, and TrivialAugment's operations against Pillow's."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from snt_core.common.errors import UserError
from snt_core.data import augment

NEAREST = Image.Resampling.NEAREST


@pytest.fixture(scope="module")
def photos():
    """Smooth and noisy, dark and bright, one of one colour; uint8 6 x 24 x 20 x 3."""
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(24), np.arange(20))[..., None] * np.array([5.0, 3.0, 4.0])
    noise = rng.normal(0, 12, (5, 24, 20, 3))
    mixed = ramp * np.linspace(0.3, 1.1, 5)[:, None, None, None] + noise + 20
    flat = np.full((1, 24, 20, 3), 77.0)
    return torch.from_numpy(np.concatenate([mixed, flat]).clip(0, 255).astype(np.uint8))


def affine(image, *six):
    return image.transform(image.size, Image.Transform.AFFINE, six, NEAREST)


def enhance(kind):
    return lambda image, share: kind(image).enhance(1 + 0.99 * share)


# Pillow's image and the signed share of the full strength.
PILLOW = {
    "identity": lambda image, share: image,
    "shear_x": lambda image, share: affine(image, 1, 0.99 * share, 0, 0, 1, 0),
    "shear_y": lambda image, share: affine(image, 1, 0, 0, 0.99 * share, 1, 0),
    "translate_x": lambda image, share: affine(image, 1, 0, int(32 * share), 0, 1, 0),
    "translate_y": lambda image, share: affine(image, 1, 0, 0, 0, 1, int(32 * share)),
    "rotate": lambda image, share: image.rotate(135 * share, NEAREST),
    "brightness": enhance(ImageEnhance.Brightness),
    "color": enhance(ImageEnhance.Color),
    "contrast": enhance(ImageEnhance.Contrast),
    "sharpness": enhance(ImageEnhance.Sharpness),
    "posterize": lambda image, share: ImageOps.posterize(image, 8 - int(6 * abs(share))),
    "solarize": lambda image, share: ImageOps.solarize(image, 256 - int(256 * abs(share))),
    "auto_contrast": lambda image, share: ImageOps.autocontrast(image),
    "equalize": lambda image, share: ImageOps.equalize(image),
}


@pytest.mark.parametrize("operation", augment.OPERATIONS, ids=lambda o: o.__name__)
@pytest.mark.parametrize("sign", [-1, 1])
def test_operations_are_pillows(photos, operation, sign):
    """Each image at a strength of its own. Nearest pixels may differ at a tie, values by one."""
    for first in (0, 3, 15, 25):
        level = first + torch.arange(len(photos))
        found = operation(photos, level, torch.full_like(level, sign))
        assert found.dtype == torch.uint8
        for image, result, strength in zip(photos.numpy(), found, level.tolist(), strict=True):
            theirs = PILLOW[operation.__name__](Image.fromarray(image), sign * strength / 30)
            gap = (result.int() - torch.from_numpy(np.array(theirs)).int()).abs()
            moves = operation.__name__.startswith(("shear", "rotate"))
            assert (gap > 0).float().mean() < 0.01 if moves else gap.max() <= 1, strength


def test_exact_operations_are_exact(photos):
    level = torch.arange(len(photos)) * 6
    for operation in (augment.posterize, augment.solarize, augment.equalize):
        found = operation(photos, level, torch.ones_like(level))
        for image, result, strength in zip(photos.numpy(), found, level.tolist(), strict=True):
            theirs = PILLOW[operation.__name__](Image.fromarray(image), strength / 30)
            assert torch.equal(result, torch.from_numpy(np.array(theirs)))


def test_every_operation_comes_as_often_and_every_image_has_its_own_strength(photos):
    """The operation is told by its effect on one image that is shown 2,800 times."""
    photo = photos[2:3].repeat(1, 2, 2, 1)  # larger than any translation
    found = augment.trivial_augment(photo.expand(2800, -1, -1, -1), augment.generator("cpu", 0))
    looks, counts = found.flatten(1).unique(dim=0, return_counts=True)
    drawn = dict(zip(map(bytes, looks.numpy()), counts.tolist(), strict=True))
    level, sign = torch.arange(31).repeat(2), torch.tensor([-1, 1]).repeat_interleave(31)
    for operation in augment.OPERATIONS[1:]:
        results = operation(photo.expand(62, -1, -1, -1), level, sign).flatten(1)
        # The image itself may come of any operation.
        possible = {bytes(row) for row in results.numpy()} - {bytes(photo.flatten().numpy())}
        # Of 200 expected, those go that change nothing, such as a third of solarize.
        assert 120 <= sum(drawn.get(look, 0) for look in possible) <= 250, operation.__name__
    assert len(looks) > 400


def test_trivial_augment_repeats_with_its_generator(photos):
    one, two = (
        augment.augment(photos, "trivial-augment", augment.generator("cpu", 1, 2)) for _ in range(2)
    )
    assert torch.equal(one, two)
    other = augment.augment(photos, "trivial-augment", augment.generator("cpu", 1, 3))
    assert not torch.equal(one, other)
    assert one.shape == photos.shape


def test_an_unknown_augmentation_is_named(photos):
    with pytest.raises(UserError, match=r"random-resized-crop.*allowed: crop-flip"):
        augment.augment(photos, "random-resized-crop", torch.Generator())


def test_crop_flip_moves_pixels_and_invents_none():
    """Each result is the padded image seen through a 32x32 window, mirrored or not."""
    images = torch.randint(1, 256, (16, 32, 32, 3), dtype=torch.uint8)
    out = augment.crop_flip(images, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (0, 0, 4, 4, 4, 4))
    flipped = 0
    for image, result in zip(padded, out, strict=True):
        windows = [image[r : r + 32, c : c + 32] for r in range(9) for c in range(9)]
        straight = any(torch.equal(w, result) for w in windows)
        mirrored = any(torch.equal(w.flip(1), result) for w in windows)
        assert straight or mirrored
        flipped += mirrored
    assert 0 < flipped < 16


def test_crop_flip_repeats_with_its_generator():
    images = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8)
    one, two = (augment.crop_flip(images, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, two)
