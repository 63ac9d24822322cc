"""`converged` is never said of a wrong eigenvalue: problems made to hide the largest one."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.nn.utils.parametrizations import weight_norm

from snt_core.fast.fused import fuse
from snt_core.methods.curvature.lambda_max import hvp, lambda_max
from snt_core.methods.curvature.lanczos import Bound, lanczos
from snt_core.methods.curvature.spectrum import hessian_trace
from snt_core.methods.snt.transform import SNTActivation
from snt_core.methods.tasks.task import Task
from tests.methods.tasks.test_task import dense

MEAN = Task(loss_fn=lambda output, target: output.mean())
NOTHING = (torch.zeros(2, 1), torch.zeros(2, 1))


class Quadratic(nn.Module):
    """Its mean output has the Hessian `a` everywhere."""

    def __init__(self, a: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(len(a), dtype=a.dtype))
        self.register_buffer("a", a)

    def forward(self, x: Tensor) -> Tensor:
        return (0.5 * self.w @ self.a @ self.w).expand(len(x))


SPECTRA = {  # from n numbers uniform in 0..1 and n Gaussian ones
    "uniform": lambda u, g: u,
    "normal": lambda u, g: g,
    "outliers": lambda u, g: torch.cat([5 * u[:2] + 1, 0.1 * g[2:]]),
    "close at the top": lambda u, g: torch.cat([torch.tensor([1, 0.98]).double(), u[2:] / 2]),
    "duplicates": lambda u, g: torch.cat([torch.ones(2).double(), 0.8 * u[2:]]),
    "all alike": lambda u, g: torch.full_like(u, 0.3),
    "negative": lambda u, g: -u - 0.01,
    "negative and far": lambda u, g: torch.cat([torch.tensor([-0.5, -0.6]).double(), -100 * u[2:]]),
    "low rank": lambda u, g: torch.cat([u[:2], torch.zeros_like(u[2:])]),
    "large and negative": lambda u, g: torch.cat([torch.tensor([-99, 1]).double(), g[2:] / 100]),
    "geometric": lambda u, g: 0.8 ** torch.arange(len(u)).double(),
    "dense at the top": lambda u, g: 1 - torch.linspace(0, 1, len(u)).double() ** 2,
    "heavy tail": lambda u, g: 1 / (u + 1e-3),
}


@pytest.mark.parametrize("kind", SPECTRA)
def test_hundreds_of_random_problems_against_dense_eigenvalues(kind: str) -> None:
    settled = 0
    for n in (3, 12, 40):
        for seed in range(8):
            generator = torch.Generator().manual_seed(100 * seed + n)
            u = torch.rand(n, generator=generator, dtype=torch.float64)
            g = torch.randn(n, generator=generator, dtype=torch.float64)
            turn = torch.randn(n, n, generator=generator, dtype=torch.float64)
            # every fourth is block diagonal: each eigenvector is a parameter
            q = torch.linalg.qr(turn)[0] if seed % 4 else torch.eye(n, dtype=torch.float64)
            a = q @ SPECTRA[kind](u, g).diag() @ q.T
            model = Quadratic(a if seed % 2 else a.float())
            found = lambda_max(model, NOTHING, task=MEAN, seed=seed, max_products=60)
            values = torch.linalg.eigvalsh(a)
            rounding = 1e-5 * values.abs().max().item()
            assert found.upper >= values[-1].item() - rounding
            if found.converged:
                settled += 1
                assert found.value == pytest.approx(values[-1].item(), rel=5e-3, abs=rounding)
    # a value near 0 beside -100 is beyond the digits of float32
    assert settled >= (12 if kind == "negative and far" else 20)


def test_a_start_orthogonal_to_the_answer_does_not_hide_it() -> None:
    for n in (5, 40):
        start = torch.randn(n, generator=torch.Generator().manual_seed(0)).double()
        top = torch.eye(n, dtype=torch.float64)[0] - start[0] * start / start.square().sum()
        top /= top.norm()
        a = torch.outer(top, top) + 0.1 * torch.outer(start, start) / start.square().sum()
        found = lambda_max(Quadratic(a), NOTHING, task=MEAN)
        assert (found.value, found.converged) == (pytest.approx(1), True)


def test_a_second_start_finds_what_the_krylov_space_of_the_first_lacks() -> None:
    n = 30
    generator = torch.Generator().manual_seed(0)
    torch.randn(n, generator=generator)
    first = torch.randn(n, generator=generator).double()  # the one that is used
    first /= first.norm()
    top = torch.eye(n, dtype=torch.float64)[0] - first[0] * first
    top /= top.norm()
    a = torch.outer(top, top) + 0.5 * torch.outer(first, first)
    found = lambda_max(Quadratic(a), NOTHING, task=MEAN)
    assert (found.value, found.converged) == (pytest.approx(1), True)


def test_a_hessian_of_zeros_has_the_eigenvalue_zero() -> None:
    found = lambda_max(Quadratic(torch.zeros(9, 9)), NOTHING, task=MEAN)
    assert (found.value, found.upper, found.residual, found.converged) == (0, 0, 0, True)


def rare_class() -> tuple:
    """Softmax regression at weights 0 on one feature a class: a Hessian of blocks.

    The block of class k is `share * feature**2 * (I / 10 - 1 / 100)`; that of the last class, which
    every third image lacks, is the largest.
    """
    n, classes = 400, 10
    labels = torch.arange(n) // 3 % (classes - 1)
    labels[torch.arange(1, 120, 3)] = classes - 1
    features = 0.3 ** torch.arange(classes)
    features[-1] = 2
    model = nn.Linear(classes, classes, bias=False)
    nn.init.zeros_(model.weight)
    return model, features[labels][:, None] * F.one_hot(labels).float(), labels


def test_a_class_absent_from_the_sketch_is_found_by_the_random_start() -> None:
    model, x, labels = rare_class()
    exact = dense(model.double(), lambda net: F.cross_entropy(net(x.double()), labels))
    right = torch.linalg.eigvalsh(exact)[-1].item()
    found = lambda_max(model.float(), (x, labels))
    assert found.converged
    assert found.value == pytest.approx(right, rel=1e-3)
    assert found.upper == pytest.approx(right, rel=6e-3)
    # what published records were measured with does not see it, and says so of the bound
    sketch = lambda_max(model, (x, labels), start="sketch")
    assert sketch.converged
    assert sketch.value < 0.7 * right
    assert sketch.upper is None


def test_too_few_products_do_not_converge() -> None:
    a = torch.rand(200, generator=torch.Generator().manual_seed(1)).double().diag()
    for products in (1, 2, 5, 10):
        found = lambda_max(Quadratic(a), NOTHING, task=MEAN, max_products=products, tolerance=1e-3)
        assert (found.converged, found.products) == (False, products)
        assert found.upper >= a.max().item()


def test_the_bound_holds_after_every_product_and_closes_in() -> None:
    n = 300
    values = torch.rand(n, generator=torch.Generator().manual_seed(0)).double()
    for seed in range(20):
        start = torch.randn(n, generator=torch.Generator().manual_seed(seed)).double()
        bound = Bound(n)
        uppers = [bound.add(ritz, beta) for ritz, _, beta in lanczos(values.mul, start, 60)]
        assert min(uppers) >= values.max().item() - 1e-12
        assert uppers[-1] <= values.max().item() + 0.01
        assert uppers == sorted(uppers, reverse=True)


class Called(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.call = function

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


class Layer(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8).double(), nn.Linear(8, 3).double()
        self.function = function if isinstance(function, nn.Module) else Called(function)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.function(self.first(x)))


def attention(x: Tensor) -> Tensor:
    q = x.view(-1, 1, 2, 4)
    return F.scaled_dot_product_attention(q, 1.3 * q, q).reshape(len(x), 8)


WITHOUT = {
    "hardsigmoid": F.hardsigmoid,
    "Hardsigmoid": nn.Hardsigmoid(inplace=True),
    "hardswish": F.hardswish,
    "Hardswish": nn.Hardswish(inplace=True),
    "squeeze and excite": lambda x: x * F.hardsigmoid(3 * x.mean(1, keepdim=True)),
    "attention": attention,
    "cdist": lambda x: torch.cdist(x, torch.eye(8).double()),
    "glu": lambda x: F.glu(torch.cat([x, x], 1), 1),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_operators_without_a_second_derivative_are_replaced(name: str) -> None:
    torch.manual_seed(0)
    model, x, y = Layer(WITHOUT[name]), 3 * torch.randn(16, 6).double(), torch.arange(16) % 3
    smooth = {
        "hardsigmoid": lambda x: (x / 6 + 0.5).clamp(0, 1),
        "hardswish": lambda x: x * (x / 6 + 0.5).clamp(0, 1),
        "squeeze and excite": lambda x: x * (x.mean(1, keepdim=True) / 2 + 0.5).clamp(0, 1),
        "cdist": lambda x: (x[:, None] - torch.eye(8).double()).square().sum(-1).sqrt(),
    }
    twin = copy.deepcopy(model)
    twin.function = Called(smooth.get(name.lower(), WITHOUT[name]))
    with sdpa_kernel(SDPBackend.MATH):
        exact = dense(twin, lambda net: F.cross_entropy(net(x), y))
    found = lambda_max(model, (x, y), tolerance=1e-8)
    assert found.value == pytest.approx(torch.linalg.eigvalsh(exact)[-1].item(), rel=1e-8)


def test_our_one_pass_kernels_are_switched_off_and_other_peoples_flags_stay() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fused, self.fc = True, nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x if self.fused else 10 * x)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), SNTActivation(16, dim=-1), Other())
    x, y = torch.randn(16, 6), torch.arange(16) % 3
    plain = lambda_max(model, (x, y))
    fused = fuse(model)
    assert fused[1].fused
    assert lambda_max(fused, (x, y)) == plain
    assert fused[1].fused
    assert fused[2].fused


def test_an_operator_without_any_is_named() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad: Tensor) -> Tensor:
            return grad * 2

    data = (torch.randn(8, 6).double(), torch.arange(8) % 3)
    for measure in (lambda_max, hessian_trace):
        with pytest.raises(ValueError, match=r"no second derivative.*once_differentiable"):
            measure(Layer(Once.apply), data)


def test_a_model_that_keeps_tensors_between_calls_is_named() -> None:
    class Cached(Layer):
        def forward(self, x: Tensor) -> Tensor:
            if not hasattr(self, "kept"):
                self.kept = self.first.bias * self.first.bias
            return self.second(self.first(x) * self.kept)

    data = (torch.randn(8, 6).double(), torch.arange(8) % 3)
    with pytest.raises(ValueError, match="keeps what it computed in one call for the next"):
        lambda_max(Cached(torch.tanh), data)


def test_gradients_are_there_under_no_grad_and_inference_mode() -> None:
    torch.manual_seed(0)
    model, data = Layer(torch.tanh), (torch.randn(8, 6).double(), torch.arange(8) % 3)
    plain = lambda_max(model, data)
    with torch.no_grad():
        assert lambda_max(model, data) == plain
    with torch.inference_mode():
        assert lambda_max(model, data) == plain
        inside = tuple(x.clone() for x in data)  # inference tensors
        assert lambda_max(model, inside) == plain


class Branches(nn.Module):
    """Sends samples by the sign of their first value; ``masked``: all to both, and takes one."""

    def __init__(self, other: nn.Module, masked: bool) -> None:
        super().__init__()
        self.plain, self.other, self.masked = nn.Linear(4, 3), other, masked

    def forward(self, x: Tensor) -> Tensor:
        other = x[:, :1] > 0
        if self.masked:
            return torch.where(other, self.other(x), self.plain(x))
        out = x.new_zeros(len(x), 3)
        for rows, branch in ((other, self.other), (~other, self.plain)):
            if rows.any():
                out = out.index_put((rows[:, 0].nonzero()[:, 0],), branch(x[rows[:, 0]]))
        return out


def normed(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), *layers, nn.Linear(4, 3)).double()


OTHER = {
    "LayerNorm": lambda: normed(nn.LayerNorm(4), nn.Tanh()),
    "Hardsigmoid": lambda: normed(nn.Hardsigmoid()),
    "weight_norm": lambda: normed(nn.Tanh(), weight_norm(nn.Linear(4, 4)), nn.Tanh()),
    "weight_norm, then LayerNorm": lambda: normed(
        weight_norm(nn.Linear(4, 4)), nn.Tanh(), nn.LayerNorm(4)
    ),
}


@pytest.mark.parametrize("masked", [False, True], ids=["routed", "masked"])
@pytest.mark.parametrize("batch_size", [3, 12])
@pytest.mark.parametrize("name", OTHER)
def test_a_branch_that_the_first_samples_do_not_take_counts(name, batch_size, masked) -> None:
    torch.manual_seed(0)
    model = Branches(OTHER[name](), masked).double()
    x, y = torch.randn(12, 4, dtype=torch.float64), torch.randint(3, (12,))
    x[:, 0] = x[:, 0].abs()
    x[:3, 0] *= -1
    vector = torch.randn(sum(p.numel() for p in model.parameters()), dtype=torch.float64)

    def slope(sign: float) -> Tensor:
        moved = copy.deepcopy(model)
        at = parameters_to_vector(moved.parameters()).detach() + sign * 1e-6 * vector
        vector_to_parameters(at, moved.parameters())
        grads = torch.autograd.grad(F.cross_entropy(moved(x), y), list(moved.parameters()))
        return parameters_to_vector(grads)

    found = hvp(model, (x, y), vector, batch_size=batch_size)
    torch.testing.assert_close(found, (slope(1) - slope(-1)) / 2e-6, rtol=1e-6, atol=1e-7)
