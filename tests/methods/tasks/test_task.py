"""Dense float64 Hessians as oracles of every task and form of data; refusals by their words."""

from __future__ import annotations

import copy
from collections import UserDict
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from snt_core.methods.analysis.channels import channel_ranges
from snt_core.methods.analysis.entropy import activation_entropy
from snt_core.methods.compress.activations import calibrate, quantize_static
from snt_core.methods.compress.pact import prepare_qat
from snt_core.methods.curvature.lambda_max import hvp, lambda_max
from snt_core.methods.curvature.rise import loss_rises
from snt_core.methods.curvature.scale_free import adaptive_sharpness
from snt_core.methods.curvature.spectrum import hessian_trace, spectral_density
from snt_core.methods.curvature.surface import loss_surface
from snt_core.methods.tasks.task import Task

N = 12
SINGLE = {"tolerance": 1e-8}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def dense(model: nn.Module, loss_of) -> Tensor:
    """The Hessian of `loss_of(model)`, a scalar, by autograd on the flat parameters."""
    model = copy.deepcopy(model).eval()
    names = {k: p for k, p in model.named_parameters() if p.requires_grad}

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self) -> Tensor:
            return loss_of(self.model)

    def loss(flat: Tensor) -> Tensor:
        pieces = flat.split([p.numel() for p in names.values()])
        moved = {f"model.{k}": v.view_as(p) for (k, p), v in zip(names.items(), pieces)}
        return functional_call(Loss(), moved, ())

    flat = torch.cat([p.detach().reshape(-1) for p in names.values()])
    return torch.autograd.functional.hessian(loss, flat)


def assert_right(model: nn.Module, data, task: Task | None, loss_of, **options) -> None:
    """lambda_max and products are those of the dense Hessian of the loss of everything at once."""
    exact = dense(model, loss_of)
    vector = torch.randn(len(exact), dtype=exact.dtype)
    product = hvp(model, data, vector, task=task, **options)
    torch.testing.assert_close(product, exact @ vector, rtol=1e-7, atol=1e-9)
    found = lambda_max(model, data, task=task, tolerance=1e-7, **options)
    assert found.converged
    assert found.value == pytest.approx(torch.linalg.eigvalsh(exact)[-1].item(), rel=1e-7)


def mlp(outputs: int, inputs: int = 5) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 4), nn.Tanh(), nn.Linear(4, outputs)).double()


def regression() -> tuple:
    model, x, y = mlp(1), torch.randn(N, 5).double(), torch.randn(N, 1).double()
    return model, (x, y), Task(loss_fn=F.mse_loss), lambda net: F.mse_loss(net(x), y)


def binary() -> tuple:
    model, x, y = mlp(1), torch.randn(N, 5).double(), torch.randint(2, (N, 1)).double()
    loss = F.binary_cross_entropy_with_logits
    return model, (x, y), Task(loss_fn=nn.BCEWithLogitsLoss()), lambda net: loss(net(x), y)


def soft_labels() -> tuple:
    model, x, y = mlp(3), torch.randn(N, 5).double(), torch.rand(N, 3).softmax(1).double()
    return model, (x, y), Task(loss_fn=F.cross_entropy), lambda net: F.cross_entropy(net(x), y)


def distillation() -> tuple:
    model, (x, y) = mlp(3), (torch.randn(N, 5).double(), torch.rand(N, 3).softmax(1).double())
    task = Task(
        loss_fn=nn.KLDivLoss(reduction="batchmean"),
        forward=lambda model, batch: model(batch[0]).log_softmax(1),
    )

    def loss_of(net: nn.Module) -> Tensor:
        return F.kl_div(net(x).log_softmax(1), y, reduction="none").sum() / N

    return model, (x, y), task, loss_of


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 4, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"aux": x.sum(), "out": self.body(x)}


def segmentation() -> tuple:
    model, x, y = (
        Segmenter().double(),
        torch.randn(N, 2, 4, 4).double(),
        torch.randint(4, (N, 4, 4)),
    )
    y[:5, :2] = -100  # other shares of the pixels in other batches
    task = Task(loss_fn=F.cross_entropy, forward=lambda model, batch: model(batch[0])["out"])
    return model, (x, y), task, lambda net: F.cross_entropy(net(x)["out"], y)


class Tagger(nn.Module):
    """Token ids and their mask to a class for each token, nested as large models return it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)
        self.rnn = nn.GRU(4, 4, batch_first=True)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, dict]:
        assert input_ids.dtype == torch.long
        x = self.embed(input_ids) * attention_mask[:, :, None]
        return {"logits": self.head(self.rnn(x)[0])}, {}


def tokens() -> tuple:
    ids, labels = torch.randint(7, (N, 6)), torch.randint(3, (N, 6))
    mask = torch.ones(N, 6).double()
    for i in range(N):
        labels[i, 1 + i % 5 :], mask[i, 1 + i % 5 :] = -100, 0
    rows = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    batches = [UserDict({k: v[i : i + 5] for k, v in rows.items()}) for i in range(0, N, 5)]
    flat = lambda logits, labels: F.cross_entropy(logits.flatten(0, 1), labels.flatten())  # noqa: E731
    task = Task(
        loss_fn=flat,
        forward=lambda model, b: model(b["input_ids"], b["attention_mask"])[0]["logits"],
        target=lambda batch: batch["labels"],
        weight=lambda batch: (batch["labels"] != -100).sum(),
    )
    return Tagger().double(), batches, task, lambda n: flat(n(ids, mask)[0]["logits"], labels)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return (self.left(a) * self.right(b)).sum(1), a


@dataclass
class Sizes:
    n: int


def several_inputs() -> tuple:
    a, b, y = torch.randn(N, 3).double(), torch.randn(N, 2).double(), torch.randn(N).double()
    batches = [((a[i : i + 5], [b[i : i + 5]]), Sizes(i), y[i : i + 5]) for i in range(0, N, 5)]
    task = Task(
        loss_fn=F.l1_loss,
        forward=lambda model, batch: model(batch[0][0], batch[0][1][0])[0].square(),
        target=lambda batch: batch[2],
    )
    model = TwoInputs().double()
    return model, batches, task, lambda net: F.l1_loss(net(a, b)[0].square(), y)


def autoencoder() -> tuple:
    model, x = mlp(5), torch.randn(N, 5).double()
    task = Task(loss_fn=F.mse_loss, target=lambda batch: batch)
    return model, x, task, lambda net: F.mse_loss(net(x), x)


def ignored_labels() -> tuple:
    model, x, y = mlp(3), torch.randn(N, 5).double(), torch.randint(3, (N,))
    y[[0, 1, 2, 7]] = -100
    return model, (x, y), None, lambda net: F.cross_entropy(net(x), y)


def class_weights() -> tuple:
    model, x, y = mlp(3), torch.randn(N, 5).double(), torch.arange(N) // 4
    y[4] = 9
    weight = torch.tensor([1.0, 2.0, 7.0]).double()
    loss = nn.CrossEntropyLoss(weight=weight, ignore_index=9)
    return model, (x, y), Task(loss_fn=loss), lambda net: loss(net(x), y)


def partial_loss() -> tuple:
    model, x, y = mlp(3), torch.randn(N, 5).double(), torch.randint(3, (N,))
    loss = partial(F.cross_entropy, ignore_index=0)
    return model, (x, y), Task(loss_fn=loss), lambda net: loss(net(x), y)


TASKS = {
    f.__name__: f
    for f in (regression, binary, soft_labels, segmentation, tokens, several_inputs, autoencoder)
    + (distillation, ignored_labels, class_weights, partial_loss)
}


@pytest.mark.parametrize("name", TASKS)
def test_the_eigenvalue_of_every_task_is_that_of_the_dense_hessian(name: str) -> None:
    model, data, task, loss_of = TASKS[name]()
    assert_right(model, data, task, loss_of, batch_size=5)


@pytest.mark.parametrize(
    "form", ["list", "pairs of lists", "loader", "shuffled", "a loader's batch"]
)
def test_every_form_of_data_has_the_same_hessian(form: str) -> None:
    model, (x, y), _, loss_of = ignored_labels()
    rows = TensorDataset(x, y)
    data = {
        "list": [(x[:5], y[:5]), (x[5:], y[5:])],
        "pairs of lists": [[x[:3], y[:3]], [x[3:], y[3:]]],  # the first holds ignored labels alone
        "loader": DataLoader(rows, batch_size=5),
        "shuffled": DataLoader(rows, batch_size=5, shuffle=True),
        "a loader's batch": next(iter(DataLoader(rows, batch_size=N))),
    }[form]
    assert_right(model, data, None, loss_of)
    assert lambda_max(model, data).n_samples == N - 4


SIZES = {
    "images": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)), (8, 3, 9, 9)),
    "sequences": (nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), (8, 7, 6)),
    "signals": (nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Conv1d(4, 2, 1)), (8, 3, 9)),
}


@pytest.mark.parametrize("name", SIZES)
def test_two_batches_of_inputs_are_never_taken_for_inputs_and_targets(name: str) -> None:
    model, shape = SIZES[name]
    longer = [*shape]
    longer[1 if name == "sequences" else -1] += 3
    a, b = torch.randn(shape), 10 * torch.randn(longer)
    bits = {"weight_bits": 8, "act_bits": 8}

    def scale(data) -> float:
        return float(quantize_static(model, data, **bits)[0].act_quantizer.scale)

    assert scale([[a], [b]]) == scale([a, b, a]) > 3 * scale((a, b))
    with pytest.raises(ValueError, match=r"^a list of two tensors[^\n]*as \[\[first\], \[second\]"):
        quantize_static(model, [a, b], **bits)


def test_two_batches_of_token_ids_are_never_taken_for_inputs_and_targets() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2))
    batches = [torch.randint(5, (4, 3)), torch.randint(5, (4, 6))]
    with pytest.raises(ValueError, match="a list of two tensors"):
        calibrate(model, batches, 8)


def test_a_task_with_a_target_takes_two_batches_of_one_part() -> None:
    model, (a, b) = nn.Conv2d(3, 3, 1), (torch.randn(4, 3, 8, 8), torch.randn(4, 3, 5, 5))
    task = Task(loss_fn=F.mse_loss, target=lambda batch: batch[0])
    one = Task(loss_fn=F.mse_loss, target=lambda image: image)
    with pytest.raises(ValueError, match="a list of two tensors"):
        lambda_max(model, [a, b], task=one)
    expected = lambda_max(model, [a, b, a, b], task=one)  # the same mean
    found = lambda_max(model, [[a], [b]], task=task)
    assert found.value == pytest.approx(expected.value, rel=1e-4)
    assert found.n_samples == 8


@pytest.mark.parametrize(
    "target",
    [torch.arange(4), torch.rand(4), torch.rand(4, 2), torch.rand(4, 1, 8, 8), torch.ones(4, 8, 8)],
)
def test_a_batch_of_inputs_and_targets_as_a_list_is_a_pair(target: Tensor) -> None:
    x = torch.randn(4, 5) if target.shape[1:] == (2,) else torch.randn(4, 3, 8, 8)
    model = nn.Linear(x.shape[-1], 2)
    pair, listed = (calibrate(model, d, 8) for d in ((x, target), [x, target]))
    assert torch.equal(pair.act_quantizer.scale, listed.act_quantizer.scale)


@dataclass
class Out:
    logits: Tensor
    extra: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Frozen:
    logits: Tensor
    kind: str = field(default="logits", init=False)


@pytest.mark.parametrize("kind", [Out, Frozen])
def test_dataclasses_are_outputs_and_batches(kind: type) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, batch):
            return kind(self.head(batch.logits))

    x, y = torch.randn(N, 4), torch.randint(3, (N,))
    model = Net()
    task = Task(
        loss_fn=lambda out, y: F.cross_entropy(out.logits, y),
        forward=lambda model, batch: model(batch[0]),
    )
    expected = lambda_max(nn.Sequential(model.head), (x, y)).value
    assert lambda_max(model, [(kind(x), y)], task=task).value == pytest.approx(expected, rel=1e-5)
    wide = lambda_max(model.double(), [(kind(x), y)], task=task)  # the batch is made float64
    assert wide.value == pytest.approx(expected, rel=1e-5)


def test_all_measures_follow_the_task() -> None:
    model, data, task, loss_of = tokens()
    exact, labels = dense(model, loss_of), sum(int(task.weight(b)) for b in data)
    trace = hessian_trace(model, data, task=task, probes=60)
    assert abs(trace.value - exact.trace().item()) < 4 * trace.error
    density = spectral_density(model, data, task=task, probes=2, steps=40)
    largest = torch.linalg.eigvalsh(exact)[-1].item()
    assert max(map(max, density.nodes)) == pytest.approx(largest, rel=1e-8)
    surface = loss_surface(model, data, task=task, points=3)
    loss = loss_of(model).item()
    assert surface.losses[1][1] == pytest.approx(loss, rel=1e-9)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        moved.head.weight.mul_(1.5)
    rise = loss_rises(model, {"moved": moved}, data, task=task)["moved"]
    step = torch.cat([(b - a).reshape(-1) for a, b in zip(model.parameters(), moved.parameters())])
    assert rise.rise == pytest.approx(loss_of(moved).item() - loss, rel=1e-9)
    assert rise.quadratic == pytest.approx((step @ exact @ step / 2).item(), rel=1e-9)
    assert surface.n_samples == trace.n_samples == rise.n_samples == labels
    small = adaptive_sharpness(model, data, task=task, rho=1e-5)
    grads = torch.autograd.grad(loss_of(model), list(model.parameters()))
    length = sum((p * g).square().sum() for p, g in zip(model.parameters(), grads)).sqrt()
    assert small == pytest.approx(1e-5 * length.item(), rel=1e-3)


@pytest.mark.parametrize("name", ["segmentation", "tokens", "several_inputs"])
def test_calibration_and_ranges_follow_the_task(name: str) -> None:
    model, data, task, _ = TASKS[name]()
    layer = {"segmentation": "body.2", "tokens": "head", "several_inputs": "left"}[name]
    small = calibrate(model, data, 8, task=task, observer="mse", batch_size=5)
    assert float(small.get_submodule(layer).act_quantizer.scale) > 0
    assert channel_ranges(model, [layer], data, task=task)[layer].low
    assert activation_entropy(model, data, task=task).layers[layer] > 0
    bits = {"weight_bits": 4, "act_bits": 4, "task": task}
    assert quantize_static(model, data, **bits) is not None
    assert prepare_qat(model, data, **bits) is not None


def test_calibration_takes_inputs_alone_or_with_targets_alike() -> None:
    model, x = mlp(3).float(), torch.randn(N, 5)
    y, rows = torch.randint(3, (N,)), TensorDataset(x)
    forms = [x, (x, y), [x[:5], x[5:]], DataLoader(rows, batch_size=5), [(x[:6], y[:6]), [x[6:]]]]
    found = [calibrate(model, data, 4, observer="percentile").state_dict() for data in forms]
    for other in found[1:]:
        for key, value in found[0].items():
            torch.testing.assert_close(other[key], value, rtol=1e-4, atol=1e-6)


def test_batches_reach_a_model_that_works_in_place_as_copies() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.mul_(2))

    x, y = torch.randn(N, 5), torch.randint(3, (N,))
    before = x.clone()
    lambda_max(InPlace(), [(x, y)])
    calibrate(InPlace(), [x], 4)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_models_have_the_curvature_of_their_weights(dtype: torch.dtype) -> None:
    model, x, y = mlp(3).to(dtype), torch.randn(N, 5).to(dtype), torch.randint(3, (N,))
    wide = copy.deepcopy(model).float()
    expected = lambda_max(wide, (x.float(), y))
    assert lambda_max(model, (x, y)) == expected
    assert lambda_max(model, [(x, y)]).value == pytest.approx(expected.value, rel=1e-5)
    assert model[0].weight.dtype == dtype
    both = nn.Sequential(mlp(4), nn.Linear(4, 3).float())  # float64, then float32
    rest = Task(forward=lambda model, batch: model[1](model[0](batch[0])))
    assert lambda_max(both, (x.double(), y), task=rest).converged


class Augmented(Dataset):
    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.x[i] + 0.1 * torch.randn(5), self.y[i]


class Once(IterableDataset):
    def __init__(self, rows: list) -> None:
        self.rows = iter(rows)

    def __iter__(self):
        return self.rows


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.dropout(x))  # always on, also in eval mode


def moving() -> dict[str, tuple]:
    model, x, y = mlp(3).float(), torch.randn(N, 5), torch.randint(3, (N,))
    rows = TensorDataset(x, y)
    return {
        "augmented": (model, DataLoader(Augmented(x, y), batch_size=5)),
        "some dropped": (model, DataLoader(rows, batch_size=7, shuffle=True, drop_last=True)),
        "read once": (model, DataLoader(Once(list(rows)), batch_size=5)),
        "dropout always on": (Noisy(), (x, y)),
    }


@pytest.mark.parametrize("name", moving())
def test_data_that_changes_from_pass_to_pass_is_refused(name: str) -> None:
    model, data = moving()[name]
    with pytest.raises(ValueError, match="two passes over the data"):
        lambda_max(model, data)
    model, data = moving()[name]
    with pytest.raises(ValueError, match="two passes over the data"):
        hessian_trace(model, data, probes=4)
    model, data = moving()[name]
    with pytest.raises(ValueError, match="two passes over the data"):
        loss_surface(model, data, points=3)
    model, data = moving()[name]
    if name != "dropout always on":  # the layers' inputs are what changes
        with pytest.raises(ValueError, match=r"two passes over the data|no batch"):
            calibrate(model, data, 4, observer="mse")


X, Y = torch.randn(N, 5), torch.randint(3, (N,))
FLOATS, BITS = torch.randn(N, 1), torch.randint(2, (N,)).bool()
HF = {"input_ids": X, "labels": Y}
REFUSED = {
    r"shape \(12, 1\) float32 are no class labels.*mse_loss.*binary": ((X, FLOATS), None),
    r"shape \(12, 3\) float32 are no class labels": ((X, torch.rand(N, 3)), None),
    r"shape \(12,\) float32 are no class labels": ((X, torch.randn(N)), None),
    r"shape \(12,\) bool are no class labels.*binary_cross": ((X, BITS), None),
    r"shape \(12, 4\) int64 are no class labels.*one label a position": (
        (X, torch.randint(3, (N, 4))),
        None,
    ),
    "labels from 0 to 3 do not fit 3 logits": ((X, torch.arange(N) % 4), None),
    "labels from -1 to 1 do not fit 3 logits": ((X, torch.arange(N) % 3 - 1), None),
    "weigh 0 in all": ((X, torch.full((N,), -100)), None),
    "12 images, 11 labels": ((X, Y[:-1]), None),
    "0 images": ((X[:0], Y[:0]), None),
    r"0 images: inputs of shape \(12, 0\)": ((X[:, :0], Y), None),
    "inputs is a scalar": ((torch.tensor(1.0), Y), None),
    "tensor without targets": (X, None),
    "a batch is a tensor without targets": ([X, X], None),
    "batches weigh 0 in all: the data has no batch": ([], None),
    "generator, which can be read only once: give list": ((b for b in [(X, Y)]), None),
    r"give DataLoader\(tensordataset, batch_size=128\)": (TensorDataset(X, Y), None),
    "NumPy arrays": ((X.numpy(), Y.numpy()), None),
    r"data is one dict: give a list of batches, such as \[batch\]": (HF, None),
    r"a batch is a dict with \['input_ids', 'labels'\]: give task=Task\(forward": ([HF], None),
    r"a batch has 3 parts, not \(inputs, targets\): give task": ([(X, X, Y)], None),
    r"data is a tuple of \(Tensor, Tensor, Tensor\)": ((X, X, Y), None),
    "data is a NoneType": (None, None),
    "data is a str": ("cifar10", None),
    "task is a function": ((X, Y), F.mse_loss),
    "loss_fn sums over the batch": (
        (X, torch.rand(N, 3)),
        Task(loss_fn=lambda o, t: (o - t).square().sum()),
    ),
    r"loss_fn returned the shape \(12, 3\)": (
        (X, torch.rand(N, 3)),
        Task(loss_fn=lambda o, t: (o - t).square()),
    ),
    "loss_fn returned 1.0": ((X, Y), Task(loss_fn=lambda o, t: 1.0)),
    r"output of shape \(12, 3\) with a target of shape \(12, 1\), which broadcasts": (
        (X, FLOATS),
        Task(loss_fn=F.mse_loss),
    ),
    "does not depend on the model's parameters": (
        (X, Y),
        Task(loss_fn=lambda o, t: F.cross_entropy(o.detach(), t)),
    ),
    "some targets are -100, and this loss_fn may leave them out: give weight": (
        (X, torch.full((N,), -100)),
        Task(loss_fn=lambda o, t: F.cross_entropy(o, t)),
    ),
    "a list of samples, not of batches": ([(X[0], Y[0]), (X[1], Y[1])], None),
    "weight returned -1": ((X, Y), Task(weight=lambda batch: -1)),
    "weight returned nan": ((X, Y), Task(weight=lambda batch: float("nan"))),
    "weight returned 'many'": ((X, Y), Task(weight=lambda batch: "many")),
    "no second derivative.*ctc": (
        (X, Y),
        Task(
            loss_fn=lambda o, t: F.ctc_loss(
                o.log_softmax(1)[:, None], t[None, :2] % 2 + 1, torch.tensor([N]), torch.tensor([2])
            )
        ),
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_right_answer_is_refused_in_one_line(message: str) -> None:
    data, task = REFUSED[message]
    with pytest.raises(ValueError, match=message) as caught:
        lambda_max(mlp(3).float(), data, task=task)
    assert "\n" not in str(caught.value)


def test_a_forward_that_calls_another_model_is_refused() -> None:
    other = mlp(3).float()
    task = Task(forward=lambda model, batch: other(batch[0]))
    for measure in (lambda_max, hessian_trace, loss_surface, adaptive_sharpness):
        with pytest.raises(ValueError, match="does not depend on the model's parameters"):
            measure(mlp(3).float(), (X, Y), task=task)
    with pytest.raises(ValueError, match="reach no convolution or linear layer"):
        calibrate(mlp(3).float(), (X, Y), 4, task=task)


def test_calibration_refuses_a_task_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"task is a function: give task=Task\("):
        calibrate(mlp(3), X, 4, task=F.mse_loss)
    forward = Task(forward=lambda model, batch: model(batch[0]))
    with pytest.raises(ValueError, match="preprocess is for models called on batch"):
        calibrate(mlp(3).float(), (X, Y), 4, task=forward, preprocess=lambda x: x)


def test_other_measures_refuse_targets_that_are_no_labels() -> None:
    model, data = mlp(1).float(), (X, FLOATS)
    for measure in (hessian_trace, spectral_density, loss_surface, adaptive_sharpness):
        with pytest.raises(ValueError, match="are no class labels"):
            measure(model, data)
    with pytest.raises(ValueError, match="are no class labels"):
        loss_rises(model, {"same": model}, data)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: x[:, :1], r"shape \(12, 1\) has one class"),
        (lambda x: x[:, None], r"shape \(12, 1, 5\) is not 12 rows of logits"),
        (lambda x: {"logits": x}, r"returned a dict with \['logits'\], not logits"),
        (lambda x: (x, x), "returned a tuple, not logits"),
    ],
)
def test_outputs_that_are_no_logits_are_refused(output, message: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 5)

        def forward(self, x: Tensor) -> object:
            return output(self.fc(x))

    with pytest.raises(ValueError, match=message):
        lambda_max(Net(), (X, torch.zeros(N, dtype=torch.long)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss_fn": nn.MSELoss}, r"loss_fn=MSELoss is a class: write MSELoss\(\)"),
        ({"loss_fn": "mse"}, "loss_fn is a str"),
        ({"loss_fn": nn.MSELoss(reduction="sum")}, "reduction 'sum'"),
        ({"weight": 3}, "weight is a int"),
    ],
)
def test_a_task_of_something_else_than_functions_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Task(**fields)


ROWS, CLASSES = torch.randn(N, 4), torch.arange(N) % 3
CE = F.cross_entropy
FAILING = {
    "loss fails on the first batch: RuntimeError": ((ROWS, CLASSES.int()), {"loss_fn": CE}),
    "loss fails on the first batch: IndexError": ((ROWS, CLASSES + 5), {"loss_fn": CE}),
    "loss fails on the first batch: AttributeError": (
        (ROWS, CLASSES),
        {"loss_fn": lambda output, y: CE(output.logits, y)},
    ),
    "labels from 0 to 2 do not fit 2 class weights": (
        (ROWS, CLASSES),
        {"loss_fn": nn.CrossEntropyLoss(weight=torch.ones(2))},
    ),
    "target fails on a batch: KeyError": (
        [{"x": ROWS}],
        {"loss_fn": CE, "target": lambda batch: batch["labels"]},
    ),
    "weight fails on a batch: TypeError": (
        (ROWS, CLASSES),
        {"weight": lambda batch: batch["labels"]},
    ),
    "model fails on the first batch: AttributeError": (
        (ROWS, CLASSES),
        {"forward": lambda model, batch: model(batch[0]).logits},
    ),
    "model fails on the first batch: AssertionError": (
        (ROWS, CLASSES),
        {"forward": lambda model, batch: exec("assert 0")},
    ),
}


@pytest.mark.parametrize("words", FAILING)
def test_what_a_users_function_raises_is_told_in_a_line(words: str) -> None:
    data, functions = FAILING[words]
    with pytest.raises(ValueError, match=rf"^[^\n]*{words}[^\n]*$"):
        lambda_max(nn.Linear(4, 3), data, task=Task(**functions))


MEASURES = {
    "lambda_max": lambda_max,
    "hessian_trace": hessian_trace,
    "loss_rises": lambda model, data: loss_rises(model, {"same": model}, data),
    "loss_surface": loss_surface,
    "adaptive_sharpness": adaptive_sharpness,
    "quantize_static": partial(quantize_static, weight_bits=8, act_bits=8),
    "prepare_qat": partial(prepare_qat, weight_bits=8, act_bits=8),
    "activation_entropy": activation_entropy,
}


@pytest.mark.parametrize("form", ["pair", "batches"])
@pytest.mark.parametrize("name", MEASURES)
def test_inputs_of_a_wrong_shape_are_told_in_a_line(name: str, form: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(36, 3))
    pair = (torch.randn(N, 1, 5, 5), CLASSES)
    with pytest.raises(ValueError, match=r"^the model fails on the first batch: [^\n]*$"):
        MEASURES[name](model, pair if form == "pair" else [pair])
