"""SAM by hand arithmetic, against its base optimizer, and against pytorch-optimizer."""

import copy
import io
import math
import pickle
import warnings

import pytest
import torch
import torch.nn.functional as F
from pytorch_optimizer import SAM as PeerSAM
from pytorch_optimizer import Lion
from torch import nn

from snt_core.methods.optim.sam import SAM


def quadratic(w: torch.Tensor):
    """Loss w1^2/2 + 2 w2^2, gradient (w1, 4 w2), as a closure."""

    def closure():
        loss = 0.5 * w[0] ** 2 + 2 * w[1] ** 2
        loss.backward()
        return loss

    return closure


def test_one_step_on_a_quadratic_by_hand():
    # w = (3, 1): g = (3, 4), |g| = 5, e = rho g / |g| = (0.3, 0.4) with rho 0.5.
    # Gradient at w + e = (3.3, 1.4) is (3.3, 5.6); SGD with lr 0.1 ends at (2.67, 0.44).
    w = nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
    loss = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5).step(quadratic(w))
    assert loss.item() == pytest.approx(0.5 * 9 + 2)
    assert w.tolist() == pytest.approx([2.67, 0.44])


def test_one_adaptive_step_by_hand():
    # |w| g = (9, 4), norm sqrt(97); e = rho w^2 g / norm = 0.5 (27, 4) / 9.848858.
    w = nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
    SAM(torch.optim.SGD([w], lr=0.1), rho=0.5, adaptive=True).step(quadratic(w))
    e = [0.5 * 27 / 97**0.5, 0.5 * 4 / 97**0.5]
    assert w.tolist() == pytest.approx([3 - 0.1 * (3 + e[0]), 1 - 0.1 * 4 * (1 + e[1])])


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("kind", ["SGD", "Adam", "of another library", "a group added later"])
def test_to_maximize_a_function_is_to_minimize_its_negative(kind, adaptive):
    def weights(sign: int) -> list[float]:
        w = nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
        up = {"maximize": sign < 0}
        if kind == "a group added later":
            still = nn.Parameter(torch.zeros(1, dtype=torch.float64))
            optimizer = SAM(torch.optim.SGD([still], lr=0.1), 0.5, adaptive=adaptive)
            optimizer.add_param_group({"params": [w], **up})
        elif kind == "of another library":
            optimizer = SAM(Lion([w], lr=0.1, **up), 0.5, adaptive=adaptive)
        else:
            optimizer = SAM(getattr(torch.optim, kind)([w], lr=0.1, **up), 0.5, adaptive=adaptive)

        def closure():
            loss = sign * (0.5 * w[0] ** 2 + 2 * w[1] ** 2 + w[0] ** 3 * w[1])
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        return w.tolist()

    assert weights(-1) == weights(1) != [3.0, 1.0]


def test_groups_that_maximize_look_down_their_gradient_and_others_up():
    # g = (3, 4) at w = (3, 1), |g| = 5: with rho 0.5 the neighbours are 3 - 0.3 and 1 + 0.4
    w, v = (nn.Parameter(torch.tensor([x], dtype=torch.float64)) for x in (3.0, 1.0))
    optimizer = SAM(torch.optim.SGD([{"params": [w], "maximize": True}, {"params": [v]}], 0.1), 0.5)
    (0.5 * w**2 + 2 * v**2).sum().backward()
    optimizer.first_step()
    assert (w.item(), v.item()) == (pytest.approx(2.7), pytest.approx(1.4))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    )


def batches(n: int = 6):
    g = torch.Generator().manual_seed(3)
    for _ in range(n):
        yield torch.randn(16, 3, 8, 8, generator=g), torch.randint(5, (16,), generator=g)


def train(model: nn.Module, optimizer, steps=batches) -> nn.Module:
    for x, y in steps():

        def closure(x=x, y=y):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        if isinstance(optimizer, SAM):
            optimizer.step(closure)
        elif isinstance(optimizer, PeerSAM):
            optimizer.zero_grad()
            closure()
            optimizer.step(closure)
        else:
            optimizer.zero_grad()
            closure()
            optimizer.step()
    return model


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)


def test_rho_zero_is_the_base_optimizer_bitwise():
    one, two = net(), net()
    train(one, adam(one))
    train(two, SAM(adam(two), rho=0.0, model=two))
    assert same(one, two)


@pytest.mark.parametrize("adaptive", [False, True])
def test_agrees_with_pytorch_optimizer(adaptive):
    # Without batch norm: the peer lets the second pass change the batch statistics.
    def plain():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Tanh(), nn.Linear(16, 5))

    ours, theirs = plain(), plain()
    train(ours, SAM(torch.optim.SGD(ours.parameters(), lr=0.1), rho=0.1, adaptive=adaptive))
    peer = PeerSAM(theirs.parameters(), torch.optim.SGD, rho=0.1, adaptive=adaptive, lr=0.1)
    train(theirs, peer)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_batch_statistics_are_those_of_the_first_pass():
    model, reference = net(), net()
    batch = next(batches())
    train(model, SAM(adam(model), rho=0.5, model=model), lambda: [batch])
    reference.train()(batch[0])
    for name, buffer in reference.named_buffers():
        assert torch.equal(buffer, dict(model.named_buffers())[name])


def test_the_second_pass_sees_the_perturbed_weights_under_autocast():
    """Inside one shared autocast context it would read a stale low-precision copy."""
    model = nn.Linear(64, 64)
    x = torch.randn(32, 64)
    losses = []

    def closure():
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(x).float().square().mean()
        loss.backward()
        losses.append(loss.item())
        return loss

    SAM(torch.optim.SGD(model.parameters(), lr=0.0), rho=1.0).step(closure)
    assert losses[1] > losses[0] * 1.05


def test_a_saved_optimizer_goes_on_bitwise():
    first, second = net(), net()
    steps = list(batches(6))
    whole = SAM(adam(first), rho=0.1, model=first)
    train(first, whole, lambda: steps)

    half = SAM(adam(second), rho=0.1, model=second)
    train(second, half, lambda: steps[:3])
    third = net()
    third.load_state_dict(second.state_dict())
    resumed = SAM(adam(third), rho=9.9, model=third)
    resumed.load_state_dict(half.state_dict())
    train(third, resumed, lambda: steps[3:])
    assert same(first, third)


def test_a_zero_gradient_is_no_division_by_zero():
    w = nn.Parameter(torch.zeros(2))
    SAM(torch.optim.SGD([w], lr=0.1), rho=0.5).step(quadratic(w))
    assert torch.equal(w.data, torch.zeros(2))


def test_a_negative_radius_is_refused():
    with pytest.raises(ValueError, match=r"rho is -0.1"):
        SAM(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1), rho=-0.1)


def test_it_is_an_optimizer_whose_settings_are_the_base_optimizers():
    model = net()
    base = adam(model)
    sam = SAM(base, model=model)
    assert isinstance(sam, torch.optim.Optimizer)
    assert sam.rho == 0.05
    assert sam.param_groups is base.param_groups
    assert sam.state is base.state
    sam.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 3.0, "rho": 0.5})
    assert base.param_groups[1]["lr"] == 3.0


schedulers = torch.optim.lr_scheduler
SCHEDULES = {
    "lambda": lambda o: schedulers.LambdaLR(o, lambda n: 0.5**n),
    "one cycle": lambda o: schedulers.OneCycleLR(o, 0.1, total_steps=20),
    "cyclic": lambda o: schedulers.CyclicLR(o, 1e-3, 0.1, step_size_up=3),
    "restarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 3),
    "in turn": lambda o: schedulers.SequentialLR(
        o, [schedulers.ConstantLR(o, 0.1, 2), schedulers.ExponentialLR(o, 0.9)], [3]
    ),
    "chained": lambda o: schedulers.ChainedScheduler(
        [schedulers.LinearLR(o, 0.5, total_iters=3), schedulers.ExponentialLR(o, 0.9)]
    ),
    "averaged": lambda o: torch.optim.swa_utils.SWALR(o, 0.01),
    "plateau": lambda o: schedulers.ReduceLROnPlateau(o, patience=0),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("by_closure", [True, False])
def test_a_scheduler_sets_what_it_sets_on_the_base_optimizer(name, by_closure):
    rows = []
    for wrapped in (False, True):
        w = nn.Parameter(torch.tensor([3.0, 1.0]))
        optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
        optimizer = SAM(optimizer, rho=0.0) if wrapped else optimizer
        scheduler = SCHEDULES[name](optimizer)
        closure, row = quadratic(w), []
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # that steps go before the scheduler's
            warnings.filterwarnings("ignore", "The epoch parameter")
            for _ in range(8):
                optimizer.zero_grad()
                if wrapped and by_closure:
                    optimizer.step(closure)
                elif wrapped:
                    closure()
                    optimizer.first_step(zero_grad=True)
                    closure()
                    optimizer.second_step()
                else:
                    closure()
                    optimizer.step()
                scheduler.step(*([1.0] if name == "plateau" else []))
                group = optimizer.param_groups[0]
                row.append((group["lr"], group["momentum"], w.tolist()))
        rows.append(row)
    assert rows[0] == rows[1]


def test_two_calls_are_the_closure_bitwise_also_with_accumulated_gradients():
    one, two, three = net(), net(), net()
    steps = list(batches(3))
    train(one, SAM(adam(one), rho=0.1, model=one), lambda: steps)
    by_two, by_parts = SAM(adam(two), rho=0.1, model=two), SAM(adam(three), rho=0.1)
    three.eval()
    whole = SAM(adam(whole_net := net().eval()), rho=0.1)
    for x, y in steps:
        for way in (by_two.first_step, by_two.second_step):
            F.cross_entropy(two(x), y).backward()
            way(zero_grad=True)
        for way in (by_parts.first_step, by_parts.second_step):
            for part, labels in zip(x.split(8), y.split(8)):
                (F.cross_entropy(three(part), labels) / 2).backward()
            way(zero_grad=True)
    train(whole_net, whole, lambda: steps)
    assert same(one, two)
    for a, b in zip(three.parameters(), whole_net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("move", [nn.Module.double, nn.Module.bfloat16])
def test_batch_statistics_move_once_after_the_model_has_changed_its_dtype(move):
    model, reference = net(), net()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5, model=model)
    x, y = next(batches())
    for _ in range(2):  # and once more, after a step as it was
        x = x.to(model[0].weight.dtype)
        reference.load_state_dict(model.state_dict())
        train(model, sam, lambda x=x: [(x, y)])
        reference.train()(x)
        for name, buffer in reference.named_buffers():
            assert torch.equal(buffer, dict(model.named_buffers())[name])
        move(model), move(reference)


def test_a_buffer_that_the_forward_pass_replaces_comes_back():
    class Counting(nn.Linear):
        def forward(self, x):
            self.count = self.count + 1
            return super().forward(x)

    model = Counting(2, 1)
    model.register_buffer("count", torch.zeros(()))
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1), model=model)
    sam.step(lambda: model(torch.ones(1, 2)).sum().backward())
    assert model.count == 1


def failing(w, at: int, what: float):
    """A closure of the sum of squares whose gradient is `what` in its pass `at`."""
    passes = iter(range(9))

    def closure():
        loss = (w**2).sum()
        loss.backward()
        if next(passes) == at:
            w.grad[0] = what
        return loss

    return closure


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("what", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("adaptive", [False, True])
def test_gradients_that_are_not_finite_leave_all_as_it_was(at, what, adaptive):
    w = nn.Parameter(torch.tensor([3.0, 1.0]))
    sam = SAM(torch.optim.Adam([w]), adaptive=adaptive)
    with pytest.warns(UserWarning, match="no step.*not finite"):
        loss = sam.step(failing(w, at, what))
    assert loss == 10
    assert w.tolist() == [3.0, 1.0]
    assert not sam.state
    sam.step(failing(w, -1, 0.0))  # the next one is a step
    assert w.tolist() != [3.0, 1.0]


def test_no_gradient_is_no_step():
    w = nn.Parameter(torch.tensor([3.0, 1.0]))
    sam = SAM(torch.optim.SGD([w], lr=0.1, weight_decay=1.0))
    with pytest.warns(UserWarning, match="no parameter has a gradient"):
        assert sam.step(lambda: 7.0) == 7.0
    assert w.tolist() == [3.0, 1.0]


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e-18, 1e18, 1e30])
def test_a_gradient_of_any_size_points_the_same_way(size, adaptive):
    seen = []
    w = nn.Parameter(torch.tensor([3.0, 1.0]))

    def closure():
        seen.append(w.detach().clone())
        w.grad = torch.tensor([3.0, 4.0]) * size
        return torch.zeros(())

    SAM(torch.optim.SGD([w], lr=0.0), rho=0.5, adaptive=adaptive).step(closure)
    e = [0.5 * 27 / 97**0.5, 0.5 * 4 / 97**0.5] if adaptive else [0.3, 0.4]
    # 1e-42 has three digits
    assert seen[1].tolist() == pytest.approx([3 + e[0], 1 + e[1]], rel=1e-3)


@pytest.mark.filterwarnings("error")
def test_a_large_radius_around_a_zero_gradient_keeps_the_weights():
    w = nn.Parameter(torch.zeros(2))
    SAM(torch.optim.SGD([w], lr=0.1), rho=1e3).step(quadratic(w))
    assert w.tolist() == [0, 0]


def test_half_precision_weights_see_the_perturbation_of_float32():
    # The norm of 400 gradients of 4000 is 80000, beyond float16.
    w = nn.Parameter(torch.ones(400, dtype=torch.float16))
    seen = []

    def closure():
        seen.append(w.detach().clone())
        w.grad = torch.full_like(w, 4000)
        return torch.zeros(())

    SAM(torch.optim.SGD([w], lr=0.0), rho=2.0).step(closure)
    torch.testing.assert_close(seen[1], torch.full_like(w, 1.1))


def test_parameters_of_several_dtypes_share_one_norm():
    sizes = torch.float32, torch.float64, torch.complex64, torch.bfloat16
    weights = [nn.Parameter(torch.zeros(1, dtype=dtype)) for dtype in sizes]
    seen = []

    def closure():
        seen.append([w.detach().clone() for w in weights])
        for w, g in zip(weights, (1, 1, 1 + 1j, 0)):
            w.grad = torch.full_like(w, g)
        return torch.zeros(())

    SAM(torch.optim.SGD(weights, lr=0.0, foreach=False), rho=2.0).step(closure)
    assert [w.item() for w in seen[1]] == pytest.approx([1, 1, 1 + 1j, 0])
    assert [w.dtype for w in seen[1]] == list(sizes)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("place", [0, 1])
def test_a_group_without_a_gradient_changes_nothing(adaptive, place):
    def weights(groups: list[dict]) -> list[float]:
        optimizer = SAM(torch.optim.SGD(groups, lr=0.1), rho=0.5, adaptive=adaptive)
        w = optimizer.param_groups[-1 if len(groups) == 1 else 1 - place]["params"][0]
        optimizer.step(quadratic(w))
        return w.tolist()

    groups = [{"params": [nn.Parameter(torch.tensor([3.0, 1.0]))]} for _ in range(2)]
    groups.insert(place, {"params": [nn.Parameter(torch.zeros(1))]})
    assert weights(groups[:2]) == weights([groups[2]])


def test_each_group_may_have_its_own_radius():
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    seen = []

    def closure():
        seen.append((a.item(), b.item()))
        a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
        return torch.zeros(())

    groups = [{"params": [a], "rho": 1.0}, {"params": [b]}]
    SAM(torch.optim.SGD(groups, lr=0.0), rho=0.5).step(closure)
    assert seen[1] == pytest.approx((0.6, 0.4))
    with pytest.raises(ValueError, match="rho is -1"):
        SAM(torch.optim.SGD([{"params": [a], "rho": -1}]))
    seen.clear()
    SAM(torch.optim.Adadelta([a, b], lr=0.0), rho=0.5).step(closure)  # whose own rho is 0.9
    assert seen[1] == pytest.approx((0.3, 0.4))


def test_a_closure_that_raises_leaves_weights_and_statistics_as_after_the_first_pass():
    model, passes = net(), []
    before = copy.deepcopy(model)
    sam = SAM(adam(model), rho=0.5, model=model)
    x, y = next(batches())

    def closure():
        F.cross_entropy(model(x), y).backward()
        passes.append(0)
        if len(passes) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sam.step(closure)
    before(x)
    assert same(model, before)
    assert not sam.state
    sam.step(closure)


def test_steps_out_of_order_are_refused_in_a_line():
    w = nn.Parameter(torch.tensor([3.0, 1.0]))
    sam = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)
    for step in (sam.step, sam.second_step):
        with pytest.raises(ValueError, match=r"^.*closure.*first_step.*$"):
            step()
    quadratic(w)()
    sam.first_step()
    for call in (sam.first_step, sam.state_dict, lambda: pickle.dumps(sam)):
        with pytest.raises(RuntimeError, match=r"^.*second_step.*restore.*$"):
            call()
    sam.restore()
    assert w.tolist() == [3.0, 1.0]


def test_what_sam_cannot_wrap_is_refused_in_a_line():
    w = nn.Parameter(torch.zeros(2))
    sgd = torch.optim.SGD([w], lr=0.1)
    for match, arguments in {
        "LBFGS": {"base": torch.optim.LBFGS([w])},
        "SparseAdam": {"base": torch.optim.SparseAdam([w])},
        "SGD, which is no optimizer": {"base": torch.optim.SGD},
        "a list": {"base": [w]},
        "SAM already": {"base": SAM(sgd)},
        "rho is inf": {"base": sgd, "rho": math.inf},
        "rho is nan": {"base": sgd, "rho": math.nan},
        "rho is big": {"base": sgd, "rho": "big"},
        "adaptive is 'no'": {"base": sgd, "adaptive": "no"},
        "model is a Parameter": {"base": sgd, "model": w},
        "no parameter of the Sequential": {"base": sgd, "model": net()},
    }.items():
        with pytest.raises(ValueError, match=rf"^[^\n]*{match}[^\n]*$"):
            SAM(**arguments)


def test_sparse_gradients_are_refused_and_the_weights_stay():
    table = nn.Embedding(4, 2, sparse=True)
    before = table.weight.detach().clone()
    sam = SAM(torch.optim.SGD(table.parameters(), lr=0.1))
    with pytest.raises(ValueError, match=r"shape \(4, 2\) is sparse.*sparse=False"):
        sam.step(lambda: table(torch.tensor([1])).sum().backward())
    assert torch.equal(table.weight, before)


@pytest.mark.parametrize("fused", [False, True])
def test_a_grad_scaler_finds_the_step_without_it(fused):
    results = []
    for enabled in (False, True):
        model = net()
        base = torch.optim.Adam(model.parameters(), lr=1e-2, fused=fused)
        sam, scaler = SAM(base, rho=0.1, model=model), torch.amp.GradScaler("cpu", enabled=enabled)
        for x, y in batches(3):
            scaler.scale(F.cross_entropy(model(x), y)).backward()
            sam.first_step(zero_grad=True)
            scaler.scale(F.cross_entropy(model(x), y)).backward()
            scaler.step(sam)
            scaler.update()
            sam.zero_grad()
        results.append(model)
    for a, b in zip(*(model.parameters() for model in results), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.filterwarnings("ignore:SAM took no step")
def test_an_overflow_that_a_grad_scaler_finds_brings_the_weights_back(at):
    w = nn.Parameter(torch.tensor([3.0, 1.0]))
    sam, scaler = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5), torch.amp.GradScaler("cpu")
    for i, way in enumerate((sam.first_step, lambda: scaler.step(sam))):
        sam.zero_grad()
        scaler.scale((w**2).sum()).backward()
        w.grad.mul_(torch.inf if i == at else 1)
        way()
    scaler.update()
    assert w.tolist() == [3.0, 1.0]
    assert scaler.get_scale() == 2.0 ** (15 if at else 16)


def test_what_a_grad_scaler_leaves_open_is_refused():
    w = nn.Parameter(torch.tensor([3.0, 1.0]))
    sam, scaler = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5), torch.amp.GradScaler("cpu")

    def closure():
        scaler.scale((w**2).sum()).backward()

    closure()
    with pytest.raises(ValueError, match="GradScaler takes first_step"):
        scaler.step(sam, closure)
    with pytest.raises(ValueError, match="first_step"):
        scaler.step(sam)
    scaler.unscale_(sam)
    sam.first_step()
    with pytest.raises(ValueError, match="unscale_"):
        scaler.step(sam)
    assert w.tolist() == [3.0, 1.0]
    sam.step(quadratic(w))


def test_hooks_of_both_optimizers_run_once_a_step():
    model, calls = net(), []
    sam = SAM(adam(model), model=model)
    sam.register_step_pre_hook(lambda *_: calls.append("before"))
    sam.register_step_post_hook(lambda *_: calls.append("after"))
    sam.base.register_step_pre_hook(lambda *_: calls.append("base"))
    sam.register_state_dict_post_hook(lambda _, state: state | {"note": 1})
    train(model, sam, lambda: list(batches(1)))
    assert calls == ["before", "base", "after"]
    assert sam.state_dict()["note"] == 1


def test_state_survives_a_file_that_only_weights_may_be_in():
    first = net()
    steps = list(batches(6))
    base = adam(first)
    sam = SAM(base, rho=0.3, adaptive=True, model=first)
    train(first, sam, lambda: steps[:3])
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimizer": sam.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = net()
    second.load_state_dict(saved["model"])
    resumed = SAM(adam(second), model=second)
    resumed.load_state_dict(saved["optimizer"])
    for model, optimizer in ((first, sam), (second, resumed)):
        train(model, optimizer, lambda: steps[3:])
    assert same(first, second)
    assert (resumed.rho, resumed.adaptive) == (0.3, True)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_of_model_and_optimizer_goes_on_alike(twin):
    model = net()
    sam = SAM(adam(model), rho=0.1, model=model)
    schedulers.ExponentialLR(sam, 0.9)
    steps = list(batches(4))
    train(model, sam, lambda: steps[:2])
    other, optimizer = twin((model, sam))
    for pair in ((model, sam), (other, optimizer)):
        train(*pair, lambda: steps[2:])
    assert same(model, other)
    assert optimizer.param_groups is optimizer.base.param_groups


def test_frozen_parameters_stay():
    model = net()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    train(model, SAM(adam(model), rho=0.1, model=model))
    assert torch.equal(model[0].weight, before)


def test_a_model_behind_torch_compile_is_trained_alike():
    plain, compiled = net(), net()
    fast = torch.compile(compiled, backend="aot_eager")
    train(plain, SAM(adam(plain), rho=0.1, model=plain))
    train(fast, SAM(adam(compiled), rho=0.1, model=fast))
    for a, b in zip(plain.state_dict().values(), compiled.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
