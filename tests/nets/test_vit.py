"""Checkpoints of vision transformers: from files, from the hub, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from snt_core.common.errors import UserError
from snt_core.common.vision import torchvision
from snt_core.nets.vit import load_checkpoint

torchvision()
import timm  # noqa: E402

TINY = "test_vit.r160_in1k"  # timm's net of 0.4 M parameters


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=7).eval()


@pytest.fixture(scope="module")
def tiny_file(tiny: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("vit") / "tiny.safetensors"
    save_file(tiny.state_dict(), file, metadata={"architecture": "test_vit"})
    return file


def test_checkpoint_from_a_file(tiny, tiny_file):
    net = load_checkpoint(tiny_file, num_classes=7)
    assert not net.training
    x = torch.randn(2, 3, 160, 160)
    assert torch.equal(net(x), tiny(x))


def test_checkpoint_is_a_vit_b16_unless_its_file_says_otherwise(tmp_path, tiny):
    save_file(tiny.state_dict(), tmp_path / "x.safetensors")
    with (
        torch.device("meta"),
        pytest.raises(UserError, match="no vit_base_patch16_224 with 1000 classes"),
    ):
        load_checkpoint(tmp_path / "x.safetensors")


def test_checkpoint_from_the_hub_is_pinned_and_no_pickle(monkeypatch, tiny):
    asked = []

    def fetch(*args):
        asked.append(args)
        return tiny.state_dict()

    monkeypatch.setattr(timm.models, "load_state_dict_from_hf", fetch)
    net = load_checkpoint(TINY, revision="0123abc", num_classes=7)
    assert asked == [(f"timm/{TINY}@0123abc", "model.safetensors")]
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), tiny.parameters(), strict=True))
    assert net.pretrained_cfg["tag"] == "r160_in1k"


def test_no_network_says_how_to_do_without(monkeypatch):
    def fetch(*args):
        raise OSError("cannot find the file\nin the cache")

    monkeypatch.setattr(timm.models, "load_state_dict_from_hf", fetch)
    with pytest.raises(UserError, match=r"give the path of its model\.safetensors") as error:
        load_checkpoint("vit_base_patch16_224.sam_in1k", revision="0123abc")
    assert "huggingface.co/timm/vit_base_patch16_224.sam_in1k/tree/0123abc" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (TINY, "give a revision"),
        ("vit_base_patch17", "neither a .safetensors file nor a checkpoint"),
        ("weights.pth", "neither a .safetensors file nor a checkpoint"),
        ("absent.safetensors", "absent.safetensors is not a readable"),
        ("damaged.safetensors", "damaged.safetensors is not a readable"),
        ("odd.safetensors", "is a 'resnet21', which timm does not know"),
        ("tiny.safetensors", "no test_vit with 8 classes"),
    ],
)
def test_what_is_no_checkpoint_is_one_line(name, message, tmp_path, tiny_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("weights.pth").write_bytes(b"never read")
    Path("damaged.safetensors").write_bytes(tiny_file.read_bytes()[:1000])
    save_file({}, "odd.safetensors", metadata={"architecture": "resnet21"})
    with safe_open(tiny_file, "pt") as file:
        save_file(load_file(tiny_file), "tiny.safetensors", metadata=file.metadata())
    with pytest.raises(UserError) as error:
        load_checkpoint(name, num_classes=8)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
