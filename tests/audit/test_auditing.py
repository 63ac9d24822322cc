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
from snt_core.runs.budget import budget_of
from snt_core.runs.store import Store

EXAMPLE = Asked(target="example")


@pytest.fixture(scope="module")
def scene() -> Scene:
    found = prepare(EXAMPLE, 60).scene
    sizes = Sizes(forward=1e-4, product=1e-3, evaluate=300, layer=100, curve=8, calibrate=32)
    return replace(found, sizes=sizes)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return store_of(Store(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def done(store):
    return audit(EXAMPLE, store, budget_of("10m"))


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
    class Half:
        def loss_fn(self, output, target):
            return 0.5 * F.cross_entropy(output, target)

        def weight(self, batch):
            return 2 * len(batch[0])

    own = replace(scene, task=Half(), classes=None)
    found = score(scene.model, own, 70)
    assert found.top1 is None
    assert found.loss == pytest.approx(0.5 * score(scene.model, scene, 70).loss, rel=1e-5)


def test_one_layer_alone_is_what_the_whole_net_is_rounded_by(scene):
    whole = dict(calls.layers(quantize_weights(scene.model, 4, per_channel=True)))
    for name, layer in calls.layers(scene.model).items():
        assert torch.equal(calls.rounded(layer, 4), whole[name].weight)
    one = torch.nn.Sequential(calls.layers(scene.model)["deep.0"])
    half = prune_magnitude(one, 0.5)[0].weight
    assert torch.equal(calls.thinned(one[0].weight, 0.5), half)


def test_layers_get_their_weights_back_whatever_happens(scene):
    before = {k: v.clone() for k, v in scene.model.state_dict().items()}
    name = "deep.0"
    zeros = {name: torch.zeros_like(calls.layers(scene.model)[name].weight)}

    def fails():
        with calls.changed(scene.model, zeros) as model:
            assert not calls.layers(model)[name].weight.any()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert all(torch.equal(v, before[k]) for k, v in scene.model.state_dict().items())


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_packed_bytes_hold_every_code(bits):
    codes = torch.randint(-(2 ** (bits - 1) - 1), 2 ** (bits - 1), (77,), dtype=torch.int8)
    stream = calls._bytes(codes, bits)
    assert len(stream) == math.ceil(77 * bits / 8)
    places = ((stream.long().unsqueeze(1) >> torch.arange(8)) & 1).flatten()[: 77 * bits]
    read = (places.view(77, bits) << torch.arange(bits)).sum(1) - 2 ** (bits - 1)
    assert torch.equal(read, codes.long())


def test_a_packed_file_is_as_large_as_its_parts(scene):
    from safetensors.torch import save

    plain = calls.packed_bytes(scene.model, {})
    assert plain == len(save({k: v.contiguous() for k, v in scene.model.state_dict().items()}))
    four = calls.packed_bytes(scene.model, dict.fromkeys(calls.layers(scene.model), 4))
    weights = sum(layer.weight.numel() for layer in calls.layers(scene.model).values())
    assert weights * 3.4 < plain - four < weights * 3.5


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
            n: calls.rounded(layer, 4 if n in order[:count] else 8)
            for n, layer in calls.layers(scene.model).items()
        }
        with calls.changed(scene.model, mix) as model:
            keeps.append(layerwise.lost(reference, score(model, scene, half)) <= 0.5)
    (row,) = layerwise.cheapest_mix(scene, rises, 0.5)
    assert row["four"] == max(i for i, kept in enumerate(keeps) if kept) or not all(keeps)
    assert keeps[row["four"]]
    sizes = {n: layer.weight.numel() for n, layer in calls.layers(scene.model).items()}
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
        v = hvp(found.model, *calls._data(found, curve), v / v.norm())
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


def test_a_killed_audit_goes_on(tmp_path, monkeypatch):
    place = store_of(Store(tmp_path))
    real, count = calls.pruned, []

    def dies(scene, sparsity):
        if len(count) == 1:
            raise KeyboardInterrupt
        count.append(sparsity)
        return real(scene, sparsity)

    monkeypatch.setattr(calls, "pruned", dies)
    with pytest.raises(KeyboardInterrupt):
        audit(EXAMPLE, place, budget_of("20m"))
    there = len(place.records())
    assert there > 10
    monkeypatch.setattr(calls, "pruned", real)
    made = []
    monkeypatch.setattr(Store, "put", spied(Store.put, made))
    whole = audit(EXAMPLE, place, budget_of("20m"))
    assert len(made) == len(whole.plan) + 1 - there


def spied(put, made):
    def spy(self, record):
        made.append(record)
        return put(self, record)

    return spy


def test_a_measurement_that_fails_takes_no_other_with_it(tmp_path, monkeypatch):
    def fails(scene, sparsity):
        raise ValueError("not this one")

    monkeypatch.setattr(calls, "pruned", fails)
    found = audit(EXAMPLE, store_of(Store(tmp_path)), budget_of("15m"))
    assert "not this one" in found.left_out["50% pruned"]
    assert "float" in found.found
    assert "trace probes=5" in found.found


def test_a_budget_is_kept_and_what_had_no_time_is_said(tmp_path, monkeypatch):
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
