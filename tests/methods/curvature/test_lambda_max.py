"""Oracles: dense float64 Hessians, a closed form, PyHessian and curvlinops."""

from __future__ import annotations

import copy

import curvlinops
import numpy as np
import pyhessian
import pytest
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from snt_core.methods.compress.activations import quantize_static
from snt_core.methods.compress.prune import prune_magnitude
from snt_core.methods.curvature import lambda_max as curvature
from snt_core.methods.curvature.exact import exact_copy
from snt_core.methods.curvature.hessian import Hessian, _forward_slope, _reverse_slope
from snt_core.methods.curvature.lambda_max import hvp, lambda_max
from snt_core.methods.curvature.rise import loss_rises
from snt_core.methods.curvature.scale_free import adaptive_sharpness
from snt_core.methods.curvature.spectrum import hessian_trace
from snt_core.methods.tasks.objective import Objective

N, CLASSES = 37, 3


class Shifted(nn.Module):
    """where(x - g > 0, x - g, b (x - g)) + z per channel: the activation of the paper's Eq. (1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(0.1 * torch.randn(channels, 1, 1))
        self.b = nn.Parameter(torch.full((channels, 1, 1), 0.25))
        self.z = nn.Parameter(0.1 * torch.randn(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        shifted = x - self.g
        return torch.where(shifted > 0, shifted, self.b * shifted) + self.z


class Attention(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.embed, self.norm, self.head = nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, CLASSES)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x.flatten(1, 2)))  # B C H W -> B N C
        if self.fused:
            x = x + F.scaled_dot_product_attention(x, x, x)
        else:
            x = x + self.attend(x, x, x, need_weights=False)[0]
        return self.head(F.gelu(x).mean(1))


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 2, groups=4),
        Shifted(4),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.LayerNorm(4),
        nn.Linear(4, 5),
        nn.GELU(),
        nn.Dropout(0.5),
        nn.Linear(5, CLASSES),
    )


def plain_net() -> nn.Module:
    layers = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), Shifted(4)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, CLASSES))


NETS = {
    "plain": plain_net,
    "conv": conv_net,
    "mha": lambda: Attention(fused=False),
    "sdpa": lambda: Attention(fused=True),
}


def problem(name: str = "conv", dtype: torch.dtype = torch.float64) -> tuple:
    torch.manual_seed(0)
    model, images = NETS[name]().to(dtype), torch.randn(N, 2, 4, 4, dtype=dtype)
    labels = torch.randint(CLASSES, (N,))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.2, 2.0)
            nn.init.uniform_(module.weight, 0.5, 2.0)
    return model.train(), images, labels


def dense(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    # not torch.func.hessian: vmap over forward mode is wrong for LayerNorm's weight (torch 2.13)
    model = copy.deepcopy(model).eval()
    params = dict(model.named_parameters())

    def loss(flat: Tensor) -> Tensor:
        pieces = flat.split([p.numel() for p in params.values()])
        named = {k: v.view_as(p) for (k, p), v in zip(params.items(), pieces, strict=True)}
        with sdpa_kernel(SDPBackend.MATH):
            return F.cross_entropy(functional_call(model, named, (images,)), labels)

    return torch.autograd.functional.hessian(loss, parameters_to_vector(params.values()).detach())


def gradient(model: nn.Module, images: Tensor, labels: Tensor, at: Tensor) -> Tensor:
    model = copy.deepcopy(model).eval()
    vector_to_parameters(at, model.parameters())
    loss = F.cross_entropy(model(images), labels)
    return parameters_to_vector(
        torch.autograd.grad(loss, model.parameters(), materialize_grads=True)
    )


@pytest.mark.parametrize("name", NETS)
def test_equals_central_differences_of_the_gradient(name: str) -> None:
    model, images, labels = problem(name)
    at = parameters_to_vector(model.parameters()).detach()
    step = 1e-6 * torch.randn(len(at), dtype=torch.float64)
    above = gradient(model, images, labels, at + step)
    below = gradient(model, images, labels, at - step)
    product = hvp(model, (images, labels), step / 1e-6, batch_size=8)
    torch.testing.assert_close(product, (above - below) / 2e-6, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bn_mode", ["eval", "train"])
def test_forward_mode_serves_only_where_it_is_right(bn_mode: str) -> None:
    model, images, labels = problem("plain")
    product = Hessian(model, Objective((images, labels), batch_size=8), bn_mode)
    assert product.slope is (_forward_slope if bn_mode == "eval" else _reverse_slope)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("batch_size", [8, N])
def test_equals_the_dense_hessian(name: str, batch_size: int) -> None:
    model, images, labels = problem(name)
    exact = dense(model, images, labels)
    vector = torch.randn(len(exact), dtype=torch.float64)
    product = hvp(model, (images, labels), vector, batch_size=batch_size)
    torch.testing.assert_close(product, exact @ vector, rtol=1e-9, atol=1e-10)
    found = lambda_max(model, (images, labels), batch_size=batch_size, tolerance=1e-9)
    assert found.value == pytest.approx(torch.linalg.eigvalsh(exact)[-1].item(), rel=1e-9)
    assert (found.converged, found.n_samples, found.bn_mode) == (True, N, "eval")


def test_softmax_regression_has_a_closed_form() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(6, CLASSES, bias=False).double(), torch.randn(N, 6).double()
    p = model(x).softmax(1).detach()
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    exact = torch.einsum("nab,ni,nj->aibj", inner, x, x).reshape(6 * CLASSES, -1) / N
    labels = torch.randint(CLASSES, (N,))
    found = lambda_max(model, (x, labels), batch_size=5, tolerance=1e-10)
    assert found.value == pytest.approx(torch.linalg.eigvalsh(exact)[-1].item(), rel=1e-10)
    assert found.products <= 6 * CLASSES


def test_agrees_with_pyhessian() -> None:
    model, images, labels = problem("plain", torch.float32)
    torch.manual_seed(1)
    peer = pyhessian.hessian(
        copy.deepcopy(model), nn.CrossEntropyLoss(), data=(images, labels), cuda=False
    )
    theirs = peer.eigenvalues(maxIter=2000, tol=1e-7)[0][0]
    ours = lambda_max(model, (images, labels))
    assert ours.converged
    assert ours.products <= 15
    assert ours.value == pytest.approx(theirs, rel=5e-3)
    tight = lambda_max(model, (images, labels), tolerance=1e-4)
    assert tight.value == pytest.approx(theirs, rel=1e-4)


def test_agrees_with_curvlinops() -> None:
    model, images, labels = problem("plain")  # it uses vmap, see dense
    peer = copy.deepcopy(model).eval()
    operator = curvlinops.HessianLinearOperator(
        peer,
        nn.CrossEntropyLoss(),
        list(peer.parameters()),
        [(images[:20], labels[:20]), (images[20:], labels[20:])],
    )
    vector = torch.randn(operator.shape[1], dtype=torch.float64)
    torch.testing.assert_close(hvp(model, (images, labels), vector), operator @ vector)
    theirs = eigsh(operator.to_scipy(dtype=np.float64), k=1, which="LA")[0][0]
    found = lambda_max(model, (images, labels), tolerance=1e-8)
    assert found.value == pytest.approx(theirs, rel=1e-8)


def test_finds_the_largest_not_the_largest_in_magnitude() -> None:
    class Indefinite(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(4, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            # dL/dlogit is -1/2 for both images: L has the Hessian diag(-10, 1, 2, 3) at w = 0
            curve = torch.tensor([20.0, -2.0, -4.0, -6.0], dtype=torch.float64)
            logit = 0.5 * (curve * self.w**2).sum().expand(len(x))
            return torch.stack([logit, torch.zeros_like(logit)], 1)

    images, labels = torch.zeros(2, 1).double(), torch.zeros(2, dtype=torch.long)
    found = lambda_max(Indefinite(), (images, labels), tolerance=1e-9)
    assert found.value == pytest.approx(3.0)
    assert found.converged


def test_residual_bounds_the_error_at_any_tolerance() -> None:
    model, images, labels = problem()
    eigenvalues = torch.linalg.eigvalsh(dense(model, images, labels))
    for products in (2, 4, 8, 16):
        found = lambda_max(model, (images, labels), max_products=products, tolerance=1e-12)
        distance = (eigenvalues - found.value).abs().min().item()
        assert distance <= found.residual * abs(found.value) * (1 + 1e-9) + 1e-12
        assert (found.converged, found.products) == (False, products)


def test_bn_mode_is_part_of_the_definition() -> None:
    model, images, labels = problem()
    running = lambda_max(model, (images, labels), tolerance=1e-6)
    batch = lambda_max(model, (images, labels), tolerance=1e-6, bn_mode="train")
    assert batch.bn_mode == "train"
    assert batch.value != pytest.approx(running.value, rel=0.05)


@pytest.mark.parametrize("bn_mode", ["eval", "train"])
def test_model_is_left_as_it_was(bn_mode: str) -> None:
    model, images, labels = problem()
    model[0].weight.requires_grad_(False)
    F.cross_entropy(model(images), labels).backward()
    model[1].eval()
    state = copy.deepcopy(model.state_dict())
    grads = {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}
    flags = [p.requires_grad for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    with torch.no_grad():
        lambda_max(model, (images, labels), bn_mode=bn_mode, batch_size=8)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    after = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    assert after.keys() == grads.keys()
    assert all(torch.equal(v, grads[k]) for k, v in after.items())
    assert flags == [p.requires_grad for p in model.parameters()]
    assert modes == [m.training for m in model.modules()]


def test_frozen_parameters_are_left_out() -> None:
    model, images, labels = problem("sdpa")
    whole = dense(model, images, labels)
    keep = torch.cat(
        [torch.full((p.numel(),), k[:4] == "head") for k, p in model.named_parameters()]
    )
    for name, p in model.named_parameters():
        p.requires_grad_(name[:4] == "head")
    found = lambda_max(model, (images, labels), tolerance=1e-9)
    exact = torch.linalg.eigvalsh(whole[keep][:, keep])[-1].item()
    assert found.value == pytest.approx(exact, rel=1e-8)


def test_same_seed_same_bits() -> None:
    model, images, labels = problem(dtype=torch.float32)
    first = lambda_max(model, (images, labels), seed=3)
    assert first == lambda_max(model, (images, labels), seed=3)
    other = lambda_max(model, (images, labels), seed=4)
    assert other != first
    assert other.value == pytest.approx(first.value, rel=1e-3)


def test_preprocess_and_autocast_change_nothing() -> None:
    model, _, labels = problem(dtype=torch.float32)
    raw = torch.randint(256, (N, 2, 4, 4), dtype=torch.uint8)

    def normalise(x: Tensor) -> Tensor:
        return x.float().div(255).sub(0.5)

    plain = lambda_max(model, (normalise(raw), labels))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert lambda_max(model, (raw, labels), preprocess=normalise) == plain


def bad_inputs() -> dict[str, tuple]:
    model, images, labels = problem()
    spoilt = images.clone()
    spoilt[5, 0, 0, 0] = torch.nan
    frozen = copy.deepcopy(model).requires_grad_(False)
    return {
        "loss nan over 37 images": (model, spoilt, labels, {}),
        "0 images": (model, images[:0], labels[:0], {}),
        "36 labels": (model, images, labels[:-1], {}),
        "batch_size 0": (model, images, labels, {"batch_size": 0}),
        "requires_grad": (frozen, images, labels, {}),
        "bn_mode 'batch'": (model, images, labels, {"bn_mode": "batch"}),
        "tolerance 0": (model, images, labels, {"tolerance": 0}),
        "max_products 0": (model, images, labels, {"max_products": 0}),
    }


@pytest.mark.parametrize("message", bad_inputs())
def test_bad_input_is_named(message: str) -> None:
    model, *data, options = bad_inputs()[message]
    with pytest.raises(ValueError, match=message):
        lambda_max(model, tuple(data), **options)


def test_vector_of_another_length_is_named() -> None:
    model, *data = problem()
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \("):
        hvp(model, tuple(data), torch.ones(3))


def few_to_start_from(monkeypatch, images: int) -> list[int]:
    """Have `lambda_max` seek its start on so many images; gets the images of every Hessian."""
    seen: list[int] = []

    class Counted(Hessian):
        def __init__(self, model, objective, *rest):
            seen.append(objective.total)
            super().__init__(model, objective, *rest)

    monkeypatch.setattr(curvature, "SKETCH", images)
    monkeypatch.setattr(curvature, "Hessian", Counted)
    return seen


@pytest.mark.parametrize("name", NETS)
def test_a_start_from_few_images_changes_the_way_and_not_the_value(name, monkeypatch):
    model, images, labels = problem(name)
    seen = few_to_start_from(monkeypatch, 12)
    found = lambda_max(model, (images, labels), tolerance=1e-8, start="sketch")
    assert seen == [N, 13]  # every third image
    largest = torch.linalg.eigvalsh(dense(model, images, labels))[-1].item()
    assert found.value == pytest.approx(largest, rel=1e-10)
    assert found.n_samples == N


def test_a_start_from_few_images_saves_products(monkeypatch):
    model, images, labels = problem("plain")
    plain = lambda_max(model, (images, labels), start="sketch").products
    few_to_start_from(monkeypatch, 12)
    assert lambda_max(model, (images, labels), start="sketch").products < plain


@pytest.mark.parametrize("name", NETS)
def test_folding_batchnorm_into_convolutions_keeps_the_hessian(name):
    model, images, labels = problem(name)
    product = Hessian(model, Objective((images, labels), batch_size=8), "eval", torch.float64)
    vector = torch.randn(product.size, dtype=torch.float64)
    torch.testing.assert_close(product(vector), dense(model, images, labels) @ vector)
    if name == "plain":
        assert not [m for m in product.model.modules() if type(m) is nn.BatchNorm2d and m.training]
        assert any(type(m).__name__ == "Folded" for m in product.model.modules())


@pytest.mark.parametrize("name", NETS)
def test_bfloat16_products_are_near_and_leave_the_model_alone(name):
    model, images, labels = problem(name, torch.float32)
    before = copy.deepcopy(model.state_dict())
    exact = lambda_max(model, (images, labels), tolerance=1e-4)
    rough = lambda_max(model, (images, labels), tolerance=2e-2, dtype=torch.bfloat16)
    assert rough.value == pytest.approx(exact.value, rel=0.05)
    assert rough.value != exact.value
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_bfloat16_with_batch_statistics():
    model, images, labels = problem("plain", torch.float32)
    options = {"bn_mode": "train", "batch_size": N}
    exact = lambda_max(model, (images, labels), tolerance=1e-4, **options)
    rough = lambda_max(model, (images, labels), tolerance=2e-2, dtype=torch.bfloat16, **options)
    assert rough.value == pytest.approx(exact.value, rel=0.05)


def test_convolutions_that_quantize_their_input_are_not_folded():
    model, images, labels = problem("plain")
    small = quantize_static(model.eval(), images, weight_bits=8, act_bits=8)
    plain = Hessian(small, Objective((images, labels), batch_size=N), "eval")
    folded = Hessian(small, Objective((images, labels), batch_size=N), "eval", torch.float64)
    vector = torch.randn(plain.size, dtype=torch.float64)
    torch.testing.assert_close(folded(vector), plain(vector))
    assert not torch.allclose(plain(vector), dense(model, images, labels) @ vector)


def test_sparse_gradients_of_embeddings_change_no_measure():
    def measures(sparse: bool) -> list[object]:
        torch.manual_seed(0)
        embed = nn.Embedding(7, 4, sparse=sparse)
        model = nn.Sequential(embed, nn.Flatten(), nn.Tanh(), nn.Linear(12, 3))
        data = (torch.randint(7, (12, 3)), torch.randint(3, (12,)))
        pruned = {"half": prune_magnitude(model, 0.5)}
        found = [
            lambda_max(model, data),
            hessian_trace(model, data, probes=2),
            loss_rises(model, pruned, data),
            adaptive_sharpness(model, data),
        ]
        assert embed.sparse is sparse  # the model itself stays
        return found

    assert measures(True) == measures(False)


def test_sparse_gradients_of_embedding_bags_are_dense_in_the_copy():
    model = nn.Sequential(nn.EmbeddingBag(7, 4, sparse=True), nn.Linear(4, 3))
    assert not exact_copy(model)[0].sparse
    assert adaptive_sharpness(model, (torch.randint(7, (12, 3)), torch.randint(3, (12,)))) > 0
