"""The training loop: schedule, resumption, divergence, evaluation."""

import contextlib
import dataclasses
import io
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snt_core.common.files import PROJECT
from snt_core.common.sealed import read_sealed
from snt_core.data.facts import FACTS
from snt_core.data.load import load
from snt_core.data.split import normalise
from snt_core.nets import build
from snt_core.runs.store import Store
from snt_core.training import divergence
from snt_core.training import fit as train
from snt_core.training.engine import Engine, detect
from snt_core.training.recipe import Recipe

EXACT = Engine(device="cpu", dtype="fp32", fused=False)
RECIPE = Recipe(epochs=2, batch_size=16, lr=3e-3, warmup_epochs=0.5, weight_decay=0.05)
SAM = dataclasses.replace(RECIPE, optimizer="sam", rho=0.05)
AVERAGED = dataclasses.replace(RECIPE, ema=0.8)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits():
    """Nine batches of 16 and a ragged rest, so that every test here is quick."""
    whole = load("digits", 180)
    return dataclasses.replace(whole, train=whole.train[:150], val=whole.val[:60])


def fit(digits, recipe, engine=EXACT, variant="snt", **options):
    model = build("resnet20", variant, 10, 0)
    return model, train.fit(model, digits, recipe, engine, seed=0, **options)


class Killed(Exception):
    pass


def killer(at: int):
    def progress(step: int, steps: int) -> None:
        if step >= at:
            raise Killed

    return progress


@pytest.mark.parametrize(
    ("recipe", "engine", "variant"),
    [
        (RECIPE, EXACT, "base"),
        (AVERAGED, EXACT, "base"),
        (SAM, EXACT, "snt"),
        (SAM, detect(), "snt"),
    ],
    ids=["adam-exact", "averaged", "sam-exact", "sam-fast"],
)
def test_resumed_equals_uninterrupted_bitwise(
    digits, tmp_path, monkeypatch, recipe, engine, variant
):
    monkeypatch.setattr(train, "WORTH_COMPILING", 0)
    whole, expected = fit(digits, recipe, engine, variant, evaluations=3)
    assert expected.fused == engine.fused
    monkeypatch.setattr(train, "CHECK_EVERY", 2)
    monkeypatch.setattr(train, "SAVE_EVERY", 0.0)
    # Two kills, both within an epoch and between two evaluations.
    for at in (4, 13):
        with pytest.raises(Killed):
            fit(
                digits,
                recipe,
                engine,
                variant,
                evaluations=3,
                checkpoint=tmp_path / "state.pt",
                progress=_saved_first(killer(at)),
            )
    resumed, found = fit(
        digits, recipe, engine, variant, evaluations=3, checkpoint=tmp_path / "state.pt"
    )
    assert found.resumed >= 10
    assert found.history == expected.history
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def _saved_first(progress):
    """The loop reports, then saves: a kill that comes a report later finds the state there."""
    seen = []

    def later(step: int, steps: int) -> None:
        if seen:
            progress(seen[-1], steps)
        seen.append(step)

    return later


def test_different_seeds_draw_differently(digits):
    one = next(train.batches(digits, RECIPE, 0, 0, 1))
    two = next(train.batches(digits, RECIPE, 1, 0, 1))
    assert not torch.equal(one[1], two[1])


def test_an_epoch_shows_every_image_once(digits):
    """Up to the ragged rest, which is less than a batch."""
    recipe = dataclasses.replace(RECIPE, augment="none")
    shown = torch.cat([images for _, images, _ in train.batches(digits, recipe, 0, 0, 9)])
    everything = normalise(digits.train.images, digits.facts).flatten(1)
    keys = {tuple(row[:200].tolist()) + (row.sum().item(),) for row in everything}
    drawn = [tuple(row[:200].tolist()) + (row.sum().item(),) for row in shown.flatten(1)]
    assert len(drawn) == 9 * 16
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= keys


def test_learning_rate_warms_up_then_follows_the_cosine():
    rates = [train.learning_rate(s, 100, 10, 0.5) for s in range(100)]
    assert rates[0] == pytest.approx(0.05)
    assert rates[9] == rates[10] == pytest.approx(0.5)
    assert rates[55] == pytest.approx(0.25)
    expected = 0.5 * 0.5 * (1 + math.cos(math.pi * 89 / 90))
    assert rates[99] == pytest.approx(expected)


def test_weight_decay_spares_what_is_not_a_weight():
    model = build("resnet20", "snt", 10, 0)
    decayed, others = train.optimizer_for(model, RECIPE).param_groups
    assert decayed["weight_decay"] == 0.05
    assert others["weight_decay"] == 0.0
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert sum(len(g["params"]) for g in (decayed, others)) == len(list(model.parameters()))


def test_sgd_has_momentum_and_its_decay_in_the_gradient():
    """Two steps with one constant gradient, against the recursion by hand."""
    model = nn.Linear(3, 1)
    recipe = dataclasses.replace(RECIPE, optimizer="sgd", lr=0.1, weight_decay=0.5)
    optimizer = train.optimizer_for(model, recipe)
    weight, bias = (p.detach().clone() for p in (model.weight, model.bias))
    momentum = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for _ in range(2):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
        momentum = [0.9 * momentum[0] + 1 + 0.5 * weight, 0.9 * momentum[1] + 1]
        weight, bias = weight - 0.1 * momentum[0], bias - 0.1 * momentum[1]
    assert torch.allclose(model.weight, weight)
    assert torch.allclose(model.bias, bias)


class Clipped(nn.Linear):
    """A layer with learnable clipping levels, as PACT has, and parameters that only sound so."""

    def __init__(self, level):
        super().__init__(4, 3)
        self.clip_alpha = nn.Parameter(level)
        self.clip_alpha_offset = nn.Parameter(torch.zeros(()))


def test_averaged_weights_are_the_moving_average(digits):
    """By the sum that defines it, over the weights after each step of a run without it."""
    steps = []
    model = build("resnet20", "base", 10, 0)

    def keep(step):
        steps.append({k: v.detach().double().clone() for k, v in model.state_dict().items()})

    train.fit(model, digits, RECIPE, EXACT, seed=0, after_step=keep)
    averaged, done = fit(digits, AVERAGED, variant="base")
    # the first step's weights count whole, as nothing came before them
    weights = [0.8 ** (len(steps) - 1)]
    weights += [0.2 * 0.8 ** (len(steps) - 1 - k) for k in range(1, len(steps))]
    for name, found in averaged.state_dict().items():
        if found.is_floating_point():
            mean = sum(w * step[name] for w, step in zip(weights, steps, strict=True))
            torch.testing.assert_close(found.double(), mean, rtol=1e-4, atol=1e-6)
    shown = train.evaluate(averaged, digits.val, digits.facts)
    assert done.history[-1]["val_top1"] == shown.top1


def test_weight_decay_acts_on_clipping_levels():
    """One step with zero gradients is decay alone."""
    model = nn.Sequential(Clipped(torch.tensor(6.0)), Clipped(torch.tensor([6.0])))
    recipe = dataclasses.replace(RECIPE, lr=0.1, weight_decay=0.5)
    optimizer = train.optimizer_for(model, recipe)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        shrinks = name.split(".")[1] in ("weight", "clip_alpha")
        assert torch.allclose(p, before[name] * (0.95 if shrinks else 1.0)), name


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))


def masked(digits, recipe, **options):
    """Trains with half of the weights held at zero; the net, its fit, the steps of the hook."""
    model, steps = linear(), []
    weight = model[1].weight
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)) < 0.5

    def after_step(done: int) -> None:
        steps.append(done)
        weight.data.mul_(mask)

    try:
        done = train.fit(model, digits, recipe, EXACT, seed=0, after_step=after_step, **options)
    except Killed:
        done = None
    return model, done, steps, mask


@pytest.mark.parametrize("recipe", [RECIPE, SAM], ids=["adam", "sam"])
def test_the_hook_follows_every_step_resumed_or_not(digits, tmp_path, monkeypatch, recipe):
    whole, expected, steps, mask = masked(digits, recipe)
    assert steps == list(range(1, 19))
    assert (whole[1].weight[~mask] == 0).all()
    assert (whole[1].weight[mask] != 0).any()
    monkeypatch.setattr(train, "CHECK_EVERY", 2)
    monkeypatch.setattr(train, "SAVE_EVERY", 0.0)
    options = {"checkpoint": tmp_path / "state.pt"}
    masked(digits, recipe, progress=_saved_first(killer(4)), **options)
    saved = torch.load(io.BytesIO(read_sealed(tmp_path / "state.pt")))["model"]["1.weight"]
    assert (saved[~mask] == 0).all()
    resumed, found, steps, _ = masked(digits, recipe, **options)
    assert steps == list(range(found.resumed + 1, 19))
    assert 0 < found.resumed < 18
    assert found.history == expected.history
    assert torch.equal(resumed[1].weight, whole[1].weight)


def test_evaluation_sees_what_the_hook_left(digits):
    """A hook that clears the net: every reading is that of no knowledge."""
    model = linear()

    def clear(done: int) -> None:
        for p in model.parameters():
            p.data.zero_()

    done = train.fit(model, digits, RECIPE, EXACT, seed=0, after_step=clear)
    assert [row["val_loss"] for row in done.history] == pytest.approx([math.log(10)] * 2)


def test_a_diverging_run_says_so(digits):
    model = build("resnet20", "base", 10, 0)
    model.head.weight.data.fill_(torch.inf)
    with pytest.raises(train.Diverged, match="not finite at step 9"):
        train.fit(model, digits, RECIPE, EXACT, seed=0)


@pytest.mark.parametrize("variant", ["base", "preact", "snt"])
def test_it_learns(variant):
    """Ten classes, so chance is 10 %."""
    recipe = dataclasses.replace(RECIPE, epochs=2, batch_size=64, augment="none")
    _, done = fit(load("digits", 180), recipe, detect(), variant)
    assert done.history[-1]["train_loss"] < 0.5 * done.history[0]["train_loss"]
    assert done.history[-1]["val_top1"] > 70


def test_evaluation_is_the_plain_definition(digits):
    model = build("resnet20", "base", 10, 0).eval()
    found = train.evaluate(model, digits.test, digits.facts, batch_size=77)
    with torch.no_grad():
        logits = model(normalise(digits.test.images, digits.facts))
    right = logits.argmax(1) == digits.test.labels
    assert torch.equal(found.correct, right)
    assert found.top1 == pytest.approx(100 * right.float().mean().item())
    assert found.loss == pytest.approx(F.cross_entropy(logits, digits.test.labels).item(), rel=1e-4)


def poisoned(at: int, value: float, what: str = "running_mean"):
    """A hook that puts `value` into the first batch normalisation of a net after step `at`."""

    def hook(model: nn.Module):
        def after_step(done: int) -> None:
            if done == at:
                norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
                getattr(norm, what).data.fill_(value)

        return after_step

    return hook


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        (poisoned(2, math.nan), "loss is not finite at step 9"),
        # a unit that nothing reads: no loss shows it
        (poisoned(3, math.inf, "running_var"), "running_var is not finite at step 9"),
        (poisoned(18, -1e9), "times that of guessing at step 18"),
    ],
)
def test_statistics_that_ran_away_are_a_divergence(digits, hook, says):
    """Training losses know nothing of running statistics, which every evaluation reads."""
    model = build("resnet20", "base", 10, 0)
    with pytest.raises(train.Diverged, match=says):
        train.fit(model, digits, RECIPE, EXACT, seed=0, after_step=hook(model))


@pytest.mark.parametrize(
    ("train_loss", "val_loss", "diverged"),
    [
        (1.0, 131.0, False),  # statistics that have not settled, as after the steps of smoke
        (1.0, 2.1e4, True),
        (30.0, 9.0, True),
        (30.0, 1.0, False),  # one bad step among many, and overcome
        (0.96, 0.93, False),  # the worst reading of all published trainings
    ],
)
def test_a_net_far_worse_than_guessing_has_diverged(train_loss, val_loss, diverged):
    chance = math.log(10)
    losses = (train_loss * chance, val_loss * chance)
    told = pytest.raises(train.Diverged, match="step 7") if diverged else contextlib.nullcontext()
    with told:
        divergence.require_trained(7, *losses, num_classes=10)


def test_no_published_training_counts_as_diverged():
    records = [r for r in Store(PROJECT / "data").records() if r.status == "done"]
    last = [
        (r.metrics.get("history") or r.metrics["curve"])[-1] | {"data": r.spec.net.data}
        for r in records
        if "history" in r.metrics or "curve" in r.metrics
    ]
    assert len(last) > 200
    for row in last:
        classes = FACTS[row["data"]].num_classes
        divergence.require_trained(0, row["train_loss"], row["val_loss"], classes)


@pytest.mark.parametrize("rate", [1.0, 100.0])
def test_trainings_that_blow_up_are_told(digits, rate):
    recipe = dataclasses.replace(RECIPE, lr=rate, weight_decay=0.0)
    with pytest.raises(train.Diverged, match="of guessing at step 18"):
        train.fit(linear(), digits, recipe, EXACT, seed=0)
