"""`python -m benchmarks.capabilities [TASK ...]`: the same tasks with this package and its peers.

A task is a class: `right` is the answer of an independent computation, every other function the
code that a user of that library writes for it. What came out, and how many lines it took, is
printed and written to `capabilities.json`, which the page "Peers" shows. A library that is
not named in a task has nothing for it. The peers: `pip install "snt-core[peers]"`.
"""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import json
import sys
import tempfile
import textwrap
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snt_core as snt
from benchmarks.measure import machine
from snt_core.common.checks import one_of
from snt_core.common.errors import UserError
from snt_core.common.files import atomic_write
from snt_core.common.vision import torchvision

PACKAGES = {
    "snt_core": "snt-core",
    "pyhessian": "pyhessian",
    "curvlinops": "curvlinops-for-pytorch",
    "torch": "torch",
    "torchao": "torchao",
    "torch_pruning": "torch-pruning",
    "pytorch_optimizer": "pytorch-optimizer",
}


def small_net() -> tuple[nn.Module, Tensor, Tensor]:
    """A convolutional classifier with smooth activations, images and labels, in float64."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 5)]
    labels = torch.randint(5, (60,))
    return nn.Sequential(*layers).double().eval(), torch.randn(60, 3, 8, 8).double(), labels


def largest(net: nn.Module, loss: Any) -> float:
    """The largest eigenvalue of the dense Hessian of `loss(net)`."""
    names = list(dict(net.named_parameters()))
    flat = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    shapes = [p.shape for p in net.parameters()]

    def of(vector: Tensor) -> Tensor:
        pieces = vector.split([s.numel() for s in shapes])
        params = {n: v.view(s) for n, v, s in zip(names, pieces, shapes, strict=True)}
        return loss(lambda x: torch.func.functional_call(net, params, (x,)))

    return float(torch.linalg.eigvalsh(torch.autograd.functional.hessian(of, flat))[-1])


class Eigenvalue:
    """Largest eigenvalue of a classifier's loss Hessian, with a bound on its error"""

    def right() -> str:
        net, x, y = small_net()
        return f"{largest(net, lambda f: F.cross_entropy(f(x), y)):.4f}"

    def snt_core() -> str:
        net, x, y = small_net()
        found = snt.lambda_max(net, (x, y))
        return f"{found.value:.4f}, error at most {found.residual:.0e} of it"

    def pyhessian() -> str:
        from pyhessian import hessian

        net, x, y = small_net()
        found = hessian(net, nn.CrossEntropyLoss(), data=(x, y), cuda=False)
        values, _ = found.eigenvalues()
        return f"{values[0]:.4f}, no bound"

    def curvlinops() -> str:
        from curvlinops import HessianLinearOperator
        from scipy.sparse.linalg import eigsh

        net, x, y = small_net()
        params = list(net.parameters())
        h = HessianLinearOperator(net, nn.CrossEntropyLoss(), params, [(x, y)]).to_scipy()
        return f"{eigsh(h, k=1, which='LA', return_eigenvectors=False)[0]:.4f}, ARPACK's tolerance"


class IgnoredLabels:
    """The same where labels of -100 are left out, in batches that hold different numbers of them"""

    def data() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
        net, x, y = small_net()
        y[:18] = -100
        return net, [(x[:20], y[:20]), (x[20:], y[20:])]

    def right() -> str:
        net, batches = IgnoredLabels.data()
        x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
        return f"{largest(net, lambda f: F.cross_entropy(f(x), y)):.4f}"

    def snt_core() -> str:
        net, batches = IgnoredLabels.data()
        return f"{snt.lambda_max(net, batches).value:.4f}"

    def pyhessian() -> str:
        from pyhessian import hessian

        net, batches = IgnoredLabels.data()
        found = hessian(net, nn.CrossEntropyLoss(), dataloader=batches, cuda=False)
        return f"{found.eigenvalues()[0][0]:.4f}"

    def curvlinops() -> str:
        from curvlinops import HessianLinearOperator
        from scipy.sparse.linalg import eigsh

        net, batches = IgnoredLabels.data()
        params = list(net.parameters())
        h = HessianLinearOperator(net, nn.CrossEntropyLoss(), params, batches).to_scipy()
        return f"{eigsh(h, k=1, which='LA', return_eigenvectors=False)[0]:.4f}"


class Regression:
    """The same of a regression"""

    def data() -> tuple[nn.Module, Tensor, Tensor]:
        torch.manual_seed(0)
        return nn.Linear(6, 1).double(), torch.randn(64, 6).double(), torch.randn(64, 1).double()

    def right() -> str:
        net, x, y = Regression.data()
        return f"{largest(net, lambda f: F.mse_loss(f(x), y)):.4f}"

    def snt_core() -> str:
        net, x, y = Regression.data()
        return f"{snt.lambda_max(net, (x, y), task=snt.Task(loss_fn=F.mse_loss)).value:.4f}"

    def pyhessian() -> str:
        from pyhessian import hessian

        net, x, y = Regression.data()
        return f"{hessian(net, nn.MSELoss(), data=(x, y), cuda=False).eigenvalues()[0][0]:.4f}"

    def curvlinops() -> str:
        from curvlinops import HessianLinearOperator
        from scipy.sparse.linalg import eigsh

        net, x, y = Regression.data()
        params = list(net.parameters())
        h = HessianLinearOperator(net, nn.MSELoss(), params, [(x, y)]).to_scipy()
        return f"{eigsh(h, k=1, which='LA', return_eigenvectors=False)[0]:.4f}"


class Attention:
    """The same of a vision transformer of timm, whose attention kernel has no second derivative"""

    def data(depth: int = 1) -> tuple[nn.Module, Tensor, Tensor]:
        torchvision()
        import timm

        torch.manual_seed(0)
        shape = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": depth, "num_heads": 2}
        net = timm.models.VisionTransformer(**shape, num_classes=3, mlp_ratio=2).double().eval()
        return net, torch.randn(12, 3, 8, 8).double(), torch.randint(3, (12,))

    def right() -> str:
        net, x, y = Attention.data()
        net.blocks[0].attn.fused_attn = False
        return f"{largest(net, lambda f: F.cross_entropy(f(x), y)):.4f}"

    def snt_core() -> str:
        net, x, y = Attention.data()
        return f"{snt.lambda_max(net, (x, y)).value:.4f}"

    def pyhessian() -> str:
        from pyhessian import hessian

        net, x, y = Attention.data()
        found = hessian(net, nn.CrossEntropyLoss(), data=(x, y), cuda=False)
        return f"{found.eigenvalues()[0][0]:.4f}"

    def curvlinops() -> str:
        from curvlinops import HessianLinearOperator
        from scipy.sparse.linalg import eigsh

        net, x, y = Attention.data()
        params = list(net.parameters())
        h = HessianLinearOperator(net, nn.CrossEntropyLoss(), params, [(x, y)]).to_scipy()
        return f"{eigsh(h, k=1, which='LA', return_eigenvectors=False)[0]:.4f}"


class Pruning:
    """Half of all weights of a transformer layer pruned by magnitude, packed attention included"""

    def data() -> nn.Module:
        torch.manual_seed(0)
        return nn.TransformerEncoderLayer(16, 2, 32)

    def right() -> str:
        return "50.0 % of the matrices' weights are zero"

    def zeros(net: nn.Module) -> str:
        weights = [w for n, w in net.state_dict().items() if w.ndim > 1 and "mask" not in n]
        share = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
        return f"{share:.1%} of the matrices' weights are zero"

    def snt_core() -> str:
        return Pruning.zeros(snt.prune_magnitude(Pruning.data(), 0.5))

    def torch() -> str:
        from torch.nn.utils import prune

        net = Pruning.data()
        chosen = [(net.self_attn, "in_proj_weight"), (net.self_attn.out_proj, "weight")]
        chosen += [(net.linear1, "weight"), (net.linear2, "weight")]
        prune.global_unstructured(chosen, prune.L1Unstructured, amount=0.5)
        for module, name in chosen:
            prune.remove(module, name)
        return Pruning.zeros(net)


class FourBits:
    """The weights of a convolutional net rounded to 4 bits, a scale for each output channel"""

    def data() -> nn.Module:
        return small_net()[0].float()

    def told(net: nn.Module) -> str:
        weights = [m.weight for m in net if hasattr(m, "weight")]
        levels = [max(len(row.unique()) for row in w.detach().flatten(1)) for w in weights]
        return f"at most {levels[0]} levels a channel (convolution), {levels[1]} (linear)"

    def right() -> str:
        return "at most 15 levels a channel (convolution), 15 (linear)"

    def snt_core() -> str:
        return FourBits.told(snt.quantize_weights(FourBits.data(), 4, per_channel=True))

    def torchao() -> str:
        from torchao.quantization import IntxWeightOnlyConfig, PerAxis, quantize_

        net = FourBits.data()
        quantize_(net, IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerAxis(0)))
        net[3].weight = nn.Parameter(net[3].weight.dequantize())
        return FourBits.told(net)


class SmallFile:
    """A linear net stored with 4-bit weights"""

    def data() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)).eval()

    def right() -> str:
        net = SmallFile.data()
        return f"{sum(p.numel() for p in net.parameters() if p.ndim > 1) // 2:,} bytes and scales"

    def snt_core() -> str:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "net.safetensors"
            snt.save_packed(snt.quantize_weights(SmallFile.data(), 4), file)
            return f"{file.stat().st_size:,} bytes"

    def torchao() -> str:
        from torchao.quantization import IntxWeightOnlyConfig, PerAxis, quantize_

        net = SmallFile.data()
        quantize_(net, IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerAxis(0)))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "net.pt"
            torch.save(net.state_dict(), file)
            return f"{file.stat().st_size:,} bytes"


class BatchStatistics:
    """A step of SAM counts a batch once in the statistics of batch normalisation"""

    def data() -> tuple[nn.Module, Any]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
        x, y = torch.randn(32, 6), torch.randint(3, (32,))

        def closure() -> Tensor:
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            return loss

        return net, closure

    def right() -> str:
        return "counted 1 time"

    def snt_core() -> str:
        net, closure = BatchStatistics.data()
        sam = snt.SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=0.05, model=net)
        sam.step(closure)
        return f"counted {int(net[1].num_batches_tracked)} time"

    def pytorch_optimizer() -> str:
        from pytorch_optimizer import SAM

        net, closure = BatchStatistics.data()
        sam = SAM(net.parameters(), torch.optim.SGD, lr=0.1, rho=0.05)
        closure()
        sam.step(closure)
        return f"counted {int(net[1].num_batches_tracked)} times"


class BrokenStep:
    """A step of SAM with a loss that is not finite leaves the weights finite"""

    def data() -> tuple[nn.Module, Any]:
        net, _ = BatchStatistics.data()
        x, y = torch.full((32, 6), float("inf")), torch.randint(3, (32,))

        def closure() -> Tensor:
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            return loss

        return net, closure

    def told(net: nn.Module) -> str:
        return "finite" if all(p.isfinite().all() for p in net.parameters()) else "NaN"

    def right() -> str:
        return "finite"

    def snt_core() -> str:
        net, closure = BrokenStep.data()
        sam = snt.SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=0.05, model=net)
        sam.step(closure)
        return BrokenStep.told(net)

    def pytorch_optimizer() -> str:
        from pytorch_optimizer import SAM

        net, closure = BrokenStep.data()
        sam = SAM(net.parameters(), torch.optim.SGD, lr=0.1, rho=0.05)
        closure()
        sam.step(closure)
        return BrokenStep.told(net)


class Tokens:
    """Pairs of tokens merged in each block of a timm transformer, without training"""

    def right() -> str:
        return "another output of the same shape"

    def snt_core() -> str:
        net, x, _ = Attention.data(depth=2)
        nn.init.normal_(net.head.weight)
        merged = snt.merge_tokens(net, 1)
        same = merged(x).shape == net(x).shape and not torch.equal(merged(x), net(x))
        return "another output of the same shape" if same else "not so"


class Architecture:
    """SNT in the place of a net's activations, with its weights"""

    def right() -> str:
        return "equal outputs at first, learnable shifts"

    def snt_core() -> str:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
        x = torch.randn(2, 3, 8, 8)
        found = snt.to_snt(net, x).model
        return "equal outputs at first, learnable shifts" if torch.equal(found(x), net(x)) else "no"


class FewerChannels:
    """Half of the channels taken out of a net, so that plain kernels run faster"""

    def right() -> str:
        return "fewer parameters"

    def torch_pruning() -> str:
        import torch_pruning as tp

        net, x = small_net()[0].float(), torch.randn(1, 3, 8, 8)
        importance = tp.importance.MagnitudeImportance()
        kept = {"pruning_ratio": 0.5, "ignored_layers": [net[3]]}
        tp.pruner.MagnitudePruner(net, x, importance, **kept).step()
        return f"{sum(p.numel() for p in net.parameters())} of 1,332 parameters are left"


class GaussNewton:
    """Another curvature matrix: the largest eigenvalue of the generalised Gauss-Newton matrix"""

    def right() -> str:
        return "a number of its own"

    def curvlinops() -> str:
        from curvlinops import GGNLinearOperator
        from scipy.sparse.linalg import eigsh

        net, x, y = small_net()
        params = list(net.parameters())
        g = GGNLinearOperator(net, nn.CrossEntropyLoss(), params, [(x, y)]).to_scipy()
        return f"{eigsh(g, k=1, which='LA', return_eigenvectors=False)[0]:.4f}"


TASKS = {
    name: found
    for name, found in vars(sys.modules[__name__]).items()
    if inspect.isclass(found) and found.__module__ == __name__ and "right" in vars(found)
}


def lines_of(function: Any) -> int:
    """Return how many lines of code the body of a function has, imports included."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef)
    return len([line for line in ast.unparse(node).splitlines()[1:] if line.strip()])


def outcome(function: Any) -> str:
    """Return what a library answers; an error is an answer too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(function())
    except Exception as error:  # whatever a library raises is what its user sees
        said = " ".join(str(error).split())
        return f"{type(error).__name__}: {said[:97] + '...' if len(said) > 100 else said}"


def measured(name: str) -> dict[str, Any]:
    """Return a task's question, its right answer, and what each library says in how many lines."""
    task = TASKS[name]
    found = {
        library: {"says": outcome(vars(task)[library]), "lines": lines_of(vars(task)[library])}
        for library in PACKAGES
        if library in vars(task)
    }
    right = vars(task)["right"]()
    return {"task": name, "asks": inspect.getdoc(task), "right": right, "libraries": found}


def main(names: list[str]) -> None:
    for name in names:
        one_of("task", name, TASKS)
    rows = [measured(name) for name in names or TASKS]
    for row in rows:
        print(f"{row['task']}: {row['asks']}\n  right: {row['right']}")
        for library, found in row["libraries"].items():
            print(f"  {library} ({found['lines']} lines): {found['says']}")
    if not names:
        versions = {library: importlib.metadata.version(p) for library, p in PACKAGES.items()}
        body = {"machine": machine(), "versions": versions, "rows": rows}
        target = Path(__file__).with_name("capabilities.json")
        atomic_write(target, (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode())
        print(f"-> {target}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"benchmarks: {error}")
