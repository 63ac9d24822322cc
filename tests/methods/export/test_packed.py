"""Packed files: the bytes by arithmetic, the outputs to the last bit, damage told in one line."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from snt_core.methods.compress.activations import calibrate, quantize_static
from snt_core.methods.compress.pact import prepare_qat
from snt_core.methods.compress.prune import prune_magnitude
from snt_core.methods.compress.quantize import fake_quantize_weights, freeze, quantize_weights
from snt_core.methods.compress.weight_codes import WeightCodes
from snt_core.methods.export.bits import pack, packed_size, unpack
from snt_core.methods.export.encoding import decode, encode
from snt_core.methods.export.packed import KEY, load_packed, save_packed
from snt_core.nets import build

X = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
HEADER = 110  # bytes that name one tensor, at most


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 32, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    layers += [nn.Conv2d(32, 64, 3, groups=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(64, 10)).train()
    model(X)  # statistics of its own
    return model.eval()


KINDS = {
    "float": net,
    "w4": lambda: quantize_weights(net(), 4),
    "w3 per channel": lambda: quantize_weights(net(), 3, per_channel=True, clipping="mse"),
    "pruned": lambda: prune_magnitude(net(), 0.9),
    "almost empty": lambda: prune_magnitude(net(), 0.995),
    "pruned w5": lambda: quantize_weights(prune_magnitude(net(), 0.9), 5, per_channel=True),
    "static": lambda: quantize_static(net(), X, weight_bits=8, act_bits=8),
    "float weights": lambda: calibrate(net(), X, 4),
    "pact": lambda: freeze(prepare_qat(net(), X, weight_bits=4, act_bits=4)),
    "affine": lambda: freeze(prepare_qat(net(), X, weight_bits=2, act_bits=3, form="affine")),
    "half": lambda: quantize_weights(net(), 4).half(),
    "pact bfloat16": lambda: freeze(prepare_qat(net(), X, weight_bits=4, act_bits=4)).bfloat16(),
}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())


def weights(model: nn.Module) -> int:
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))


def rest(model: nn.Module) -> int:
    """Bytes of all that is no weight, quantizers included."""
    total = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    return total - 4 * weights(model)


@given(st.integers(1, 32), st.integers(0, 70), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_numbers_of_any_width_come_back(width, count, seed):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(2**width, (count,), generator=generator)
    packed = pack(numbers, width)
    assert len(packed) == packed_size(count, width) == math.ceil(count * width / 8)
    assert torch.equal(unpack(packed, width, count), numbers)


def test_bits_are_in_order():
    assert pack(torch.tensor([5, 0, 7]), 3).tolist() == [0b10100011, 0b10000000]


def test_more_numbers_than_a_piece_come_back():
    numbers = torch.arange(2**20 + 5) % 8
    assert torch.equal(unpack(pack(numbers, 3), 3, len(numbers)), numbers)


@kinds
def test_outputs_are_equal_to_the_last_bit(make, tmp_path):
    model, file = make(), tmp_path / "net.safetensors"
    x = X.to(next(model.parameters()).dtype)
    save_packed(model, file)
    blank = net(seed=1).to(x.dtype)  # other weights, no quantizers
    before = copy.deepcopy(blank.state_dict())
    again = load_packed(file, blank)
    assert torch.equal(again(x), model(x))
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
        assert again.state_dict()[name].dtype == value.dtype
    assert all(torch.equal(before[k], v) for k, v in blank.state_dict().items())
    # and into one that is compressed already
    assert torch.equal(load_packed(file, again)(x), model(x))
    # what was loaded is saved as the same bytes
    other = tmp_path / "again.safetensors"
    save_packed(again, other)
    assert other.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("per_channel", [False, True])
def test_quantized_weights_take_their_bits(bits, per_channel, tmp_path):
    model = quantize_weights(net(), bits, per_channel=per_channel)
    size = save_packed(model, tmp_path / "net.safetensors")
    payload = weights(model) * bits / 8 + rest(model) + 4 * (106 if per_channel else 3)
    assert payload <= size <= payload + 3 + HEADER * (len(model.state_dict()) + 3 * 2 + 4)
    assert size == (tmp_path / "net.safetensors").stat().st_size


def test_pruned_weights_take_a_bit_and_the_rest_their_values(tmp_path):
    model = prune_magnitude(net(), 0.9)
    zeros = sum(int((m.weight == 0).sum()) for m in (model[0], model[3], model[7]))
    assert zeros == round(0.9 * weights(model))
    size = save_packed(model, tmp_path / "net.safetensors")
    payload = weights(model) / 8 + 4 * (weights(model) - zeros) + rest(model)
    assert size <= payload + 3 + HEADER * (len(model.state_dict()) + 3 * 2 + 4)


def test_resnet20_takes_what_its_bits_say(tmp_path):
    model = build("resnet20", "base", 10, seed=0)
    sizes = {
        "float": save_packed(model, tmp_path / "a"),
        "w8": save_packed(quantize_weights(model, 8), tmp_path / "b"),
        "w4": save_packed(quantize_weights(model, 4), tmp_path / "c"),
        "pruned": save_packed(prune_magnitude(model, 0.9), tmp_path / "d"),
        "both": save_packed(quantize_weights(prune_magnitude(model, 0.9), 4), tmp_path / "e"),
    }
    n = weights(model)
    bits = {"w8": 8, "w4": 4, "pruned": 1 + 3.2, "both": 1 + 0.4}
    for name, each in bits.items():
        saved = sizes["float"] - sizes[name]
        # what naming the parts takes is less than a hundredth of the float file
        assert saved == pytest.approx(n * (4 - each / 8), abs=0.01 * sizes["float"]), name


@pytest.mark.parametrize("shape", [(), (1,), (0,), (0, 3), (7,), (40, 50), (3, 4, 5, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.0])
def test_any_tensor_comes_back_bit_for_bit(shape, dtype, share):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(dtype)
    x = x.masked_fill(torch.rand(shape, generator=generator) < share, 0)
    if x.numel() > 8:
        x.view(-1)[:4] = torch.tensor([-0.0, torch.inf, torch.nan, 1e-45]).to(dtype)
    found = encode(x, None)
    if found is None:
        return
    back = decode(*found)[0]
    same = {8: torch.int64, 4: torch.int32, 2: torch.int16}[x.element_size()]
    assert torch.equal(back.view(same), x.view(same))
    assert back.dtype == dtype
    assert sum(p.numel() * p.element_size() for p in found[1].values()) < x.numel() * (
        x.element_size()
    )


def test_weights_that_left_their_levels_are_kept_as_they_are(tmp_path):
    model = quantize_weights(net(), 4)
    with torch.no_grad():
        model[7].weight[0, 0] += 1e-3
    save_packed(model, tmp_path / "net")
    assert torch.equal(load_packed(tmp_path / "net", net(1))(X), model(X))
    with safe_open(tmp_path / "net", "pt") as file:
        assert "7.weight" in file.keys()  # noqa: SIM118
        assert "3.weight:codes" in file.keys()  # noqa: SIM118


def test_codes_are_those_of_the_rounding():
    """Oracle: integers that were chosen."""
    integers = torch.randint(-7, 8, (5, 6), generator=torch.Generator().manual_seed(0))
    integers[:, 0] = 7
    scale = torch.linspace(1e-9, 3, 5)[:, None]
    model = nn.Sequential(nn.Linear(6, 5))
    with torch.no_grad():
        model[0].weight.copy_(integers * scale)
    layer = quantize_weights(model, 4, per_channel=True)[0]
    kept = layer.weight_codes["weight"]
    assert kept.bits == 4
    assert torch.equal(kept.codes(layer.weight), integers.to(torch.int8))
    assert copy.deepcopy(layer).weight_codes["weight"] is not None
    assert kept.codes(layer.weight * 1.01) is None
    assert WeightCodes(2, torch.tensor(1.0)).codes(torch.tensor([2.0])) is None


def test_tied_weights_are_kept_once(tmp_path):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Linear(64, 64), nn.Linear(64, 64)
            self.decoder.weight = self.encoder.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.decoder(self.encoder(x).relu())

    model, x = Tied(), torch.randn(3, 64)
    assert save_packed(model, tmp_path / "net") < 1.3 * 64 * 64 * 4
    again = load_packed(tmp_path / "net", Tied())
    assert torch.equal(again(x), model(x))
    assert again.decoder.weight is again.encoder.weight
    apart = copy.deepcopy(model)
    apart.decoder.weight = nn.Parameter(apart.encoder.weight + 1)
    save_packed(apart, tmp_path / "apart")
    with pytest.raises(ValueError, match="one in the model, two in the file"):
        load_packed(tmp_path / "apart", Tied())


def test_wrappers_do_not_matter(tmp_path):
    model = quantize_weights(net(), 4)
    save_packed(torch.compile(nn.DataParallel(model)), tmp_path / "net")
    again = load_packed(tmp_path / "net", nn.DataParallel(net(1)))
    assert torch.equal(again(X), model(X))


class Odd(nn.Module):
    def get_extra_state(self) -> dict[str, int]:
        return {"a": 1}

    def set_extra_state(self, state: object) -> None: ...


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fake_quantize_weights(net(), 4), r"'0' rounds its weights .* freeze\(model\)"),
        (lambda: net().to("meta"), "meta device"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), "no shape yet"),
        (lambda: nn.Sequential(Odd()), "is a dict, and only tensors"),
    ],
)
def test_models_without_plain_values_are_refused(make, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        save_packed(make(), tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("packed") / "net.safetensors"
    save_packed(KINDS["static"](), file)
    return file


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda: nn.Linear(3, 3), "no layer '0': is it another architecture"),
        (lambda: net()[:7], "no layer '7'"),
        (lambda: nn.Sequential(*net(), nn.Linear(10, 2)), "the file has no '8.bias', '8.weight'"),
        (lambda: nn.Sequential(*net()[:7], nn.Linear(64, 9)), r"'7.weight' is of shape \(10, 64\)"),
        (lambda: net().double(), "convert the model first"),
        (lambda: freeze(prepare_qat(net(), X, weight_bits=4, act_bits=4)), None),
        (lambda: fake_quantize_weights(net(), 4), r"freeze\(model\) first"),
    ],
)
def test_another_model_is_refused_in_one_line(packed, other, said):
    if said is None:  # another quantizer is replaced
        assert torch.equal(load_packed(packed, other())(X), KINDS["static"]()(X))
        return
    with pytest.raises(ValueError, match=said) as error:
        load_packed(packed, other())
    assert "\n" not in str(error.value)


def test_a_quantizer_that_the_file_lacks_is_told(tmp_path):
    save_packed(net(), tmp_path / "net")
    with pytest.raises(ValueError, match="'0' quantizes its input in the model and not in"):
        load_packed(tmp_path / "net", KINDS["static"]())


@pytest.mark.parametrize("length", [0, 4, 8, 50, 1000, -1])
def test_a_truncated_file_is_told(packed, tmp_path, length):
    (tmp_path / "short").write_bytes(packed.read_bytes()[:length])
    with pytest.raises(ValueError, match="cannot be read") as error:
        load_packed(tmp_path / "short", net())
    assert "\n" not in str(error.value)


def test_a_missing_file_a_folder_and_a_pickle_are_told(tmp_path):
    torch.save({"a": 1}, tmp_path / "pickle")
    for name in ("nothing", ".", "pickle"):
        with pytest.raises(ValueError, match="cannot be read"):
            load_packed(tmp_path / name, net())


def test_a_flipped_bit_is_told(packed, tmp_path):
    content = bytearray(packed.read_bytes())
    content[-20] ^= 1
    (tmp_path / "flipped").write_bytes(content)
    with pytest.raises(ValueError, match="damaged: its checksum"):
        load_packed(tmp_path / "flipped", net())


def contents(packed: Path) -> tuple[dict[str, Tensor], dict]:
    with safe_open(packed, "pt") as file:
        names = list(file.keys())
        return {n: file.get_tensor(n).clone() for n in names}, json.loads(file.metadata()[KEY])


def lie(packed: Path, path: Path, change) -> None:
    """A file that contradicts itself under a checksum that is right."""
    from snt_core.methods.export.packed import _digest

    tensors, about = contents(packed)
    change(tensors, about)
    save_file(tensors, path, {KEY: json.dumps(about | {"sha256": _digest(tensors)})})


def entry(at: int, value: object):
    def change(tensors: dict, about: dict) -> None:
        about["encoded"]["3.weight"][at] = value

    return change


def quantizer(**fields: object):
    def change(tensors: dict, about: dict) -> None:
        about["quantizers"]["3"] |= fields

    return change


def part(name: str, value: Tensor | None):
    def change(tensors: dict, about: dict) -> None:
        del tensors[name]
        if value is not None:
            tensors[name] = value

    return change


LIES = {
    "shape": entry(0, [32, 32, 3, 3]),
    "negative": entry(0, [-64, -16, 3, 3]),
    "huge": entry(0, [2**40, 2**40]),
    "dtype": entry(1, "float16"),
    "pickle": entry(1, "object"),
    "places": entry(2, "elsewhere"),
    "mask": entry(2, "mask"),
    "count": entry(3, 5),
    "bits": entry(4, 9),
    "fewer bits": entry(4, 3),
    "no bits": entry(4, None),
    "float bits": entry(4, 8.0),
    "true": entry(4, True),
    "no entry": lambda tensors, about: about["encoded"].pop("3.weight"),
    "entry": lambda tensors, about: about["encoded"].update({"3.weight": "raw"}),
    "entries": lambda tensors, about: about.update(encoded=[1]),
    "version": lambda tensors, about: about.update(version=7),
    "no version": lambda tensors, about: about.pop("version"),
    "tied": lambda tensors, about: about.update(tied={"a": ["b"]}),
    "tied to nothing": lambda tensors, about: about.update(tied={"a": "b"}),
    "tied twice": lambda tensors, about: about.update(tied={"7.bias": "3.bias"}),
    "missing": part("1.running_mean", None),
    "no codes": part("3.weight:codes", None),
    "no scale": part("3.weight:scale", None),
    "short codes": part("3.weight:codes", torch.zeros(3, dtype=torch.uint8)),
    "large codes": part("3.weight:codes", torch.full((9216,), 255, dtype=torch.uint8)),
    "scale shape": part("3.weight:scale", torch.ones(7)),
    "scale zero": part("3.weight:scale", torch.tensor(0.0)),
    "scale nan": part("3.weight:scale", torch.tensor(torch.nan)),
    "scale int": part("3.weight:scale", torch.tensor(1)),
    "act scale": part("3.act_quantizer.scale", torch.tensor(-1.0)),
    "act nan": part("3.act_quantizer.scale", torch.tensor(torch.nan)),
    "zero point": part("3.act_quantizer.zero_point", torch.tensor(256, dtype=torch.int32)),
    "act bits": quantizer(act_bits=1),
    "kind": quantizer(kind="Pickle"),
    "layer": lambda tensors, about: about["quantizers"].update({"9": about["quantizers"]["3"]}),
    "relu": lambda tensors, about: about["quantizers"].update({"2": about["quantizers"]["3"]}),
    "list": lambda tensors, about: about["quantizers"].update({"3": []}),
}


@pytest.mark.parametrize("change", LIES.values(), ids=LIES.keys())
def test_files_that_lie_are_told_in_one_line(packed, tmp_path, change):
    lie(packed, tmp_path / "lie", change)
    with pytest.raises(ValueError, match=r"file '.*lie'") as error:
        load_packed(tmp_path / "lie", net())
    assert "\n" not in str(error.value)


def test_positions_that_lie_are_told():
    x = torch.zeros(1000)
    x[[3, 500]] = 1.0
    found = encode(x, None)
    assert found is not None
    entry, parts = found
    assert entry.places == "positions"
    for wrong in ([500, 3], [3, 3], [3, 1000]):
        with pytest.raises(ValueError, match="positions that do not rise, or lie beyond"):
            decode(entry, parts | {"positions": pack(torch.tensor(wrong), 10)})


def test_a_file_of_others_is_told(tmp_path):
    save_file(net().state_dict(), tmp_path / "plain")
    with pytest.raises(ValueError, match="not of save_packed"):
        load_packed(tmp_path / "plain", net())


def test_layers_of_every_kind_that_is_rounded_are_packed(tmp_path):
    """Recurrent, attention, transposed and normalised weights, from what freeze left on them."""

    def mixed() -> nn.Module:
        torch.manual_seed(0)
        layers = [nn.utils.weight_norm(nn.Linear(16, 16)), Last(nn.LSTM(16, 16, batch_first=True))]
        layers += [nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)]
        layers += [nn.ConvTranspose1d(5, 4, 3, groups=1)]
        return nn.Sequential(*layers).eval()

    x = torch.randn(3, 5, 16)
    model = mixed()
    model(x)  # old-style normalisation keeps a graph, which copies must not trip over
    small = quantize_static(model, x, weight_bits=4, act_bits=8, per_channel=True)
    size = save_packed(small, tmp_path / "net")
    rounded = [m for m in small.modules() if getattr(m, "weight_codes", {})]
    count = sum(getattr(m, name).numel() for m in rounded for name in m.weight_codes)
    assert len(rounded) == 7
    other = sum(t.numel() * t.element_size() for t in small.state_dict().values()) - 4 * count
    scales = 4 * sum(c.scale.numel() for m in rounded for c in m.weight_codes.values())
    tensors = len(small.state_dict()) + 2 * len(rounded) + 8
    assert size <= count / 2 + other + scales + HEADER * tensors
    again = load_packed(tmp_path / "net", small)
    assert torch.equal(again(x), small(x))


class Last(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0]
