"""What the words of an audit mean, and what is refused in a line before any work."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from snt_core.audit import data_words, pictures, target
from snt_core.audit.preparing import Asked, prepare
from snt_core.common.errors import UserError
from tests.brought import NET, images


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NET.format(classes=3))
    return path


def refused(call, *says):
    with pytest.raises(UserError) as told:
        call()
    line = str(told.value)
    assert "\n" not in line
    for part in says:
        assert part in line, line


# targets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("tim:resnet18", "did you mean 'timm:resnet18'?"),
        ("exmaple", "did you mean 'example'?"),
        ("nets", "allowed: timm:NAME"),
        ("timm:", "allowed"),
        ("timm:resnet81", "close: resnet18"),
        ("torchvision:resnet81", "close: resnet18"),
        ("gone.py:make", "there is no file"),
        ("gone.py", "write FILE.py:NAME"),
    ],
)
def test_an_unknown_target_is_refused(words, says):
    refused(lambda: target.network(words), says)


def test_a_file_that_raises_is_told_with_its_own_line(file, tmp_path):
    at = NET.format(classes=3).splitlines().index('    raise KeyError("no such thing")') + 1
    refused(lambda: target.network(f"{file}:broken"), f"net.py line {at}", "KeyError")
    refused(lambda: target.network(f"{file}:text"), "gives a str", "torch.nn.Module")
    refused(lambda: target.network(f"{file}:mkae"), "did you mean 'make'")
    odd = tmp_path / "odd.py"
    odd.write_text("x = 1\ndef make(:\n")
    refused(lambda: target.network(f"{odd}:make"), "odd.py line 2", "SyntaxError")
    odd = tmp_path / "leaves.py"
    odd.write_text("import sys\nsys.exit(3)\n")
    refused(lambda: target.network(f"{odd}:make"), "leaves.py line 2", "SystemExit")


def test_weights_come_whole_from_a_file_of_tensors_alone(file, tmp_path):
    plain = target.network(f"{file}:make")
    state = {k: v + 1 for k, v in plain.model.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        found = target.network(f"{file}:make", str(tmp_path / name))
        assert all(torch.equal(found.model.state_dict()[k], v) for k, v in state.items())
        assert found.weights != plain.weights
        assert not found.model.training


def test_weights_that_do_not_fit_or_are_no_tensors_are_refused(file, tmp_path):
    state = dict(target.network(f"{file}:make").model.state_dict())
    cases = {
        "more": ({**state, "extra": torch.ones(1)}, "has 'extra'"),
        "fewer": ({"0.weight": state["0.weight"]}, "lacks '0.bias', '4.weight', '4.bias'"),
        "shape": ({**state, "4.bias": torch.ones(7)}, "4.bias is (7,) in it and (3,) in the net"),
        "names": ({f"x{i}": v for i, v in enumerate(state.values())}, "shapes agree in order"),
    }
    for name, (tensors, says) in cases.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        words = str(tmp_path / f"{name}.safetensors")
        refused(lambda words=words: target.network(f"{file}:make", words), "does not fit", says)
    (tmp_path / "bad.safetensors").write_bytes(b"xx")
    refused(lambda: target.network(f"{file}:make", str(tmp_path / "bad.safetensors")), "damaged")
    refused(lambda: target.network(f"{file}:make", str(tmp_path / "gone.pt")), "no such file")


class Evil:
    ran = False

    def __reduce__(self):
        return setattr, (Evil, "ran", True)


def test_no_pickle_is_opened(file, tmp_path):
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps({"a": Evil()}))
    refused(lambda: target.network(f"{file}:make", str(path)), "refused", "weights_only")
    torch.save({"a": Evil()}, path)
    refused(lambda: target.network(f"{file}:make", str(path)), "refused", "weights_only")
    assert not Evil.ran


def test_a_librarys_net_takes_the_head_of_its_weights(tmp_path):
    import timm

    state = timm.create_model("resnet10t", num_classes=7).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    found = target.network("timm:resnet10t", str(tmp_path / "w.safetensors"))
    assert found.model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    assert found.transform is not None


def test_random_weights_are_said(monkeypatch):
    import timm

    make = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise OSError("no network")
        return make(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    found = target.network("timm:resnet10t", classes=5)
    assert not found.trained
    assert "random" in found.notes[0]
    assert found.model(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
    again = target.network("timm:resnet10t", classes=5)
    assert again.weights == found.weights, "else a killed audit would not go on"


def test_the_digest_is_of_names_shapes_and_bytes():
    def digest(model):
        return target.Network(words="", model=model).weights

    torch.manual_seed(0)
    one = nn.Linear(2, 3)
    same = nn.Linear(2, 3)
    same.load_state_dict(one.state_dict())
    assert digest(one) == digest(same)
    same.bias.data[0] += 1e-6
    assert digest(one) != digest(same)
    assert digest(nn.Sequential(one)) != digest(one)
    assert digest(nn.Linear(2, 3).bfloat16()) != digest(one)


# data -----------------------------------------------------------------------------------------


def test_folders_are_classes_in_every_way_that_is_written(tmp_path):
    def labels(folder, outputs):
        found = pictures.listing(str(folder))
        return dict(zip(found.files, pictures.labels_of(found, outputs)[0]))

    folder = images(tmp_path / "a", "ant", "bee", "cow", each=1)
    assert labels(folder, 3) == {"ant/0.jpg": 0, "bee/0.jpg": 1, "cow/0.jpg": 2}
    (folder / "classes.txt").write_text("cow\nzebra\nbee\nant\n")
    assert labels(folder, 4) == {"ant/0.jpg": 3, "bee/0.jpg": 2, "cow/0.jpg": 0}
    numbered = images(tmp_path / "b", "7", "12", each=1)
    assert labels(numbered, 20) == {"7/0.jpg": 7, "12/0.jpg": 12}
    known = images(tmp_path / "c", "n01440764", "daisy", "Egyptian_cat", each=1)
    assert set(labels(known, 1000).values()) == {0, 985, 285}
    flat = images(tmp_path / "d", ".", each=2)
    assert pictures.labels_of(pictures.listing(str(flat)), 5)[0] is None
    (flat / "labels.csv").write_text("0.jpg,4\n1.jpg,0\n")
    assert labels(flat, 5) == {"0.jpg": 4, "1.jpg": 0}
    refused(lambda: labels(flat, 4), "says '4' of 0.jpg")


def test_folders_that_mean_nothing_are_refused(file, tmp_path):
    refused(lambda: pictures.listing(str(tmp_path / "gone")), "no such folder")
    refused(lambda: pictures.listing(str(tmp_path)), "no image lies in it")
    two = images(tmp_path / "two", "x", "y")
    ask = Asked(target=f"{file}:make", data=str(two))
    refused(lambda: prepare(ask, 60), "2 class folders (x, y", "the net 3")
    (two / "loose.png").write_bytes((two / "x" / "0.jpg").read_bytes())
    refused(lambda: pictures.listing(str(two)), "loose images such as loose.png")
    (two / "loose.png").unlink()
    (two / "classes.txt").write_text("x\n")
    refused(lambda: prepare(ask, 60), "does not list 'y'")
    broken = images(tmp_path / "broken", "a", "b", "c")
    (broken / "a" / "0.jpg").write_bytes(b"no image")
    ask = Asked(target=f"{file}:make", data=str(broken))
    refused(lambda: prepare(ask, 60), "0.jpg is not a readable image")


@pytest.mark.parametrize("ignored", [[0], [3, 5, 11], [*range(11)]])
def test_samples_whose_label_does_not_count_are_left_out(ignored):
    inputs, targets = torch.randn(12, 3), torch.arange(12) % 3
    plain = data_words.Data("x", inputs, targets)
    assert data_words.counted(plain) is plain
    marked = targets.clone()
    marked[ignored] = -100
    found = data_words.counted(replace(plain, targets=marked))
    kept = [i for i in range(12) if i not in ignored]
    assert torch.equal(found.inputs, inputs[kept])
    assert torch.equal(found.targets, targets[kept])
    assert found.notes == (f"{len(ignored)} samples with the label -100 do not count.",)


def test_an_audit_takes_labels_that_do_not_count(file):
    more = "\nignored = [(torch.randn(4, 3, 16, 16), torch.tensor([0, -100, 2, 1]))]\n"
    file.write_text(file.read_text() + more)
    found = prepare(Asked(target=f"{file}:make", data=f"{file}:ignored"), 60)
    assert found.scene.targets.tolist() == [0, 2, 1]
    assert len(found.scene.inputs) == 3
    assert any("label -100" in note for note in found.notes)


def test_labels_that_do_not_count_at_all_are_refused():
    with pytest.raises(UserError, match=r"^all 4 labels are -100[^\n]*$"):
        data_words.counted(data_words.Data("x", torch.randn(4, 3), torch.full((4,), -100)))


@pytest.mark.parametrize("loader", ["pairs", "dicts"])
@pytest.mark.parametrize("net", ["make", "Hub"])
def test_loaders_and_nets_of_any_manner_serve(file, loader, net):
    found = prepare(Asked(target=f"{file}:{net}", data=f"{file}:{loader}"), 60)
    assert found.scene.inputs.shape == (12, 3, 16, 16)
    assert found.scene.targets.tolist() == [0, 1, 2, 0] * 3
    assert found.scene.classes == 3
    assert found.look.unsupported.keys() == {"tokens"}
    assert len(found.look.touched) == 2


@pytest.mark.parametrize(
    ("net", "loader", "says"),
    [
        ("make", "nothing", "gives no batch"),
        ("make", "out_of_range", "labels run from 100"),
        ("make", "soft", "not a class index each"),
        ("make", "strings", "gives a batch of tuple"),
        ("one_output", "pairs", "not with B x classes; give --task"),
        ("make", "gone", "unknown name in net.py 'gone'"),
    ],
)
def test_samples_that_do_not_fit_are_refused(file, net, loader, says):
    refused(lambda: prepare(Asked(target=f"{file}:{net}", data=f"{file}:{loader}"), 60), says)


def test_a_net_that_cannot_take_the_samples_is_told(file, tmp_path):
    file.write_text(
        file.read_text() + "\ndef grey():\n    return [(torch.ones(2, 1, 9, 9), None)]\n"
    )
    ask = Asked(target=f"{file}:make", data=f"{file}:grey")
    refused(lambda: prepare(ask, 60), "cannot take a batch of the shape (1, 1, 9, 9)")


def test_data_is_asked_for_and_read_as_asked(file):
    refused(lambda: data_words.source_of("", "timm:resnet18"), "--data is missing")
    assert data_words.source_of("", "example") is None
