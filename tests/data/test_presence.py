"""A data set is found whole, or not, without decoding it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from snt_core.common.errors import UserError
from snt_core.common.files import checkpoint_file
from snt_core.data import presence
from snt_core.data.facts import FACTS, Facts

SMALL = Facts(num_classes=10, train=5, test=3, mean=(0.5,) * 3, std=(0.2,) * 3)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders for data and cache, no network, and a CIFAR-10 of eight images to be found."""
    monkeypatch.setitem(FACTS, "cifar10", SMALL)
    monkeypatch.setenv("SNT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SNT_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    return tmp_path


def cache(file, train: int, test: int) -> None:
    parts = {"train": train, "test": test}
    tensors = {
        f"{part}_images": torch.zeros(n, 32, 32, 3, dtype=torch.uint8) for part, n in parts.items()
    }
    save_file(tensors, file)


def test_what_the_cache_holds_whole_is_there(places):
    file = places / "cifar10.safetensors"
    cache(file, 5, 3)
    presence.require("cifar10")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match="cifar10 is not in"):
        presence.require("cifar10")


@pytest.mark.parametrize(("train", "test"), [(4, 3), (5, 2)])
def test_a_cache_of_another_size_does_not_count(places, train, test):
    cache(places / "cifar10.safetensors", train, test)
    with pytest.raises(UserError, match="cifar10 is not in"):
        presence.require("cifar10")


def test_imagenet_is_there_with_its_first_image(places):
    (places / "data" / "imagenet" / "val" / "n01440764").mkdir(parents=True)
    with pytest.raises(UserError, match="no images"):
        presence.require("imagenet")
    (places / "data" / "imagenet" / "val" / "n01440764" / "a.JPEG").touch()
    presence.require("imagenet")


def test_digits_are_always_there(places):
    presence.require("digits")
    presence.require("few-digits")


def test_looking_needs_no_torch():
    code = "import sys, snt_core.runs.preflight; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.mkdir()], ids=["pipe", "folder"])
def test_what_is_no_file_of_the_data_set_is_named(places, make):
    make(places / "cifar10.safetensors")  # of the cache, which is passed over
    folder = places / "data" / "cifar10"
    folder.mkdir(parents=True)
    make(folder / "train-0.parquet")
    with pytest.raises(UserError, match=r"train-0\.parquet is no file"):
        presence.require("cifar10")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.mkdir()], ids=["pipe", "folder"])
def test_a_checkpoint_that_is_no_file_is_named(places, make):
    folder = places / "data" / "checkpoints"
    folder.mkdir(parents=True)
    make(folder / "a.safetensors")
    with pytest.raises(UserError, match=r"a\.safetensors is no file"):
        checkpoint_file("a")
