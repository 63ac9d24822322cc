"""Every layer kind is compressed as it is used, refused by name, or named as untouched."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torch.nn.utils import prune as torch_prune

from snt_core.common.vision import torchvision
from snt_core.methods.compress.pact import prepare_qat
from snt_core.methods.compress.prune import (
    magnitude_masks,
    prune_iterative,
    prune_magnitude,
    sparsity,
)
from snt_core.methods.compress.pruner import MagnitudePruner
from snt_core.methods.compress.quantize import fake_quantize_weights, freeze, quantize_weights
from snt_core.methods.models.coverage import coverage
from snt_core.methods.models.folding import plain
from snt_core.methods.models.wrapping import copied


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embedding(tokens).mean(1)))


class Tagger(nn.Module):
    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn, self.head = rnn, nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


class Attention(nn.Module):
    def __init__(self, **sizes: int) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(6, 2, **sizes), nn.Linear(6, 3)
        self.times = sizes.get("kdim", 6) // 6

    def forward(self, x: Tensor) -> Tensor:
        key = x.repeat(1, 1, self.times)
        return self.head(self.attention(x, key, key)[0])


class Matrix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.matrix, self.head = nn.Parameter(torch.randn(6, 6)), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x @ self.matrix)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.Bilinear(6, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.pair(x, x)


def first(change, *args, **kwargs) -> nn.Module:
    """Return a small net with its first layer changed."""
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    change(model[0], *args, **kwargs)
    return model


def masked_twice(layer: nn.Module) -> None:
    torch_prune.l1_unstructured(layer, "weight", 0.3)
    torch_prune.random_unstructured(layer, "weight", 0.1)


normed = parametrizations.weight_norm
NETS = {
    "attention": lambda: Attention(),
    "attention to another width": lambda: Attention(kdim=12, vdim=12),
    "encoder": lambda: nn.Sequential(
        nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), 1)
    ),
    "LSTM": lambda: Tagger(nn.LSTM(6, 6, 2)),
    "both ways, projected": lambda: Tagger(nn.LSTM(6, 8, bidirectional=True, proj_size=3)),
    "GRU": lambda: Tagger(nn.GRU(6, 6)),
    "cell": lambda: Tagger(nn.LSTMCell(6, 6)),
    "bilinear": Pair,
    "matrix of its own": Matrix,
    "weight norm": lambda: first(normed),
    "spectral norm": lambda: first(parametrizations.spectral_norm),
    "orthogonal": lambda: first(parametrizations.orthogonal),
    "old weight norm": lambda: first(weight_norm),
    "old spectral norm": lambda: first(spectral_norm),
    "masked": lambda: first(torch_prune.l1_unstructured, "weight", 0.4),
    "masked twice": lambda: first(masked_twice),
    "LSTM, weight norm": lambda: Tagger(
        parametrizations.weight_norm(nn.LSTM(6, 6), "weight_hh_l0")
    ),
    "LSTM, old weight norm": lambda: Tagger(weight_norm(nn.LSTM(6, 6), "weight_hh_l0")),
    "LSTM, masked": lambda: Tagger(torch_prune.l1_unstructured(nn.LSTM(6, 6), "weight_ih_l0", 0.3)),
    "compiled": lambda: torch.compile(nn.Linear(6, 3), backend="eager"),
    "parallel": lambda: nn.DataParallel(nn.Linear(6, 3)),
}


def built(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a net that has just run, as it is in a training loop, its input and its output."""
    torch.manual_seed(0)
    model, x = NETS[name](), torch.randn(5, 2, 6)
    if name == "cell":
        x = x[0]
    model.train()(x)
    return model.eval(), x, model(x).detach()


def multiplied(model: nn.Module) -> list[Tensor]:
    """Return the matrices that a plain net multiplies with, by its class and not by our rules."""
    return [
        p
        for name, p in model.named_parameters()
        if p.ndim > 1 and name.rpartition(".")[2] != "matrix"
    ]


def two_tensors(layer: nn.Linear) -> nn.Linear:
    """A weight of a class that stands for other tensors, as sharded and quantized ones do."""
    from torch.testing._internal.two_tensor import TwoTensor

    layer.weight = nn.Parameter(TwoTensor(layer.weight.data, layer.weight.data))
    return layer


def zeros(weights: list[Tensor]) -> float:
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


@pytest.mark.parametrize("name", NETS)
def test_pruning_reaches_every_weight_and_says_how_many(name: str) -> None:
    model, x, y = built(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    dense, half = prune_magnitude(model, 0.0), prune_magnitude(model, 0.5)
    assert torch.equal(dense(x), y)
    assert half(x).isfinite().all()
    assert sparsity(half) == zeros(multiplied(half)) == pytest.approx(0.5, abs=0.01)
    assert sparsity(model) == zeros(multiplied(dense))
    for key, mask in magnitude_masks(model, 0.5).items():
        assert not half.get_parameter(key)[~mask].any()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    sizes = {key: p.numel() for key, p in half.named_parameters()}
    found = coverage(half)
    assert found.done
    assert {*found.touched, *found.untouched} == {*sizes}
    assert found.share == sum(p.numel() for p in multiplied(half)) / sum(sizes.values())


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_fake_quantized_nets_train_and_freeze_to_the_same_outputs(
    name: str, per_channel: bool
) -> None:
    model, x, y = built(name)
    student = fake_quantize_weights(model, 4, per_channel=per_channel, clipping="mse")
    student.train()(x).square().sum().backward()
    with torch.no_grad():
        for p in student.parameters():
            assert p.grad is not None
            p -= 0.01 * p.grad
    copy.deepcopy(student)  # also after a pass
    small = freeze(student).eval()
    assert torch.equal(small(x), student.eval()(x))
    assert torch.equal(model(x), y)
    for weight in multiplied(small):
        rows = weight.flatten(1) if per_channel else weight.reshape(1, -1)
        assert all(len(row.unique()) <= 15 for row in rows)
    assert [*small.state_dict()] == [*prune_magnitude(model, 0.5).state_dict()]
    assert set(coverage(small).touched.values()) == {"rounded to 4 bits"}
    assert coverage(student).share == pytest.approx(coverage(small).share, abs=0.03)
    torch.save(small, "/dev/null")  # plain again


@pytest.mark.parametrize("clipping", ["max", "mse"])
def test_a_weight_tied_to_an_embedding_is_rounded_in_both_and_stays_tied(clipping: str) -> None:
    torch.manual_seed(0)
    model, tokens = Tied().eval(), torch.randint(20, (5, 3))
    student = fake_quantize_weights(model, 3, clipping=clipping)
    small = freeze(student)
    assert small.head.weight is small.embedding.weight
    assert torch.equal(small(tokens), student(tokens))
    assert len(small.embedding.weight.unique()) <= 7
    assert prune_magnitude(model, 0.5).embedding.weight.eq(0).float().mean() == 0.5
    assert coverage(small).share == coverage(model).share == 1


def test_layers_that_share_a_weight_have_the_most_bits_that_one_asks_for() -> None:
    model = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(4)))
    model[1].weight = model[3].weight
    small = quantize_weights(model, 2, edge_bits=8)
    assert small[1].weight is small[3].weight
    assert [len(layer.weight.unique()) > 3 for layer in small] == [True, True, False, True]


def test_freeze_parts_a_tie_to_what_is_not_rounded() -> None:
    """As where a training loop ties a weight behind the back of the quantizer."""
    student = fake_quantize_weights(nn.Sequential(nn.Linear(4, 4, bias=False)), 2)
    student.add_module("1", nn.Linear(4, 4, bias=False))
    student[1].weight = student[0].parametrizations.weight.original
    x = torch.randn(3, 4)
    assert torch.equal(freeze(student)(x), student(x))


def test_masks_of_torch_hold_while_a_quantized_net_is_trained() -> None:
    model = first(torch_prune.l1_unstructured, "weight", 0.5)
    gone = model[0].weight == 0
    student = fake_quantize_weights(model, 8)
    optimizer = torch.optim.SGD(student.parameters(), 0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        student(torch.randn(8, 6)).square().sum().backward()
        optimizer.step()
    assert (freeze(student)[0].weight[gone] == 0).all()


def test_spectral_norm_keeps_its_state_while_it_is_read() -> None:
    model = first(parametrizations.spectral_norm).train()
    before = copy.deepcopy(model.state_dict())
    sparsity(model), prune_magnitude(model, 0.5), quantize_weights(model, 4)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model[0].parametrizations.weight.training


def test_a_second_parametrization_of_a_copy_leaves_the_original_whole() -> None:
    """torch keeps parametrized weights in a class that copies share."""
    model = nn.Sequential(nn.Bilinear(3, 3, 3))
    parametrizations.weight_norm(model[0], "bias", dim=None)
    fake_quantize_weights(model, 4)
    assert isinstance(model[0].weight, nn.Parameter)


@pytest.mark.parametrize("name", ["attention", "LSTM", "weight norm", "old weight norm", "masked"])
def test_activation_aware_training_rounds_the_same_weights(name: str) -> None:
    model, x, _ = built(name)
    student = prepare_qat(model, x, weight_bits=4, act_bits=8, edge_bits=6)
    small = freeze(student)
    assert torch.equal(small(x), student(x))
    assert coverage(small).touched.keys() == coverage(plain(model)).touched.keys()
    if name == "masked":
        assert len(student[0].parametrizations.weight) == 2  # the mask and the levels
    inputs = coverage(small)
    assert "head" in inputs.quantized_inputs or "2" in inputs.quantized_inputs


@pytest.mark.parametrize("name", ["attention", "LSTM", "cell", "weight norm", "masked", "encoder"])
def test_rounds_of_pruning_reach_the_same_weights(name: str) -> None:
    model, x, _ = built(name)

    def finetune(student: nn.Module, after_step) -> None:
        optimizer = torch.optim.SGD(student.parameters(), 0.01, momentum=0.9)
        for i in range(4):
            optimizer.zero_grad()
            student(x).square().sum().backward()
            optimizer.step()
            after_step((i + 1) / 4)
        copy.deepcopy(student)

    for level, pruned in prune_iterative(model, (0.5, 0.8), finetune):
        assert sparsity(pruned) == zeros(multiplied(pruned)) == pytest.approx(level, abs=0.01)
        assert (
            coverage(pruned).touched.keys() == coverage(prune_magnitude(model, 0.5)).touched.keys()
        )


def test_one_layer_alone_is_pruned_in_rounds() -> None:
    [(_, pruned)] = prune_iterative(nn.Linear(4, 4), [0.5], lambda model, after: after(1))
    assert sparsity(pruned) == 0.5


@pytest.mark.parametrize("build", ["torchvision", "timm"])
def test_all_matrices_of_a_vision_transformer_are_reached(build: str) -> None:
    if build == "torchvision":
        sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
        model = torchvision().models.VisionTransformer(32, 8, num_classes=5, **sizes)
    else:
        torchvision()
        import timm

        sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
        model = timm.create_model("vit_tiny_patch16_224", num_classes=5, **sizes)
    found = coverage(model)
    matrices = {n for n, p in model.named_parameters() if p.ndim > 1}
    tokens = {n for n in matrices if "token" in n or "pos" in n}
    assert set(found.touched) == matrices - tokens
    assert sum("VisionTransformer itself" in r or "Encoder" in r for r in found.untouched.values())
    half = prune_magnitude(model, 0.5)
    assert sparsity(half) == zeros([half.get_parameter(n) for n in found.touched])


# what is said -------------------------------------------------------------------------------


def test_a_preflight_names_each_parameter_with_a_reason() -> None:
    model = nn.ModuleDict(
        {
            "table": nn.Embedding(5, 6),
            "bag": nn.EmbeddingBag(5, 6),
            "net": Attention(),
            "norm": nn.LayerNorm(6),
            "rnn": nn.GRU(6, 6),
            "own": Matrix(),
            "conv": nn.ConvTranspose1d(6, 6, 3),
        }
    )
    found = coverage(model)
    assert not found.done
    assert set(found.touched) == {
        "net.attention.in_proj_weight",
        "net.attention.out_proj.weight",
        "net.head.weight",
        "rnn.weight_ih_l0",
        "rnn.weight_hh_l0",
        "own.head.weight",
        "conv.weight",
    }
    assert found.untouched["table.weight"] == "a table that is looked up"
    assert found.untouched["bag.weight"] == "a table that is looked up"
    assert found.untouched["norm.weight"] == "of a normalisation"
    assert found.untouched["rnn.bias_ih_l0"] == "a bias"
    assert "Matrix itself" in found.untouched["own.matrix"]
    assert set(found.quantized_inputs) == {"net.head", "own.head", "conv"}
    assert "MultiheadAttention" in found.float_inputs["net.attention.out_proj"]
    assert "GRU" in found.float_inputs["rnn"]
    assert found.share == sum(model.get_parameter(n).numel() for n in found.touched) / sum(
        p.numel() for p in model.parameters()
    )
    lines = str(found).splitlines()
    assert len(lines) < 15
    assert lines[0].startswith("weights would be touched: 7")


def test_what_was_done_is_added_up_and_carried_by_copies() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))
    found = coverage(copy.deepcopy(quantize_weights(prune_magnitude(model, 0.5), 4)))
    assert found.touched == {"0.weight": "pruned to 0.5 of all weights, rounded to 4 bits"}
    assert found.float_inputs == {"0": "not asked for, or not reached by the calibration"}
    assert not coverage(model).done


# what is refused ----------------------------------------------------------------------------

METHODS = [
    lambda m: prune_magnitude(m, 0.5),
    lambda m: magnitude_masks(m, 0.5),
    lambda m: quantize_weights(m, 4),
    lambda m: quantize_weights(m, 4, per_channel=True, clipping="mse"),
]


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: nn.LazyLinear(3), "not initialised.*run one batch"),
        (lambda: nn.Linear(3, 3, device="meta"), "meta device"),
        (lambda: nn.Linear(3, 3, dtype=torch.complex64), "complex64"),
        (lambda: nn.Linear(3, 3).to(torch.float8_e4m3fn), "float8"),
        (lambda: two_tensors(nn.Linear(3, 3)), "TwoTensor"),
    ],
)
def test_weights_without_real_values_are_refused_by_name(layer, words: str) -> None:
    model = nn.Sequential(nn.Linear(3, 3), layer())
    for method in [*METHODS, sparsity]:
        with pytest.raises(ValueError, match=rf"'1\.weight' .*{words}"):
            method(model)
    assert "1.weight" in coverage(model).untouched


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_that_are_not_finite_are_refused_by_name(value: float, dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 3)).to(dtype)
    with torch.no_grad():
        model[1].weight_hh_l0[0, :2] = value
    for method in METHODS:
        with pytest.raises(ValueError, match=r"'1\.weight_hh_l0' is not finite in 2 of 36"):
            method(model)


def test_a_weight_normalised_to_nothing_is_refused_by_name() -> None:
    model = first(normed)
    with torch.no_grad():
        model[0].parametrizations.weight.original1[0] = 0
    for method in METHODS:
        with pytest.raises(ValueError, match=r"'0\.weight' is not finite"):
            method(model)


def test_what_is_rounded_in_each_pass_is_neither_pruned_nor_rounded_again() -> None:
    student = fake_quantize_weights(nn.Linear(3, 3), 4)
    for method in METHODS:
        with pytest.raises(ValueError, match="'weight' is rounded in each pass"):
            method(student)


def test_standardised_weights_are_rounded_but_not_pruned() -> None:
    torchvision()
    from timm.layers import ScaledStdConv2d, StdConv2d

    for kind in (StdConv2d, ScaledStdConv2d):
        model = nn.Sequential(kind(3, 4, 3), nn.Conv2d(4, 4, 1))
        for method in (*METHODS[:2], lambda m: MagnitudePruner(m, 0.5)):
            with pytest.raises(
                ValueError, match=rf"'0\.weight' is standardised by {kind.__name__}"
            ):
                method(model)
        assert "refused by pruning" in coverage(model).touched["0.weight"]
        assert len(quantize_weights(model, 2)[0].weight.unique()) <= 3


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0)])
def test_layers_without_entries_pass(sizes: tuple[int, int]) -> None:
    model = nn.Sequential(nn.Linear(*sizes), nn.Linear(*reversed(sizes)))
    model.append(nn.ConvTranspose1d(*sizes, 2))
    for method in METHODS:
        method(model)
    assert sparsity(model) == 0


def test_plain_nets_are_not_copied_to_be_read() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    assert plain(model) is model
    assert plain(torch.compile(model, backend="eager")) is model
    assert torch.equal(copied(model)[0].weight, model[0].weight)


def test_models_without_layers_are_named_and_described() -> None:
    model, x = nn.Sequential(nn.Linear(3, 3)).eval(), torch.randn(2, 3)
    exported = torch.export.export(model, (x,)).module()
    for traced in (torch.jit.script(model), exported):
        with pytest.raises(ValueError, match="as it was before it was traced"):
            prune_magnitude(traced, 0.5)
        assert set(coverage(traced).untouched) == {"0.weight", "0.bias"}
    with pytest.raises(ValueError, match=r"to act on$"):
        prune_magnitude(nn.ReLU(), 0.5)
    with pytest.raises(ValueError, match=r"sparsity is 'half'"):
        prune_magnitude(model, "half")


def test_what_torch_quantized_is_named() -> None:
    model = torch.ao.quantization.quantize_dynamic(
        nn.Sequential(nn.Conv1d(3, 3, 1), nn.Linear(3, 3)), {nn.Linear}
    )
    assert coverage(model).untouched["1.weight"] == "integers of torch's own quantization"
