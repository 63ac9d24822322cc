"""What an audit measures, against direct computation, and that it goes on where it was killed."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from snt_core.audit import auditing, calls, first_look, frames, layerwise, measures
from snt_core.audit.auditing import audit, store_of
from snt_core.audit.preparing import Asked, prepare
from snt_core.audit.scene import Scene, Sizes, score
from snt_core.methods.compress.prune import prune_magnitude
from snt_core.methods.compress.quantize import quantize_weights
from snt_core.methods.curvature.lambda_max import hvp
from snt_core.methods.export import latency
from snt_core.methods.export.packed import save_packed
from snt_core.methods.tasks.task import Task
from snt_core.runs.budget import budget_of
from snt_core.runs.store import Store

EXAMPLE = Asked(target="example")


@pytest.fixture(scope="module")
def scene() -> Scene:
    found = prepare(EXAMPLE, 60).scene
    sizes = Sizes(forward=1e-4, product=1e-3, evaluate=300, layer=100, curve=8, calibrate=32)
    return replace(found, sizes=sizes)


@pytest.fixture
def no_engine(monkeypatch):
    """Without ONNX, whose export takes seconds and is tested where everything is measured."""
    monkeypatch.setattr(calls, "latency", lambda scene, n: {"why": "not here"})


def test_a_score_is_the_mean_over_samples(scene):
    found = score(scene.model, scene, 101, 7)
    x, y = scene.part(101, 7)
    with torch.no_grad():
        logits = scene.model(x)
    assert found.loss == pytest.approx(float(F.cross_entropy(logits.double(), y)), rel=1e-6)
    right = logits.argmax(1) == y
    assert found.top1 == pytest.approx(100 * float(right.double().mean()))
    assert frames._bits(found.correct, 101).tolist() == right.tolist()


def test_a_task_of_ones_own_is_what_is_scored(scene):
    half = Task(
        loss_fn=lambda output, target: 0.5 * F.cross_entropy(output, target),
        weight=lambda batch: 2 * len(batch[0]),
    )
    own = replace(scene, task=half, classes=None)
    found = score(scene.model, own, 70)
    assert found.top1 is None
    assert found.loss == pytest.approx(0.5 * score(scene.model, scene, 70).loss, rel=1e-5)


def test_one_layer_alone_is_what_the_whole_net_is_rounded_by(scene):
    whole = calls.weights(quantize_weights(scene.model, 4, per_channel=True))
    for name in calls.weights(scene.model):
        assert torch.equal(calls.rounded(scene.model, name, 4), whole[name])
    one = torch.nn.Sequential(scene.model.deep[0])
    half = prune_magnitude(one, 0.5)[0].weight
    assert torch.equal(calls.thinned(one[0].weight, 0.5), half)


def test_layers_get_their_weights_back_whatever_happens(scene):
    before = {k: v.clone() for k, v in scene.model.state_dict().items()}
    name = "deep.0"
    zeros = {name: torch.zeros_like(calls.weights(scene.model)[name])}

    def fails():
        with calls.changed(scene.model, zeros) as model:
            assert not calls.weights(model)[name].any()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert all(torch.equal(v, before[k]) for k, v in scene.model.state_dict().items())


def test_a_mix_has_the_bits_of_each_layer_and_packs_into_them(scene):
    bits = dict(zip(calls.weights(scene.plain), (8, 4, 3, 2)))
    made = calls.mixed(scene, bits)
    for name, weight in calls.weights(made).items():
        assert torch.equal(weight, calls.rounded(scene.plain, name, bits[name]))
    sizes = {name: w.numel() for name, w in calls.weights(scene.plain).items()}
    saved = sum(sizes[n] * (4 - bits[n] / 8) for n in bits)
    scales = 4 * sum(len(w) for w in calls.weights(scene.plain).values())
    less = calls.packed_bytes(scene.model) - calls.packed_bytes(made)
    assert saved - scales - 2000 < less < saved, "2,000 bytes say what is where"


def test_the_cheapest_mix_is_the_best_of_all_prefixes(scene):
    """All of them are tried here, on the half that the search saw."""
    base = score(scene.model, scene, scene.sizes.layer)
    rises = {}
    for name in calls.layers(scene.model):
        (row,) = layerwise.one_layer(scene, name, "W4")
        rises[name] = row["loss"] - base.loss
    half = scene.sizes.evaluate // 2
    order = layerwise.by_harm(scene.model, rises)
    reference = score(scene.model, scene, half)
    keeps = []
    for count in range(len(order) + 1):
        mix = {
            n: calls.rounded(scene.model, n, 4 if n in order[:count] else 8)
            for n in calls.weights(scene.model)
        }
        with calls.changed(scene.model, mix) as model:
            keeps.append(layerwise.lost(reference, score(model, scene, half)) <= 0.5)
    (row,) = layerwise.cheapest_mix(scene, rises, 0.5)
    assert row["four"] == max(i for i, kept in enumerate(keeps) if kept) or not all(keeps)
    assert keeps[row["four"]]
    sizes = {n: w.numel() for n, w in calls.weights(scene.model).items()}
    low = sum(sizes[n] for n in order[: row["four"]])
    assert row["bits"] == pytest.approx(8 - 4 * low / sum(sizes.values()))


def test_where_8_bits_lose_more_already_it_is_said(scene):
    rises = dict.fromkeys(calls.layers(scene.model), 0.0)
    (row,) = layerwise.cheapest_mix(scene, rises, -1000.0)
    assert not row["kept"]
    assert "8 bits" in row["why"]


# the whole ------------------------------------------------------------------------------------


def test_a_hessian_product_is_timed_as_it_is(scene):
    """By calls of two sizes, whose difference knows nothing of what every call does before."""
    torch.set_num_threads(1)
    found = min(first_look.look(scene).product for _ in range(3))

    def seconds(n):
        start = time.perf_counter()
        calls.product(scene, n)
        return time.perf_counter() - start

    small, large = (min(seconds(n) for _ in range(3)) for n in (2, 102))
    # small calls are mostly overhead: never too little, and no more than a call takes
    assert (large - small) / 100 < 1.5 * found
    assert found < small


def test_everything_that_is_planned_is_measured(done):
    assert {one.key for one in done.plan} == set(done.found)
    assert done.left_out.keys() == {"tokens"}
    assert len(frames.scores(done)) == 4 + 6 + 6
    assert len(frames.layers(done)) == 4
    assert not frames.layers(done).isna().any().any()
    assert len(frames.curvature(done)) == 3


def test_its_numbers_are_those_of_the_methods_called_directly(done):
    found = prepare(EXAMPLE, 600).scene
    n, curve = done.sizes.evaluate, done.sizes.curve
    x, y = found.part(n)
    with torch.no_grad():
        half = prune_magnitude(found.model, 0.5)(x)
    table = frames.scores(done).set_index("setting")
    top1 = 100 * float((half.argmax(1) == y).double().mean())
    assert table.loc["50% pruned", "top-1 (%)"] == pytest.approx(top1)
    value = frames.curvature(done).value[0]
    count = sum(p.numel() for p in found.model.parameters())
    v = torch.randn(count, generator=torch.Generator().manual_seed(3))
    for _ in range(60):  # the power method, which knows nothing of Lanczos
        v = hvp(found.model, found.part(curve), v / v.norm())
    assert value == pytest.approx(float(v.norm()), rel=0.03)


def test_the_interval_is_of_paired_samples(done):
    row = frames.scores(done).set_index("setting").loc["50% pruned"]
    base = frames._bits(done.found["float"][0]["correct"], done.sizes.evaluate)
    after = frames._bits(done.found["prune sparsity=0.5"][0]["correct"], done.sizes.evaluate)
    n, gone, won = len(base), int((base & ~after).sum()), int((~base & after).sum())
    lost = (gone - won) / n
    variance = (gone + won - n * lost**2) / (n - 1)
    assert row["lost (points)"] == pytest.approx(100 * lost)
    assert row["to"] == pytest.approx(100 * (lost + 1.96 * math.sqrt(variance / n)))


def test_the_same_command_finds_everything_there(done, store, monkeypatch):
    def never(*args):
        raise AssertionError("nothing is measured twice")

    monkeypatch.setattr(measures.layerwise, "one_layer", never)
    monkeypatch.setattr(calls, "quantized", never)
    again = audit(EXAMPLE, store, budget_of("10m"))
    assert again.found == done.found


def test_a_killed_audit_goes_on(tmp_path, monkeypatch, no_engine):
    place = store_of(Store(tmp_path))
    real, count = calls.pruned, []

    def dies(scene, sparsity):
        if len(count) == 2:  # the third time, when half of what is worth most is there
            raise KeyboardInterrupt
        count.append(sparsity)
        return real(scene, sparsity)

    monkeypatch.setattr(calls, "pruned", dies)
    with pytest.raises(KeyboardInterrupt):
        audit(EXAMPLE, place, budget_of("5m"))
    there = len(place.records())
    assert there > 15
    monkeypatch.setattr(calls, "pruned", real)
    made = []
    monkeypatch.setattr(Store, "put", spied(Store.put, made))
    whole = audit(EXAMPLE, place, budget_of("5m"))
    assert len(made) == len(whole.plan) + 1 - there


def spied(put, made):
    def spy(self, record):
        made.append(record)
        return put(self, record)

    return spy


def test_a_measurement_that_fails_takes_no_other_with_it(tmp_path, monkeypatch, no_engine):
    def fails(scene, sparsity):
        raise ValueError("not this one")

    monkeypatch.setattr(calls, "pruned", fails)
    found = audit(EXAMPLE, store_of(Store(tmp_path)), budget_of("4m"))
    assert "not this one" in found.left_out["50% pruned"]
    assert "float" in found.found
    assert "trace probes=5" in found.found


def test_a_budget_is_kept_and_what_had_no_time_is_said(tmp_path, monkeypatch, no_engine):
    monkeypatch.setattr(calls, "lambda_max", lambda *a, **k: time.sleep(60))
    start = time.monotonic()
    budget = budget_of("8s")
    found = audit(EXAMPLE, store_of(Store(tmp_path)), budget)
    assert time.monotonic() - start < 12
    assert "no time" in found.left_out["lambda_max"]
    assert all(row for row in found.found.values())


def test_records_say_nothing_that_a_path_is_in(done, store):
    for record in store.records():
        body = json.loads(record.to_json())
        assert body["profile"] == auditing.PROFILE
        assert "/" not in json.dumps(body["spec"])
    assert done.net.data.startswith("samples-")


def test_bytes_are_those_of_the_files_that_a_user_would_save(done, tmp_path):
    found = prepare(EXAMPLE, 600).scene
    rows = {row["what"]: row["bytes"] for row in done.found["packed"]}
    for bits in (8, 4):
        small = quantize_weights(found.model, bits, per_channel=True)
        assert rows[f"W{bits}"] == save_packed(small, tmp_path / "small.safetensors")
    half = prune_magnitude(found.model, 0.5)
    assert rows["50 % pruned"] == save_packed(half, tmp_path / "half.safetensors")
    assert rows["float"] == save_packed(found.model, tmp_path / "float.safetensors")
    assert rows["W4"] < rows["W8"] < rows["50 % pruned"] < rows["float"]


def test_integers_are_said_to_be_measured_only_where_they_are(done, scene, monkeypatch):
    assert [one["batch"] for one in done.found["latency"]] == [1, 8]
    (row,) = done.found["latency engines=True"]
    assert row["engine"].startswith("onnxruntime")
    assert row["kind"] == "measured"
    assert 0 < row["integer_products"] <= row["products"]
    assert frames.sizes(done).what.str.contains("W8A8, measured, ").sum() == 1

    def absent(*args):
        raise ValueError("not here")

    monkeypatch.setattr(latency, "_in_onnxruntime", absent)
    second = calls.latency(scene, 1)
    assert second["engine"].startswith("torch")
    assert second["skipped"] == "onnxruntime: ValueError: not here"
    monkeypatch.setattr(latency, "with_integer_kernels", absent)
    last = calls.latency(scene, 1)
    assert last["kind"] == "simulated"
    (told,) = [one["what"] for one in frames._times(last) if "W8A8" in one["what"]]
    assert "simulated in floats" in told


def test_curvature_comes_before_what_can_be_missed(done):
    """The largest eigenvalue both ways, trace and spectrum precede the many single layers."""
    names = [one.name for one in done.plan]
    first = names[: names.index("layer")]
    assert len(first) <= 13
    assert first.count("lambda_max") == 2
    assert {"trace", "density"} <= set(first)
