"""The examples in the docstrings of the methods run as they stand, one docstring at a time."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from docutils import nodes
from docutils.core import publish_doctree
from torch import Tensor, nn

from snt_core.common.files import PROJECT
from snt_core.common.vision import torchvision

METHODS = PROJECT / "snt_core" / "methods"
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
QUIET = {"report_level": 5, "halt_level": 6, "file_insertion_enabled": False}


def code_of(docstring: str) -> str:
    """Return the literal blocks of a docstring as one program; roles that docutils lacks are text."""
    tree = publish_doctree(docstring, settings_overrides=QUIET)
    return "\n".join(block.astext() for block in tree.findall(nodes.literal_block))


def programs() -> list[Any]:
    found = []
    for file in sorted(METHODS.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            docstring = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
            if docstring and (code := code_of(docstring)):
                name = ".".join(file.relative_to(METHODS).with_suffix("").parts)
                found.append(pytest.param(code, id=f"{name}:{getattr(node, 'name', '')}"))
    return found


class Net(nn.Module):
    """What the examples call `my_model`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.conv1(x)).relu().flatten(1))


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the examples take for granted: a reader's net, data and training loop."""
    torchvision()
    import timm

    monkeypatch.chdir(tmp_path)  # for the files that they write
    torch.manual_seed(0)
    net, images, labels = Net(), torch.randn(32, 3, 8, 8), torch.randint(10, (32,))

    def step(model: nn.Module) -> None:
        nn.functional.cross_entropy(model(images), labels).backward()
        torch.optim.SGD(model.parameters(), lr=0.01).step()

    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 2}
    vit = timm.models.VisionTransformer(**shape, num_classes=10)
    stub = SimpleNamespace(create_model=lambda *_, **__: vit)  # no weights come over the network
    return {
        "my_model": net,
        "model": net,
        "my_vit": vit,
        "images": images,
        "labels": labels,
        "images_u8": torch.randint(256, (32, 3, 8, 8), dtype=torch.uint8),
        "my_normalise": lambda x: x.float().div(255),
        "train": step,
        "step": step,
        "accuracy": lambda model: float((model(images).argmax(1) == labels).float().mean()),
        "batch": (images, labels),
        "torch": torch,
        "nn": nn,
        "timm": stub,
        "plt": plt,
    }


@pytest.mark.parametrize("program", programs())
def test_it_runs(program, names):
    exec(compile(program, "example", "exec"), names)


def test_examples_are_found():
    assert len(programs()) >= 15
