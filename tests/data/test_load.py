"""Data sets: the three CIFAR layouts, the canonical order, the checks, the batches."""

import hashlib
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from snt_core.common.errors import UserError
from snt_core.data import cifar, digits
from snt_core.data import load as data
from snt_core.data.facts import FACTS, Facts
from snt_core.data.split import Draw, normalise

N_TRAIN, N_TEST = 50, 20


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A CIFAR-10 of 70 images in a folder of its own, with facts to match."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N_TRAIN + N_TEST, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(len(images)) % 10
    mean = tuple(images[:N_TRAIN].mean(axis=(0, 1, 2)) / 255)
    facts = Facts(num_classes=10, train=N_TRAIN, test=N_TEST, mean=mean, std=(0.29, 0.29, 0.29))
    monkeypatch.setitem(FACTS, "cifar10", facts)
    monkeypatch.setenv("SNT_DATA_DIR", str(tmp_path / "sets"))
    monkeypatch.setenv("SNT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "sets", images, labels


def write_parquet(folder, images, labels):
    """The Hub's layout, training images in two files."""

    def png(image):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    (folder / "cifar10").mkdir(parents=True)
    cuts = {"train-00000-of-00002": (0, 30), "train-00001-of-00002": (30, N_TRAIN)}
    cuts["test-00000-of-00001"] = (N_TRAIN, N_TRAIN + N_TEST)
    for name, (a, b) in cuts.items():
        rows = {"img": [png(i) for i in images[a:b]], "label": labels[a:b]}
        pq.write_table(pa.table(rows), folder / "cifar10" / f"{name}.parquet")


def write_pickles(folder, images, labels, monkeypatch):
    """torchvision's layout, in another order than the parquet files."""
    place = folder / "cifar-10-batches-py"
    place.mkdir(parents=True)
    sums: dict[str, dict[str, str]] = {"train": {}, "test": {}}
    parts = {f"data_batch_{i}": slice(10 * (i - 1), 10 * i) for i in range(1, 6)}
    parts["test_batch"] = slice(N_TRAIN, N_TRAIN + N_TEST)
    for name, rows in parts.items():
        flat = images[rows][::-1].transpose(0, 3, 1, 2).reshape(-1, 3072)
        content = pickle.dumps({"data": flat, "labels": labels[rows][::-1].tolist()}, protocol=2)
        (place / name).write_bytes(content)
        part = "test" if name == "test_batch" else "train"
        sums[part][name] = hashlib.md5(content).hexdigest()
    layout = cifar.LAYOUTS["cifar10"]
    changed = type(layout)(**{**vars(layout), **sums})
    monkeypatch.setitem(cifar.LAYOUTS, "cifar10", changed)
    return place


def test_both_layouts_give_the_same_data_in_the_same_order(tiny, monkeypatch, tmp_path):
    folder, images, labels = tiny
    write_parquet(folder, images, labels)
    one = data.load("cifar10", 10)
    monkeypatch.setenv("SNT_DATA_DIR", str(tmp_path / "other"))
    monkeypatch.setenv("SNT_CACHE_DIR", str(tmp_path / "cold"))
    write_pickles(tmp_path / "other", images, labels, monkeypatch)
    two = data.load("cifar10", 10)
    assert one.digest == two.digest
    for part in ("train", "val", "test"):
        a, b = getattr(one, part), getattr(two, part)
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


def test_splits_are_disjoint_and_complete(tiny):
    folder, images, labels = tiny
    write_parquet(folder, images, labels)
    found = data.load("cifar10", 10)
    assert (len(found.train), len(found.val), len(found.test)) == (40, 10, 20)
    seen = torch.cat([found.train.images, found.val.images]).flatten(1).tolist()
    assert sorted(seen) == sorted(images[:N_TRAIN].reshape(N_TRAIN, -1).tolist())
    pairs = {
        tuple(i.flatten().tolist()): n
        for i, n in zip(found.test.images, found.test.labels.tolist())
    }
    for image, label in zip(images[N_TRAIN:], labels[N_TRAIN:]):
        assert pairs[tuple(image.flatten().tolist())] == label


def test_the_cache_serves_when_the_files_are_gone(tiny, monkeypatch, tmp_path):
    folder, images, labels = tiny
    write_parquet(folder, images, labels)
    first = data.load("cifar10", 10)
    monkeypatch.setenv("SNT_DATA_DIR", str(tmp_path / "nowhere"))
    assert data.load("cifar10", 10).digest == first.digest


def test_a_damaged_cache_is_made_again(tiny, tmp_path):
    folder, images, labels = tiny
    write_parquet(folder, images, labels)
    first = data.load("cifar10", 10)
    cache = tmp_path / "cache" / "cifar10.safetensors"
    cache.write_bytes(cache.read_bytes()[:1000])
    assert data.load("cifar10", 10).digest == first.digest


def test_missing_cifar_names_the_three_ways(tiny, monkeypatch):
    monkeypatch.setattr(cifar, "ARCHIVES", "http://127.0.0.1:9/")  # nothing listens there
    with pytest.raises(UserError) as error:
        data.load("cifar10", 10)
    for way in ("SNT_DATA_DIR", "train-*.parquet", "cifar-10-batches-py", "network"):
        assert way in str(error.value)
    assert "\n" not in str(error.value)


def test_foreign_pickles_are_not_opened(tiny, monkeypatch):
    folder, images, labels = tiny
    place = write_pickles(folder, images, labels, monkeypatch)
    (place / "data_batch_2").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"data_batch_2.*MD5"):
        data.load("cifar10", 10)


class Evil:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_a_pickle_with_code_in_it_is_refused(tiny, monkeypatch, capsys):
    """Even one whose checksum fits."""
    folder, images, labels = tiny
    place = write_pickles(folder, images, labels, monkeypatch)
    content = pickle.dumps(Evil())
    (place / "data_batch_1").write_bytes(content)
    monkeypatch.setitem(
        cifar.LAYOUTS["cifar10"].train, "data_batch_1", hashlib.md5(content).hexdigest()
    )
    with pytest.raises(UserError, match=r"builtins\.print"):
        data.load("cifar10", 10)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda images, labels: (images[:-1], labels[:-1]), "expected uint8"),
        (lambda images, labels: (images, labels * 0), "of 1 classes"),
        (lambda images, labels: (images // 2, labels), "channel means"),
    ],
)
def test_wrong_content_is_refused(tiny, spoil, says):
    _, images, labels = tiny
    with pytest.raises(UserError, match=says):
        data.check("cifar10", *spoil(images[:N_TRAIN], labels[:N_TRAIN]), "train")


def test_checksums_are_torchvisions():
    from snt_core.common.vision import torchvision

    tv = torchvision().datasets
    for name, theirs in (("cifar10", tv.CIFAR10), ("cifar100", tv.CIFAR100)):
        layout = cifar.LAYOUTS[name]
        assert layout.train == dict(theirs.train_list)
        assert layout.test == dict(theirs.test_list)
        assert layout.folder == theirs.base_folder
        assert cifar.ARCHIVES + layout.archive == theirs.url
        assert layout.archive_md5 == theirs.tgz_md5


def test_digits_need_no_file(monkeypatch, tmp_path):
    monkeypatch.setenv("SNT_DATA_DIR", str(tmp_path))
    found = data.load("digits", 180)
    assert (len(found.train), len(found.val), len(found.test)) == (1257, 180, 360)
    assert found.train.images.shape[1:] == (32, 32, 3)


def test_digits_are_those_of_scikit_learn_which_is_not_imported():
    theirs = load_digits()
    for ours, expected in zip(digits.raw(), (theirs.images, theirs.target), strict=True):
        assert ours.dtype == expected.dtype
        assert np.array_equal(ours, expected)
    code = (
        "import sys; from snt_core.data.digits import raw; raw(); print('sklearn' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def test_an_unknown_data_set_is_named(tmp_path):
    with pytest.raises(UserError, match="did you mean 'cifar100'"):
        data.load("cifar1000", 10)


def test_a_split_gives_its_images_whole_in_batches_and_as_drawn():
    """Ranks' shares of a drawn batch are that batch, so each image is augmented once."""
    train = data.load("digits", 180).train[:50]
    assert torch.equal(train.tensors(20).images, train.images[:20])
    batches = list(train.batches(24))
    assert [len(batch) for batch in batches] == [24, 24, 2]
    assert torch.equal(torch.cat([batch.labels for batch in batches]), train.labels)
    draws = [Draw(step, 0, torch.randperm(50)[:8]) for step in range(3)]
    plain = list(train.drawn(draws, "none", 0))
    for draw, batch in zip(draws, plain, strict=True):
        assert torch.equal(batch.images, train.images[draw.rows])
        assert torch.equal(batch.labels, train.labels[draw.rows])
    whole, left, right = (
        list(train.drawn(draws, "trivial-augment", 0, share))
        for share in (slice(None), slice(4), slice(4, 8))
    )
    for one, two, three in zip(whole, left, right, strict=True):
        assert torch.equal(one.images, torch.cat([two.images, three.images]))
        assert torch.equal(one.labels, torch.cat([two.labels, three.labels]))


def test_validation_must_leave_training_images():
    for val_size in (0, 1437):
        with pytest.raises(UserError, match=rf"val_size is {val_size}; digits allows 1 to 1436"):
            data.load("digits", val_size)


def test_normalise_standardises():
    facts = FACTS["digits"]
    train = data.load("digits", 180).train
    x = normalise(train.images, facts)
    assert x.shape == (1257, 3, 32, 32)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert x.mean().abs() < 0.02
    assert abs(x.std() - 1) < 0.02


REAL = os.environ.get("SNT_DATA_DIR", "")


@pytest.mark.skipif(not Path(REAL, "cifar10").is_dir(), reason="SNT_DATA_DIR holds no CIFAR")
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_real_cifar(name):
    found = data.load(name, 5000)
    assert (len(found.train), len(found.val), len(found.test)) == (45_000, 5_000, 10_000)
    pixels = torch.cat([found.train.images, found.val.images]).reshape(-1, 3)
    for channel, mean, std in zip(pixels.T, found.facts.mean, found.facts.std, strict=True):
        share = channel.bincount(minlength=256).double() / len(channel)
        values = torch.arange(256, dtype=torch.float64) / 255
        assert (share * values).sum().item() == pytest.approx(mean, abs=1e-5)
        assert (share * (values - mean) ** 2).sum().sqrt().item() == pytest.approx(std, abs=1e-5)
    per_class = torch.cat([found.train.labels, found.val.labels]).bincount()
    assert set(per_class.tolist()) == {50_000 // found.facts.num_classes}
    assert set(found.test.labels.bincount().tolist()) == {10_000 // found.facts.num_classes}
