"""Each method on one net, with the result checked against something independent of the method.

A check returns what it saw in a few words. It raises `Wrong` where the result is not what it should
be, `Missing` where the question has no meaning for the net, and lets pass what the method raises.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import snt_core as snt
from snt_core.audit.first_look import look
from snt_core.audit.scene import Scene

RHO, LR = 0.05, 0.1
PRODUCTS = 2  # of the Krylov space in which lambda_max is compared
SMALL = 2000  # parameters up to which the whole Hessian is made
MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.ELU)


class Wrong(AssertionError):
    """A result is not what it should be, and nothing said so."""


class Missing(Exception):
    """The question has no meaning for this net."""


@dataclass
class Case:
    """A net with what it takes; `fresh` makes another of its kind, with other weights."""

    fresh: Callable[[], nn.Module]
    net: nn.Module
    data: tuple[Tensor, Tensor]
    task: snt.Task = field(default_factory=snt.Task)

    @property
    def few(self) -> int:
        """On how many samples second derivatives are compared: they take long in a large net."""
        return 2 if sum(p.numel() for p in self.net.parameters()) < 2e7 else 1

    def loss(self, net: nn.Module, n: int | None = None) -> Tensor:
        """The mean loss of the first n samples, as a user would write it."""
        x, y = (part[:n] for part in self.data)
        return (self.task.loss_fn or F.cross_entropy)(net(x), y)

    @torch.no_grad()
    def says(self, net: nn.Module) -> Tensor:
        return net.eval()(self.data[0])


def require(holds: bool, said: str) -> None:
    if not holds:
        raise Wrong(said)


def live(net: nn.Module, x: Tensor) -> nn.Module:
    """A net fresh from its factory, moved to where all of its parts count.

    Factories set residual branches to zero, and BatchNorm knows no data.
    """
    torch.manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim < 2 or not p.any():
                p.add_(0.1 * torch.randn_like(p))
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(x)
    for norm in norms:
        norm.momentum = 0.1
    return net.eval()


def sam(case: Case) -> str:
    net, twin = copy.deepcopy(case.net).train(), copy.deepcopy(case.net).train()
    optimizer = snt.SAM(torch.optim.SGD(net.parameters(), LR), RHO, model=net)

    def gradients(of: nn.Module) -> Tensor:
        torch.manual_seed(2)  # of dropout
        of.zero_grad()
        loss = case.loss(of)
        loss.backward()
        return loss

    loss = optimizer.step(lambda: gradients(net))
    require(bool(loss.isfinite()), f"the loss is {loss}")
    # by hand: up by rho along the gradient, its gradient there, down from where it was
    gradients(twin)
    once = {name: b.clone() for name, b in twin.named_buffers()}
    params = [p for p in twin.parameters() if p.grad is not None]
    start = [p.detach().clone() for p in params]
    norm = torch.stack([p.grad.norm() for p in params]).norm()  # type: ignore[union-attr]
    with torch.no_grad():
        for p in params:
            p.add_(RHO * p.grad / (norm + 1e-12))
    gradients(twin)
    with torch.no_grad():
        for p, w in zip(params, start, strict=True):
            p.copy_(w - LR * p.grad)
    ours, theirs, from_here = (
        torch.cat([p.detach().reshape(-1) for p in of.parameters()]) for of in (net, twin, case.net)
    )
    away = float((ours - theirs).norm() / (theirs - from_here).norm())
    # rounding may take a ReLU to the other side of its kink
    require(away < 1e-3, f"the step is {away:.2g} of its length from the one by hand")
    moved = sum(
        not torch.equal(a, b) for a, b in zip(net.parameters(), case.net.parameters(), strict=True)
    )
    require(moved > 0, "no weight moved")
    for name, b in net.named_buffers():
        require(torch.equal(b, once[name]), f"'{name}' is not what one pass makes of it")
    total = len(list(net.parameters()))
    return (
        f"the step by hand (within {away:.0e} of its length); {moved} of {total} parameters moved"
    )


class TextbookHessian:
    """The Hessian of the mean loss of the first n samples, by double backward."""

    def __init__(self, case: Case, n: int) -> None:
        self.case, self.n, self.net = case, n, twice_differentiable(case.net)
        self.params = [p for p in self.net.parameters() if p.requires_grad]
        self.size = sum(p.numel() for p in self.params)

    def gradient(self) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            loss = self.case.loss(self.net, self.n)
        rows = torch.autograd.grad(loss, self.params, create_graph=True, materialize_grads=True)
        return torch.cat([row.reshape(-1) for row in rows])

    def __call__(self, v: Tensor) -> Tensor:
        rows = torch.autograd.grad(self.gradient() @ v, self.params, materialize_grads=True)
        return torch.cat([row.reshape(-1) for row in rows])

    def dense(self) -> Tensor:
        """All rows, from one gradient."""
        gradient = self.gradient()
        found = [
            torch.autograd.grad(g, self.params, retain_graph=True, materialize_grads=True)
            for g in gradient
        ]
        dense = torch.stack([torch.cat([x.reshape(-1) for x in row]) for row in found]).double()
        return (dense + dense.T) / 2


def twice_differentiable(net: nn.Module) -> nn.Module:
    """A copy without what torch cannot differentiate twice."""
    net = copy.deepcopy(net)
    for module in [*net.modules()]:
        for child, made in module.named_children():
            if isinstance(made, nn.Hardsigmoid):
                setattr(module, child, _Gate())
            if isinstance(made, nn.Hardswish):
                setattr(module, child, _Swish())
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    return net


class _Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + 3) / 6


class _Swish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * F.relu6(x + 3) / 6


def lambda_max(case: Case) -> str:
    hessian = TextbookHessian(case, case.few)
    data = tuple(part[: case.few] for part in case.data)
    if hessian.size <= SMALL:
        right = float(torch.linalg.eigvalsh(hessian.dense())[-1])
        found = snt.lambda_max(case.net, data, task=case.task)
        require(found.converged, f"not converged: {found}")
        how = "the dense Hessian's"
    else:
        found = snt.lambda_max(case.net, data, task=case.task, max_products=PRODUCTS)
        generator = torch.Generator().manual_seed(0)
        torch.randn(hessian.size, generator=generator)
        start = torch.randn(hessian.size, generator=generator)
        right = in_krylov_space(hessian, start, PRODUCTS)
        how = f"that of {PRODUCTS} products by double backward"
    away = abs(found.value - right) / abs(right)
    require(away < 2e-3, f"{found.value:.6g} instead of {right:.6g}, {how}")
    return f"{found.value:.5g}, {how} (within {away:.0e})"


def in_krylov_space(product: Callable[[Tensor], Tensor], v: Tensor, steps: int) -> float:
    """The largest eigenvalue on the space of v, Hv, ..., by Gram-Schmidt and one dense matrix."""
    basis, images = [(v.double() / v.double().norm()).float()], []
    for _ in range(steps):
        images.append(product(basis[-1]))
        rest = images[-1].double()
        for _ in range(2):
            for b in basis:
                rest = rest - b.double() * (b.double() @ rest)
        basis.append((rest / rest.norm()).float())
    small = torch.tensor([[float(b.double() @ i.double()) for i in images] for b in basis[:steps]])
    return float(torch.linalg.eigvalsh((small + small.T) / 2)[-1])


def trace(case: Case) -> str:
    hessian, probes = TextbookHessian(case, case.few), 2
    data = tuple(part[: case.few] for part in case.data)
    found = snt.hessian_trace(case.net, data, task=case.task, probes=probes)
    generator = torch.Generator().manual_seed(0)
    values, scale = [], 0.0
    for _ in range(probes):
        signs = (2 * torch.randint(2, (hessian.size,), generator=generator) - 1).float()
        row = hessian(signs)
        values.append(float(signs.double() @ row.double()))
        scale = max(scale, float(row.norm()) * math.sqrt(hessian.size))  # rounding is a share of it
    right = sum(values) / probes
    away = abs(found.value - right)
    require(away < 2e-3 * abs(right) + 1e-6 * scale, f"{found.value:.6g} instead of {right:.6g}")
    return f"{found.value:.5g}, that of the same probes by double backward"


def untouched_says(net: nn.Module, before: nn.Module) -> str:
    """Check that each parameter is touched or named as not, and those are as before."""
    found = snt.coverage(net)
    old = dict(before.named_parameters())
    for name, p in net.named_parameters():
        if name not in found.touched and name not in found.untouched:
            raise Wrong(f"coverage is silent on '{name}'")
        if name in found.untouched and name in old:
            require(torch.equal(p, old[name]), f"'{name}' is untouched, and changed")
    kept = {n: r for n, r in found.untouched.items() if n in old and old[n].ndim > 1}
    said = "; ".join(f"{name}: {reason}" for name, reason in list(kept.items())[:2])
    more = f" and {len(kept) - 2} more" if len(kept) > 2 else ""
    return f"{found.share:.1%} of all parameters" + (f", not {said}{more}" if kept else "")


def one_shot(case: Case) -> str:
    small = snt.prune_magnitude(case.net, 0.5)
    said = untouched_says(small, case.net)
    touched = snt.coverage(small).touched
    old, new = (dict(net.named_parameters()) for net in (case.net, small))
    size = sum(old[name].numel() for name in touched)
    zeros = sum(int((new[name] == 0).sum()) for name in touched)
    require(abs(zeros - size / 2) <= 1, f"{zeros} zeros of {size}")
    gone = max(float(old[n].abs()[new[n] == 0].max()) for n in touched if (new[n] == 0).any())
    kept = min(float(new[n].abs()[new[n] != 0].min()) for n in touched if new[n].any())
    require(gone <= kept, f"{gone} went, and {kept} stayed")
    for name in touched:
        there = new[name] != 0
        require(torch.equal(new[name][there], old[name][there]), f"'{name}' has other weights")
    return f"zeros: {zeros / size:.2%} of {said}"


def channels(net: nn.Module) -> dict[str, Callable[[Tensor], Tensor]]:
    """How to read each weight as rows of outputs, if not along axis 0."""
    return {
        f"{name}.weight": lambda w, m=module: torch.cat(
            [part.transpose(0, 1).flatten(1) for part in w.chunk(m.groups)]
        )
        for name, module in net.named_modules()
        if isinstance(module, nn.ConvTranspose2d)
    }


def most_levels(net: nn.Module, names: Iterable[str]) -> int:
    rows, params = channels(net), dict(net.named_parameters())
    return max(
        len(row.unique())
        for name in names
        for row in rows.get(name, lambda w: w.flatten(1))(params[name].detach())
    )


def four_bits(case: Case) -> str:
    small = snt.quantize_weights(case.net, 4, per_channel=True)
    said = untouched_says(small, case.net)
    touched = snt.coverage(small).touched
    levels = most_levels(small, touched)
    require(levels <= 15, f"{levels} levels in a channel")
    old, new, rows = (
        dict(case.net.named_parameters()),
        dict(small.named_parameters()),
        channels(small),
    )
    for name in touched:
        row = rows.get(name, lambda w: w.flatten(1))
        a, b = row(old[name].detach()), row(new[name].detach())
        half = a.abs().amax(1, keepdim=True) / 14
        require(bool(((a - b).abs() <= half * (1 + 1e-5)).all()), f"'{name}' is not the nearest")
    return f"at most {levels} levels a channel in {said}"


def eight_bits(case: Case) -> str:
    small = snt.quantize_static(
        case.net, case.data, weight_bits=8, act_bits=8, per_channel=True, task=case.task
    )
    said = untouched_says(small, case.net)
    found = snt.coverage(small)
    modules, seen = dict(small.named_modules()), {}
    for name, module in modules.items():
        if isinstance(module, MATRICES):
            named = name in found.quantized_inputs or name in found.float_inputs
            require(named, f"coverage is silent on the input of '{name}'")

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, named: dict[str, Any], output: Any) -> None:
            seen[name] = max(seen.get(name, 0), len([*args, *named.values()][0].unique()))

        return hook

    handles = [
        modules[n].register_forward_hook(keep(n), with_kwargs=True) for n in found.quantized_inputs
    ]
    after = case.says(small)
    for handle in handles:
        handle.remove()
    levels = max(seen.values(), default=0)
    require(set(seen) == set(found.quantized_inputs), "a layer said to be quantized is not called")
    require(levels <= 256, f"{levels} levels in an input")
    away = float((after - case.says(case.net)).norm() / case.says(case.net).norm())
    require(away < 0.5, f"outputs are {away:.0%} from the float net's")
    floats = len(found.float_inputs)
    return (
        f"at most {levels} levels in {len(seen)} inputs ({floats} stay float, by name), outputs "
        f"{away:.1%} off; {said}"
    )


def training(case: Case) -> str:
    student = snt.prepare_qat(case.net, case.data, weight_bits=4, act_bits=4, task=case.task)
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    optimizer = torch.optim.SGD(student.train().parameters(), 1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        loss = case.loss(student)
        loss.backward()
        optimizer.step()
    require(bool(loss.isfinite()), f"the loss is {loss}")
    moved = sum(not torch.equal(p, before[n]) for n, p in student.named_parameters())
    weights = [n for n in before if n.endswith(".original")]
    still = [n for n in weights if torch.equal(dict(student.named_parameters())[n], before[n])]
    small = snt.freeze(student)
    same = torch.equal(case.says(student), case.says(small))
    require(same, "outputs before and after freeze differ")
    levels = most_levels(small, snt.coverage(small).touched)
    require(levels <= 255, f"{levels} levels")
    hidden = f", still: {', '.join(still[:2])}" if still else ""
    return f"{moved} of {len(before)} parameters trained{hidden}; outputs stay when frozen"


def onnx(case: Case) -> str:
    import onnxruntime

    small = snt.quantize_static(
        case.net, case.data, weight_bits=8, act_bits=8, per_channel=True, task=case.task
    )
    said = []
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    for words, net in (("float", case.net), ("8 bits", small)):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "net.onnx"
            size = snt.export_onnx(net, case.data[0], file)
            session = onnxruntime.InferenceSession(
                file, options, providers=["CPUExecutionProvider"]
            )
            [out] = session.run(None, {session.get_inputs()[0].name: case.data[0].numpy()})
        here, floats = case.says(net).numpy(), case.says(case.net).numpy()
        away = float(np.abs(out - here).max())
        # codes near the middle of two levels may fall on either side
        noise = float(np.abs(here - floats).max()) if net is small else 1e-3 * float(here.std())
        require(away <= noise, f"{words}: outputs are {away:.2g} off, where {noise:.2g} may be")
        axis = 1 if here.ndim != 3 else -1
        second, first = np.moveaxis(np.sort(here, axis), axis, 0)[-2:]
        same = out.argmax(axis) == here.argmax(axis)
        clear = same | (first - second <= 2 * away)
        require(bool(clear.all()), f"{words}: another top-1")
        said.append(f"{words} top-1 {same.mean():.1%} equal, {size / 1e6:.2f} MB")
    return ", ".join(said)


def packed(case: Case) -> str:
    small = snt.quantize_static(
        case.net, case.data, weight_bits=4, act_bits=8, per_channel=True, task=case.task
    )
    with tempfile.TemporaryDirectory() as folder:
        size = snt.save_packed(small, Path(folder) / "net.safetensors")
        back = snt.load_packed(Path(folder) / "net.safetensors", case.fresh())
    require(torch.equal(case.says(small), case.says(back)), "outputs differ after loading")
    touched, params = snt.coverage(small).touched, dict(small.named_parameters())
    bits = sum(p.numel() * (4 if n in touched else 32) for n, p in params.items())
    scales = sum(len(p) * 4 for n, p in params.items() if n in touched)
    buffers = sum(b.numel() * b.element_size() for b in small.buffers())
    expected = bits / 8 + scales + buffers
    entries = len(small.state_dict())
    require(size <= expected + 600 * entries, f"{size} bytes, where {expected:.0f} are expected")
    whole = sum(p.numel() * 4 for p in params.values())
    return f"{size:,} bytes, {whole / size:.1f} times less than float32; outputs equal"


def to_snt(case: Case) -> str:
    net, report = snt.to_snt(case.net, case.data[0])
    a, b = case.says(net), case.says(case.net)
    require(torch.equal(a, b) == report.equal, f"said equal={report.equal}, which is not so")
    if not report.replaced and not report.left:
        raise Missing("the net calls no activation (recurrent layers have theirs inside)")
    modules = dict(net.named_modules())
    for row in report.replaced:
        made = isinstance(modules[row.name], snt.SNTActivation)
        require(made, f"'{row.name}' is said to be Eq. (1)")
    left = {name for name, _ in report.left}
    for name, module in modules.items():
        hidden = isinstance(module, ACTIVATIONS) and name not in left
        require(not hidden, f"'{name}' is a {type(module).__name__}, of which nothing is said")
    kinds = {r.was for r in report.replaced}
    if kinds <= {"ReLU"}:
        require(report.equal, "the net has ReLU alone, and outputs changed")
    same = "outputs equal" if report.equal else f"outputs up to {report.difference:.2g} apart"
    gates = f", {len(left)} left ({', '.join(sorted({r[:40] for _, r in report.left})[:1])})"
    return f"{len(report.replaced)} of {'/'.join(sorted(kinds))}: {same}{gates if left else ''}"


def audit(case: Case) -> str:
    own = case.task != snt.Task()
    x, y = case.data
    scene = Scene(
        model=case.net, inputs=x, targets=y, raw=((x, y),) if own else (),
        task=case.task if own else None, classes=None if own else 10,
    )  # fmt: skip
    found = look(scene)
    params = sum(p.numel() for p in case.net.parameters())
    share = snt.coverage(case.net).share
    require(found.parameters == params, f"{found.parameters} parameters instead of {params}")
    require(abs(found.covered - share) < 1e-9, f"{found.covered} covered instead of {share}")
    for what, why in found.unsupported.items():
        require(bool(why) and "\n" not in why, f"no reason in a line for '{what}'")
    require("compression" not in found.unsupported, str(found.unsupported))
    without = "".join(f"; no {what}: {why[:60]}" for what, why in found.unsupported.items())
    return f"{found.covered:.1%} covered{without}"


CELLS: dict[str, Callable[[Case], str]] = {
    "SAM": sam, "lambda_max": lambda_max, "trace": trace, "one-shot": one_shot, "W4": four_bits,
    "W8A8": eight_bits, "QAT": training, "ONNX": onnx, "packed": packed, "to_snt": to_snt,
    "audit": audit,
}  # fmt: skip
