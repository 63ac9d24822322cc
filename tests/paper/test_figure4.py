"""The diagrams of Figure 4 are those of the modules that run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snt_core.nets import build
from snt_core.paper.figure4 import Box, _layout, figure, operations


def labels(block: nn.Module) -> list[str]:
    return [box.label for box in operations(block)]


def called(block: nn.Module, x: torch.Tensor) -> list[nn.Module]:
    """Leaves with an effect, in the order in which a forward pass really calls them."""
    order: list[nn.Module] = []
    for module in block.modules():
        if not list(module.children()) and not isinstance(module, nn.Identity):
            module.register_forward_hook(lambda m, *_: order.append(m))
    block(x)
    return order


def test_a_resnet_block_by_hand():
    conv = ["conv 3x3", "batch norm"]
    block = {v: build("resnet20", v, 10, 0).stages[0] for v in ("base", "preact", "snt")}
    assert labels(block["base"]) == [*conv, "ReLU", *conv, "+", "ReLU"]
    assert labels(block["preact"]) == ["ReLU", *conv, "ReLU", *conv, "+"]
    assert labels(block["snt"]) == ["Eq. (1)", *conv, "Eq. (1)", *conv, "+"]
    assert [b.reads for b in operations(block["snt"]) if b.kind == "sum"] == [(5, -1)]


def test_a_shortcut_with_its_own_operations_is_shown():
    boxes = operations(build("resnet20", "snt", 10, 0).stages[3])
    main, side = boxes[:6], boxes[6:8]
    assert [b.label for b in side] == ["conv 1x1", "batch norm"]
    assert side[0].reads == (-1,)  # it reads the block's input, not what was called before it
    assert boxes[8].reads == (5, 7)
    where = _layout(boxes)
    assert {where[i][0] for i in range(len(main))} == {0.0}
    assert where[6][0] == where[7][0] > 0
    assert where[8] == (0.0, 6.0)


def test_a_mobilenet_block_by_hand():
    """Its own, whatever the net hands it: the activation before it is among them."""
    depthwise, pointwise = ["depthwise conv 3x3", "batch norm"], ["conv 1x1", "batch norm"]
    block = {v: build("mobilenet_v1", v, 10, 0).blocks[0] for v in ("base", "preact", "snt")}
    assert labels(block["base"]) == [*depthwise, "ReLU", *pointwise, "ReLU"]
    assert labels(block["preact"]) == ["ReLU", *depthwise, "ReLU", *pointwise]
    assert labels(block["snt"]) == ["Eq. (1)", *depthwise, "Eq. (1)", *pointwise]


@pytest.mark.parametrize("variant", ["base", "snt"])
def test_a_mixer_layer_is_what_a_forward_pass_calls(variant):
    layer = build("mixer_s", variant, 10, 0).layers[0]
    boxes = [box for box in operations(layer) if box.kind != "sum"]
    order = called(layer, torch.randn(2, 64, 128))
    assert len(boxes) == len(order)
    for box, module in zip(boxes, order, strict=True):
        assert (box.kind == "linear") == isinstance(module, nn.Linear)
        assert (box.label == "Eq. (1)") == (type(module).__name__ == "SNTActivation")
    sums = [box for box in operations(layer) if box.kind == "sum"]
    # token mixing joins the input, channel mixing joins the first sum
    assert [-1 in s.reads for s in sums] == [True, False]
    assert operations(layer).index(sums[0]) in sums[1].reads


def test_blocks_are_drawn_a_column_each():
    two = nn.Sequential(nn.Linear(2, 3))
    drawn = figure({"one": nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "two": two})
    texts = [[t.get_text() for t in ax.texts if t.get_text()] for ax in drawn.axes]
    assert texts == [["linear 2 → 2", "ReLU"], ["linear 2 → 3"]]
    assert operations(nn.Sequential(nn.Identity(), nn.GELU())) == [Box("GELU", "act", (-1,))]
