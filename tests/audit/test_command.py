"""`snt audit` at the command line: a line and exit code 2 for what is wrong, else files."""

from __future__ import annotations

import json

import pytest

from snt_core import cli
from tests.brought import NET, images


@pytest.fixture
def snt(tmp_path, monkeypatch, capsys):
    """Runs the command with a store of its own; returns exit code, output, errors."""
    monkeypatch.setenv("SNT_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr("sys.argv", ["snt", "audit", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    return run


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "Missing argument"),
        ("tim:resnet18", "did you mean 'timm:resnet18'?"),
        ("timm:resnet18", "--data is missing"),
        ("example --budget soon", "--budget is 'soon'"),
        ("example --budget=", "--budget is empty"),
        ("example --lose -1", "--lose is -1"),
        ("example --lose nan", "--lose is nan"),
        ("example --html report", "ends in .html"),
        ("example --json .", "ends in .json"),
        ("example --html /proc/x/report.html", "cannot be written"),
        ("example --weights gone.safetensors", "no such file"),
        ("example --task gone.py:task", "there is no file"),
        ("timm:resnet18 --data gone", "no such folder"),
        ("timm:resnet18 --data gone.py:loader", "there is no file"),
        ("net.py:make --data net.py:out_of_range", "labels run from 100"),
        ("net.py:make --data net.py:not_a_number", "sample 6 of the data is not finite"),
        ("net.py:diverged --data net.py:pairs", "'0.weight' of the net is not finite"),
        ("net.py:make --data two", "2 class folders"),
        ("net.py:broken --data two", "net.py line"),
        ("net.py:make --data net.py:pairs --task net.py:text", "--task net.py:text is a str"),
    ],
)
def test_wrong_input_is_one_line_before_any_work(snt, tmp_path, words, says):
    (tmp_path / "net.py").write_text(NET.format(classes=3))
    images(tmp_path / "two", "x", "y")
    code, out, err = snt(*words.split())
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert out == ""
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list((tmp_path / "store").rglob("*.json"))


def test_it_measures_a_net_and_folder_of_ones_own(snt, tmp_path):
    (tmp_path / "net.py").write_text(NET.format(classes=3))
    images(tmp_path / "three", "x", "y", "z", each=8)
    words = (
        "net.py:make",
        "--data",
        "three",
        "--budget",
        "2m",
        "--html",
        "r.html",
        "--json",
        "r.json",
    )
    code, out, err = snt(*words)
    assert code == 0, err
    assert "2 layers that compression touches" in err
    assert "accuracy is" in out
    body = json.loads((tmp_path / "r.json").read_text())
    assert body["left_out"].keys() == {"tokens"}
    assert body["facts"]["labels"] == "folders in the order of their names"
    assert any("Nobody says what the net wants" in note for note in body["notes"])
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    assert str(tmp_path) not in (tmp_path / "r.html").read_text()
    made = len(list((tmp_path / "store" / "audits").rglob("audit-*.json")))
    code, out, err = snt(*words)
    assert code == 0
    assert f"{len(body['measured'])} of them are there" in err
    assert len(list((tmp_path / "store" / "audits").rglob("audit-*.json"))) == made


def test_a_loss_that_is_not_finite_is_told(snt, tmp_path):
    (tmp_path / "net.py").write_text(NET.format(classes=3))
    words = "net.py:overflows --data net.py:pairs --budget 2s --json found.json".split()
    code, out, _ = snt(*words)
    assert code == 0
    assert "The net's accuracy is" in out
    assert json.loads((tmp_path / "found.json").read_text())


def test_without_labels_agreement_with_the_float_net_is_what_is_lost(snt, tmp_path):
    (tmp_path / "net.py").write_text(NET.format(classes=3))
    images(tmp_path / "flat", ".", each=20)
    code, out, _ = snt("net.py:make", "--data", "flat", "--budget", "1m", "--json", "r.json")
    assert code == 0
    assert "agreement with itself is 100.0 %" in out
    body = json.loads((tmp_path / "r.json").read_text())
    assert any("No labels" in note for note in body["notes"])
    assert body["book"]["why"].startswith("Not comparable")
