"""ImageNet from files: layout, labels, crops against torchvision's, streamed training."""

import dataclasses
import io
import multiprocessing
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tblib import pickling_support
from torch import nn

from snt_core.common.errors import UserError
from snt_core.common.vision import torchvision
from snt_core.data import imagenet
from snt_core.data import load as data
from snt_core.data.facts import FACTS
from snt_core.data.split import Draw
from snt_core.training import fit as train
from snt_core.training.engine import Engine
from snt_core.training.recipe import Recipe

EXACT = Engine(device="cpu", dtype="fp32", fused=False)
RECIPE = Recipe(epochs=2, batch_size=16, lr=5e-3, augment="random-resized-crop")
# By WordNet id, their indices in ILSVRC-2012.
CLASSES = {"n01440764": 0, "n01443537": 1, "n02007558": 130, "n02099601": 207, "n02123045": 281}
CLASSES |= {"n02391049": 340, "n02690373": 404, "n03345487": 555, "n04285008": 817}
CLASSES |= {"n15075141": 999}


def picture(number: int, rng: np.random.Generator) -> Image.Image:
    """A colour and a direction of stripes for each class, in noise and of any shape."""
    h, w = rng.integers(36, 64, 2)
    stripes = np.sin((np.arange(h)[:, None] * (number % 2) + np.arange(w) * (1 - number % 2)) / 2)
    colour = np.array([number & 1, number & 2, number & 4]) > 0
    image = 60 + 130 * colour + 40 * stripes[..., None] * (1 if number < 8 else -1)
    image = image + rng.normal(0, 20, (h, w, 3))
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Ten classes, 20 training and 6 test images each, one in grey and one with transparency."""
    folder = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    for part, each in (("train", 20), ("val", 6)):
        for number, name in enumerate(CLASSES):
            place = folder / "imagenet" / part / name
            place.mkdir(parents=True)
            for i in range(each):
                picture(number, rng).save(place / f"{name}_{i}.JPEG", quality=90)
    train_folder = folder / "imagenet" / "train"
    picture(0, rng).convert("L").save(train_folder / "n01440764" / "n01440764_0.JPEG")
    picture(1, rng).convert("RGBA").save(train_folder / "n01443537" / "more.png")
    (train_folder / "n01443537" / "notes.txt").write_text("not an image")
    (train_folder / "LOC_train.csv").write_text("nor this")
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch, sets):
    """Those images at 32 pixels, decoded in this process."""
    monkeypatch.setenv("SNT_DATA_DIR", str(sets))
    monkeypatch.setattr(imagenet, "_cores", lambda: 0)
    facts = dataclasses.replace(FACTS["imagenet"], size=32)
    monkeypatch.setitem(FACTS, "imagenet", facts)


def tiny() -> nn.Module:
    torch.manual_seed(0)
    parts = (nn.Conv2d(3, 16, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return nn.Sequential(*parts, nn.Linear(64, 1000))


def everything(split):
    whole = split.tensors(len(split))
    return whole.images, whole.labels


def test_splits_are_disjoint_complete_and_labelled_by_folder(sets):
    found = data.load("imagenet", 40)
    assert (len(found.train), len(found.val), len(found.test)) == (161, 40, 60)
    names = [*found.train.names, *found.val.names]
    on_disk = {f"{f.parent.name}/{f.name}" for f in (sets / "imagenet/train").glob("*/*.[Jp]*")}
    assert {os.fsdecode(name) for name in names} == on_disk
    for split in (found.train, found.val, found.test):
        folders = [os.fsdecode(name).split("/")[0] for name in split.names]
        assert split.labels.tolist() == [CLASSES[folder] for folder in folders]
    assert len(set(found.val.labels.tolist())) >= 8  # the order mixes the classes


def test_labels_are_those_that_torchvision_gives_the_whole_of_imagenet(tmp_path):
    """Its ImageFolder numbers the sorted folders, so all thousand are needed for it to be right."""
    for name in imagenet._classes():
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.JPEG").touch()
    theirs = torchvision().datasets.ImageFolder(str(tmp_path)).class_to_idx
    assert imagenet._classes() == theirs
    assert CLASSES.items() <= theirs.items()


@pytest.mark.parametrize("shape", [(500, 375), (375, 500), (224, 224), (150, 700), (257, 256)])
def test_the_centre_is_torchvisions(shape):
    from torchvision import transforms

    rng = np.random.default_rng(sum(shape))
    image = Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
    theirs = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])(image)
    assert np.array_equal(np.array(imagenet.centre_crop(image, 224)), np.array(theirs))


def test_a_random_crop_is_torchvisions_of_the_same_box():
    from torchvision.transforms import functional as F

    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (90, 70, 3), dtype=np.uint8))
    mirrored = 0
    for key in range(20):
        found = np.array(imagenet.random_resized_crop(image, 32, np.random.default_rng(key)))
        left, top, w, h = imagenet.random_box(70, 90, np.random.default_rng(key))
        theirs = np.array(F.resized_crop(image, top, left, h, w, [32, 32]))
        mirrored += not np.array_equal(found, theirs)
        assert np.array_equal(found, theirs) or np.array_equal(found, theirs[:, ::-1])
    assert 3 <= mirrored <= 17


def test_random_boxes_have_the_promised_area_and_shape():
    """Uniform area where every try fits; positions reach all four sides."""
    rng = np.random.default_rng(1)
    boxes = np.array([imagenet.random_box(400, 400, rng) for _ in range(3000)])
    left, top, w, h = boxes.T
    assert left.min() == top.min() == 0
    assert (left + w).max() == (top + h).max() == 400
    area, ratio = w * h / 400**2, w / h
    assert 0.079 < area.min() < 0.09
    assert 0.97 < area.max() <= 1
    assert 0.74 < ratio.min() < 0.76
    assert 1.32 < ratio.max() < 1.35
    assert abs(np.log(ratio).mean()) < 0.02
    small = area[area < 0.5]  # always fit: at most 258 x 327
    assert np.quantile(small, 0.5) == pytest.approx(0.29, abs=0.02)


def test_a_very_long_image_gives_its_middle():
    left, top, w, h = imagenet.random_box(1000, 10, np.random.default_rng(0))
    assert (top, w, h) == (0, 13, 10)
    assert left == (1000 - 13) // 2


def test_batches_come_in_order_and_whole():
    split = data.load("imagenet", 40).test
    images, labels = everything(split)
    assert images.shape == (60, 32, 32, 3)
    assert images.dtype == torch.uint8
    for image, name in zip(images, split.names, strict=True):
        with Image.open(split.folder / os.fsdecode(name)) as file:
            middle = imagenet.centre_crop(file.convert("RGB"), 32)
        assert np.array_equal(image.numpy(), np.array(middle))
    batches = list(split.batches(25))
    assert [len(batch) for batch in batches] == [25, 25, 10]
    assert torch.equal(torch.cat([batch.images for batch in batches]), images)
    part = split[10:20].tensors(5)
    assert torch.equal(part.images, images[10:15])
    assert torch.equal(part.labels, labels[10:15])


@pytest.mark.parametrize("name", ["random-resized-crop", "none"])
def test_workers_and_ranks_change_nothing(name):
    split = data.load("imagenet", 40).train
    draws = [Draw(step, step // 2, torch.randperm(161)[:12]) for step in range(5)]
    state = torch.get_rng_state()
    alone = list(split.drawn(draws, name, 7))
    for workers, shares in ((2, [slice(None)]), (1, [slice(6), slice(6, 12)])):
        many = dataclasses.replace(split, workers=workers)
        ranks = [many.drawn(draws, name, 7, share) for share in shares]
        for one, *parts in zip(alone, *ranks, strict=True):
            assert torch.equal(one.images, torch.cat([part.images for part in parts]))
            assert torch.equal(one.labels, torch.cat([part.labels for part in parts]))
    for draw, batch in zip(draws, alone, strict=True):
        assert torch.equal(batch.labels, split.labels[draw.rows])
    assert torch.equal(torch.get_rng_state(), state)


def test_an_image_is_cropped_anew_each_epoch_and_seed():
    split = data.load("imagenet", 40).train
    rows = torch.arange(8)
    crops = [
        next(split.drawn([Draw(0, epoch, rows)], "random-resized-crop", seed)).images
        for epoch, seed in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    assert torch.equal(crops[0], crops[1])
    assert not torch.equal(crops[0], crops[2])
    assert not torch.equal(crops[0], crops[3])


def test_it_learns():
    """Ten classes, so chance among them is 10 %."""
    found = data.load("imagenet", 40)
    recipe = dataclasses.replace(RECIPE, epochs=6)
    done = train.fit(tiny(), found, recipe, EXACT, seed=0)
    assert done.history[-1]["val_top1"] > 50


class Killed(Exception):
    pass


def test_resumed_equals_uninterrupted_bitwise(tmp_path, monkeypatch):
    """With another number of workers, too."""
    found = data.load("imagenet", 40)
    whole = tiny()
    expected = train.fit(whole, found, RECIPE, EXACT, seed=0)
    monkeypatch.setattr(train, "CHECK_EVERY", 2)
    monkeypatch.setattr(train, "SAVE_EVERY", 0.0)

    def kill(step: int, steps: int) -> None:
        if step >= 14:
            raise Killed

    options = {"seed": 0, "checkpoint": tmp_path / "state.pt"}
    with pytest.raises(Killed):
        train.fit(tiny(), found, RECIPE, EXACT, progress=kill, **options)
    more = dataclasses.replace(found, train=dataclasses.replace(found.train, workers=2))
    model = tiny()
    resumed = train.fit(model, more, RECIPE, EXACT, **options)
    assert resumed.resumed == 12
    assert resumed.history == expected.history
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_val_alone_serves_measurements_but_not_training(sets, tmp_path, monkeypatch):
    (tmp_path / "imagenet").mkdir()
    shutil.copytree(sets / "imagenet/val", tmp_path / "imagenet/val")
    whole = data.load("imagenet", 40)
    monkeypatch.setenv("SNT_DATA_DIR", str(tmp_path))
    found = data.load("imagenet", 10_000)
    assert (len(found.train), len(found.val), len(found.test)) == (0, 0, 60)
    assert torch.equal(everything(found.test)[0], everything(whole.test)[0])
    assert found.digest != whole.digest
    assert 0 <= train.evaluate(tiny(), found.test, found.facts).top1 <= 100
    with pytest.raises(UserError, match=r"no training images.*SNT_DATA_DIR/imagenet/train"):
        train.fit(tiny(), found, RECIPE, EXACT, seed=0)
    with pytest.raises(UserError, match="holds no images, and 5 are asked for"):
        found.train.tensors(5)


def test_the_digest_is_of_paths_and_sizes(sets, tmp_path, monkeypatch):
    first = data.load("imagenet", 40).digest
    shutil.copytree(sets / "imagenet", tmp_path / "imagenet")
    monkeypatch.setenv("SNT_DATA_DIR", str(tmp_path))
    assert data.load("imagenet", 40).digest == first
    file = tmp_path / "imagenet/val/n15075141/n15075141_0.JPEG"
    file.write_bytes(file.read_bytes() + b"x")
    assert data.load("imagenet", 40).digest != first


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: None, r"no images .*val/<WordNet id>.*SNT_DATA_DIR"),
        (lambda root: (root / "val/n01440764").mkdir(parents=True), "no images"),
        (lambda root: (root / "train/cats").mkdir(parents=True), "train/cats is no ImageNet class"),
    ],
    ids=["missing", "empty", "no class"],
)
def test_a_wrong_folder_is_said_in_one_line(tmp_path, monkeypatch, spoil, says):
    monkeypatch.setenv("SNT_DATA_DIR", str(tmp_path))
    spoil(tmp_path / "imagenet")
    with pytest.raises(UserError, match=says) as error:
        data.load("imagenet", 40)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_in_one_line_and_its_worker_ends(tmp_path, monkeypatch, workers):
    pickling_support.install()  # as dask does: errors from another process have a traceback
    others = set(multiprocessing.active_children())
    place = tmp_path / "imagenet/val/n01440764"
    place.mkdir(parents=True)
    whole = io.BytesIO()
    picture(3, np.random.default_rng(0)).save(whole, "JPEG")
    (place / "cut.JPEG").write_bytes(whole.getvalue()[:400])
    monkeypatch.setenv("SNT_DATA_DIR", str(tmp_path))
    split = dataclasses.replace(data.load("imagenet", 40).test, workers=workers)
    with pytest.raises(UserError, match=r"^/.*cut\.JPEG is not a readable image \(.*\)$") as error:
        split.tensors(1)
    assert "\n" not in str(error.value)
    assert set(multiprocessing.active_children()) <= others


def test_augmentations_of_images_in_memory_are_refused():
    found = data.load("imagenet", 40)
    recipe = dataclasses.replace(RECIPE, augment="crop-flip")
    with pytest.raises(UserError, match=r"crop-flip.*allowed: random-resized-crop, none"):
        train.fit(tiny(), found, recipe, EXACT, seed=0)


def test_too_much_validation_is_refused():
    with pytest.raises(UserError, match="val_size is 201; imagenet allows 0 to 200"):
        data.load("imagenet", 201)
