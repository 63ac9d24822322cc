"""A task of the user's own: batches stay as the loader gives them, and its loss is what is lost."""

from __future__ import annotations

import pytest
import torch

from snt_core.audit import frames
from snt_core.audit.auditing import audit, store_of
from snt_core.audit.preparing import Asked, prepare
from snt_core.audit.scene import count_of, score
from snt_core.common.errors import UserError
from snt_core.runs.budget import budget_of
from snt_core.runs.store import Store

FILE = """
import torch
from torch import nn
from snt_core import Task

class Regressor(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)
    def forward(self, numbers, scale):
        return {"answer": self.last(self.first(numbers).tanh()) * scale}

def loader():
    g = torch.Generator().manual_seed(1)
    return [{"numbers": torch.randn(n, 6, generator=g), "scale": torch.ones(1),
             "wanted": torch.randn(n, 2, generator=g)} for n in (4, 4, 3)]

task = Task(
    loss_fn=lambda output, wanted: (output - wanted).square().mean(),
    forward=lambda model, batch: model(batch["numbers"], batch["scale"])["answer"],
    target=lambda batch: batch["wanted"],
    weight=lambda batch: len(batch["numbers"]),
)
"""

IGNORING = """
import torch
from torch import nn
from snt_core import Task

def net():
    torch.manual_seed(0)
    return nn.Linear(6, 3)

def loader():
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(12, 6, generator=g), torch.arange(12) % 3
    y[:5] = -100
    return [(x[:6], y[:6]), (x[6:], y[6:])]

task = Task(loss_fn=nn.CrossEntropyLoss())
"""


@pytest.fixture
def asked(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return Asked(target=f"{path}:Regressor", data=f"{path}:loader", task=f"{path}:task")


def test_the_loss_is_the_tasks_over_all_batches(asked):
    scene = prepare(asked, 60).scene
    assert [count_of(batch) for batch in scene.raw] == [4, 4, 3]
    x, y = (torch.cat([batch[key] for batch in scene.raw]) for key in ("numbers", "wanted"))
    with torch.no_grad():
        expected = (scene.model(x, torch.ones(1))["answer"] - y).square().mean()
    found = score(scene.model, scene, 11)
    assert found.loss == pytest.approx(float(expected), rel=1e-5)
    assert found.top1 is None
    assert [count_of(b) for b in scene.chunks(4, 4)] == [4]
    assert len(scene.chunks(5, 40)) == 3, "all of them, where none begins there"


def test_without_classes_the_loss_says_what_is_lost(asked, tmp_path):
    done = audit(asked, store_of(Store(tmp_path)), budget_of("5m"))
    table = frames.scores(done)
    assert "loss rose by (%)" in table
    assert "mean loss" in frames.findings(done)[0]
    assert {"W8, a scale for each channel", "50% pruned"} <= set(table.setting)
    assert done.left_out.keys() == {"tokens"}
    assert len(frames.curvature(done)) == 3


def test_labels_that_do_not_count_weigh_nothing(tmp_path):
    """Of batches that hold different numbers of them, as everywhere in the methods."""
    path = tmp_path / "mine.py"
    path.write_text(IGNORING)
    asked = Asked(target=f"{path}:net", data=f"{path}:loader", task=f"{path}:task")
    scene = prepare(asked, 60).scene
    x, y = (torch.cat(parts) for parts in zip(*scene.raw, strict=True))
    expected = torch.nn.functional.cross_entropy(scene.model(x), y)
    assert score(scene.model, scene, 12).loss == pytest.approx(float(expected), rel=1e-5)


def test_a_folder_has_no_batches_for_a_task(asked, tmp_path):
    from tests.brought import images

    images(tmp_path / "a", "x")
    wrong = Asked(target=asked.target, data=str(tmp_path / "a"), task=asked.task)
    with pytest.raises(UserError, match="--task needs batches"):
        prepare(wrong, 60)
