"""Profile imagenet on a user's own files: ten classes of JPEGs and a ViT-B as safetensors."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from snt_core.nets import build
from snt_core.paper import figure2
from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import training
from snt_core.runs import runner
from snt_core.runs.kinds.channels import ChannelsSpec
from snt_core.runs.kinds.static import StaticSpec
from snt_core.runs.store import Store

IMAGENET = PROFILES["imagenet"]
NET = training(IMAGENET, "imagenet", "adam", 0, "vit")
CLASSES = (
    "n01440764 n01443537 n02007558 n02099601 n02123045 n02391049 n02690373 n03345487 n04285008 "
    "n15075141"
).split()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store, beside a data folder with one image of each class in train and in val."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in CLASSES:
            file = folder / "imagenet" / part / name / f"{name}_1.JPEG"
            file.parent.mkdir(parents=True)
            Image.fromarray(rng.integers(0, 256, (240, 260, 3), dtype=np.uint8)).save(file)
    (folder / "checkpoints").mkdir()
    state = build("vit_b16", "base", 1000, 0).state_dict()
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(state, folder / "checkpoints" / f"{NET.source}.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNT_DATA_DIR", str(folder))
        yield Store(folder / "store")


def test_a_checkpoint_is_read_from_the_users_own_file(place):
    (record,) = runner.run_all([NET], place, profile="imagenet")
    assert record.metrics["parameters"] == 86_567_656
    assert record.metrics["local"]
    assert len(record.metrics["sha256"]) == 64
    assert record.provenance["data_digest"] is None  # weights alone, no image


def test_channels_and_quantization_on_images_of_the_folder(place):
    assert [spec.parent for spec in figure2.runs(IMAGENET, [0]) if spec.kind == "channels"][
        1
    ] == NET
    channels = ChannelsSpec(parent=NET, n_samples=2)
    static = StaticSpec(parent=NET, weight_bits=8, act_bits=8, n_calibration=2)
    found = runner.run_all([channels, static], place, profile="imagenet")
    assert [record.n_samples for record in found] == [2, 10]
    assert len(found[0].metrics["low"]) == 768
    assert figure2.table(found).ratio[0] > 1
    assert found[1].metrics["before"]["n"] == 10
