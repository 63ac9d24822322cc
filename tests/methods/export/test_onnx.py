"""ONNX files of compressed models, run by onnxruntime against the models themselves."""

from __future__ import annotations

import builtins
import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from snt_core.methods.compress.activations import calibrate, quantize_static
from snt_core.methods.compress.pact import prepare_qat
from snt_core.methods.compress.prune import prune_magnitude
from snt_core.methods.compress.quantize import codes, fake_quantize_weights, quantize_weights
from snt_core.methods.compress.weight_codes import keep_codes
from snt_core.methods.export.latency import latency
from snt_core.methods.export.onnx import export_onnx, onnx_model

X, OTHER = (torch.randn(16, 3, 10, 10, generator=torch.Generator().manual_seed(i)) for i in (0, 1))


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    layers += [nn.Conv2d(16, 16, 3, groups=4), nn.BatchNorm2d(16), nn.GELU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
    model = nn.Sequential(*layers).train()
    with torch.no_grad():
        model[1].weight.normal_()  # of either sign
        model[1].weight[3] = 0
        model[1].bias.normal_()
    model(X)  # statistics of its own
    return model.eval()


def ran(model: object, x: Tensor) -> Tensor:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options)
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return torch.from_numpy(out)


def nodes(model: object, kind: str) -> int:
    return sum(node.op_type == kind for node in model.graph.node)


@pytest.mark.parametrize(
    ("make", "quantized", "far"),
    [
        (net, (0, 0), 1e-5),
        (lambda: quantize_weights(net(), 4, per_channel=True), (0, 3), 1e-5),
        (lambda: prune_magnitude(net(), 0.5), (0, 0), 1e-5),
        (lambda: calibrate(net(), X, 4), (3, 3), 1e-5),
        # integer kernels round biases, which moves few numbers to the next of 256 levels
        (lambda: quantize_static(net(), X, weight_bits=8, act_bits=8), (3, 6), 0.02),
        (
            lambda: quantize_static(net(), X, weight_bits=8, act_bits=8, per_channel=True),
            (3, 6),
            0.02,
        ),
        (lambda: prepare_qat(net(), X, weight_bits=4, act_bits=4, edge_bits=4), (3, 6), 1e-5),
    ],
    ids=["float", "weights", "pruned", "activations", "static", "per channel", "pact"],
)
def test_the_file_computes_what_the_model_does(make, quantized, far):
    model = make()
    before = copy.deepcopy(model.state_dict())
    found = onnx_model(model, X[:1])
    onnx.checker.check_model(found, full_check=True)
    assert (nodes(found, "QuantizeLinear"), nodes(found, "DequantizeLinear")) == quantized
    with torch.no_grad():
        expected = model.eval()(OTHER)
    out = ran(found, OTHER)  # a batch of another size than the example
    assert (out - expected).norm() <= far * expected.norm()
    assert torch.equal(out.argmax(1), expected.argmax(1))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_weights_are_integers_and_norms_are_in_their_scales():
    model = quantize_static(net(), X, weight_bits=3, act_bits=8)
    found = onnx_model(model, X)
    assert nodes(found, "BatchNormalization") == 0
    made = {name: node for node in found.graph.node for name in node.output}
    values = {i.name: onnx.numpy_helper.to_array(i) for i in found.graph.initializer}
    convs = [node for node in found.graph.node if node.op_type == "Conv"]
    for conv, layer in zip(convs, (model[0], model[3]), strict=True):
        codes, scale = (values[name] for name in made[conv.input[1]].input[:2])
        assert codes.dtype == np.int8
        assert np.abs(codes).max() <= 3
        kept = layer.weight_codes["weight"].codes(layer.weight).numpy()
        # a norm that multiplies by a negative number turns the signs
        assert np.array_equal(
            np.abs(codes[scale > 0]),
            np.abs(kept[scale > 0]) * (codes != 0).any((1, 2, 3), keepdims=True)[scale > 0],
        )
        assert (scale > 0).all()


def test_fewer_bits_clip_at_the_outermost_levels():
    model = calibrate(net(), X, 3)
    found = onnx_model(model, X)
    assert nodes(found, "Clip") == 3
    far = 100 * OTHER
    with torch.no_grad():
        torch.testing.assert_close(ran(found, far), model(far), rtol=1e-4, atol=1e-4)


def test_transposed_convolutions_and_several_arguments(tmp_path: Path):
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.out = nn.ConvTranspose2d(3, 4, 2, 2), nn.Conv2d(7, 2, 1)

        def forward(self, x: Tensor, other: Tensor) -> Tensor:
            return self.out(torch.cat([self.up(x), other], 1))

    torch.manual_seed(0)
    model = quantize_weights(Two(), 4, per_channel=True)
    x, other = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 8, 8)
    size = export_onnx(model, (x, other), tmp_path / "two.onnx")
    assert size == (tmp_path / "two.onnx").stat().st_size
    session = ort.InferenceSession(tmp_path / "two.onnx")
    given = {i.name: v.numpy() for i, v in zip(session.get_inputs(), (x, other), strict=True)}
    np.testing.assert_allclose(
        session.run(None, given)[0], model(x, other).detach(), rtol=1e-4, atol=1e-5
    )


def test_attention_is_exported_and_its_packed_weight_is_integers():
    torch.manual_seed(0)
    attention = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    x, other = torch.randn(2, 7, 16), torch.randn(5, 7, 16)
    model = nn.Sequential(nn.Linear(16, 16), attention, nn.Linear(16, 3)).eval()
    model = calibrate(quantize_weights(model, 8, per_channel=True), x, 4)
    inner = model[1].self_attn
    integers, scale = codes(inner.in_proj_weight, 4, True)
    with torch.no_grad():
        inner.in_proj_weight.copy_(integers * scale)
    keep_codes(inner, "in_proj_weight", 4, scale)
    found = onnx_model(model, x)
    kinds = {onnx.numpy_helper.to_array(i).dtype.name for i in found.graph.initializer}
    assert "int8" in kinds
    wide = [i for i in found.graph.initializer if list(i.dims) == [48, 16]]
    assert [i.data_type for i in wide] == [onnx.TensorProto.INT8]
    with torch.no_grad():
        torch.testing.assert_close(ran(found, other), model(other), rtol=0, atol=1e-5)


def test_files_take_a_byte_for_each_weight(tmp_path: Path):
    model = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 300))
    x = torch.randn(4, 300)
    plain = export_onnx(model, x, tmp_path / "float.onnx")
    small = export_onnx(
        quantize_static(model, x, weight_bits=8, act_bits=8), x, tmp_path / "int8.onnx"
    )
    assert plain == pytest.approx(4 * 180_600, rel=0.02)
    assert small == pytest.approx(180_000 + 4 * 600, rel=0.02)


def test_half_precision_is_refused():
    with pytest.raises(
        ValueError, match=r"is torch.float16; export to ONNX is for model.float\(\)"
    ):
        onnx_model(quantize_weights(net(), 4).half(), X.half())


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **options: object) -> None:
        super().__init__()
        self.body = kind(4, 3, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)[0]


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}], ids=str)
def test_an_lstm_with_a_projection_is_refused_by_name(options, tmp_path: Path):
    model, x = Recurrent(nn.LSTM, proj_size=2, **options), torch.randn(2, 5, 4)
    words = r"^layer 'body' is an LSTM with proj_size=2[^\n]*$"
    with pytest.raises(ValueError, match=words):
        export_onnx(model, x, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=words):
        latency(model, model, x)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_told_in_one_line():
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if x.sum() > 0 else x

    with pytest.raises(ValueError, match="cannot be exported to ONNX") as error:
        onnx_model(Branches(), X)
    assert "\n" not in str(error.value)


def test_a_missing_package_is_told_with_how_to_get_it(monkeypatch):
    load = builtins.__import__

    def without(name: str, *args: object, **kwargs: object):
        if name.split(".")[0] == "onnxscript":
            raise ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript")
        return load(name, *args, **kwargs)

    import importlib

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(
        ImportError, match=r'onnxscript is missing: pip install "snt-core\[export\]"'
    ):
        onnx_model(fake_quantize_weights(net(), 4), X)
