"""Verdicts on constructed records: one that holds, one that does not, one too small to tell."""

import base64
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from snt_core import claims, paper
from snt_core.edition import Result
from snt_core.experiments import ARTEFACTS
from snt_core.intervals import bootstrap
from snt_core.profiles import PROFILES
from snt_core.specs import root
from snt_core.store import Record, Store

CIFAR = PROFILES["cifar"]
N = 2000


def evaluation(top1: float, seed: int = 0) -> dict:
    """`top1` percent of N images right; a better net is right wherever a worse one is."""
    order = np.random.default_rng(seed).permutation(N)
    correct = order < round(N * top1 / 100)
    packed = base64.b64encode(np.packbits(correct).tobytes()).decode()
    return {"top1": 100 * correct.mean(), "loss": 1.0, "n": N, "correct": packed}


def result(
    artefact: str, seeds: tuple[int, ...], top1: dict, lambda_max: dict, *, curve=None, kept=None
) -> Result:
    """Records of an artefact as if nets of the given quality had been run."""
    records = []
    for spec in ARTEFACTS[artefact](CIFAR, seeds):
        net = root(spec)
        a, score = net.approach, evaluation(top1[net.approach], net.seed)
        metrics = {
            "train": {"test": score, "parameters": 1},
            "lambda_max": {
                "lambda_max": lambda_max[a] + net.seed,
                "residual": 0.0,
                "products": 9,
                "converged": True,
                "bn_mode": "eval",
            },
            "ptq": {
                "before": score,
                "after": score,
                "curve": curve[a] if curve else rising(0.05, top1[a]),
            },
            "one_shot": {
                "sweep": [
                    {"sparsity": s, **evaluation(kept(a, s), net.seed)}
                    for s in (0.0, *getattr(spec, "sparsities", ()))
                    if kept
                ]
            },
        }[spec.kind]
        records.append(
            Record(
                spec=spec,
                profile="cifar",
                status="done",
                metrics=metrics,
                n_samples=N,
                provenance={"seconds": 1.0},
            )
        )
    return Result(artefact, CIFAR, seeds, records)


RISING = {"adam": 60.0, "preact": 63.0, "arch": 66.0, "sam": 70.0}
FALLING = {"adam": 105.0, "preact": 70.0, "arch": 39.0, "sam": 15.0}


@pytest.mark.parametrize(
    ("claim", "artefact"), [("ablation", "table4"), ("ptq-resnet20", "table3")]
)
def test_orders_of_lambda_max_and_top1(claim, artefact):
    several = claims.judge(claim, result(artefact, (0, 1), RISING, FALLING))
    assert several.verdict == "reproduced"
    assert several.effect == pytest.approx(6.0)
    assert several.low < 6.0 < several.high
    assert several.n == 2

    assert claims.judge(claim, result(artefact, (0,), RISING, FALLING)).verdict == "partly"

    # One link of the chain that might be chance is enough, be the whole gain never so large.
    weak = {**RISING, "preact": 60.05, "arch": 69.95}
    assert claims.judge(claim, result(artefact, (0, 1), weak, FALLING)).verdict == "partly"

    worse = {**RISING, "arch": 59.0}
    found = claims.judge(claim, result(artefact, (0, 1), worse, FALLING))
    assert found.verdict == "not"
    assert found.effect == pytest.approx(-1.0)

    sharper = {**FALLING, "arch": 300.0}
    found = claims.judge(claim, result(artefact, (0, 1), RISING, sharper))
    assert found.verdict == "not"
    assert "does not fall" in found.text


def pruned(loss: dict):
    return lambda approach, sparsity: 90.0 - loss[approach] * 100 * sparsity**2


def test_one_shot():
    def judged(seeds, **loss):
        made = result("figure5", seeds, RISING, FALLING, kept=pruned(loss))
        return claims.judge("one-shot", made)

    holds = judged((0, 1), adam=0.5, sam=0.3, arch=0.45)
    assert holds.verdict == "reproduced"
    # mean over the sparsities of 100 (0.5 - 0.3) s^2
    expected = 20 * np.mean([(0.1 * i) ** 2 for i in range(1, 10)])
    assert holds.effect == pytest.approx(expected, abs=0.05)
    assert judged((0,), adam=0.5, sam=0.3, arch=0.45).verdict == "partly"
    assert judged((0, 1), adam=0.5, sam=0.6, arch=0.45).verdict == "not"
    assert judged((0, 1), adam=0.5, sam=0.3, arch=0.55).verdict == "not"
    assert judged((0, 1), adam=0.5, sam=0.4495, arch=0.45).verdict == "partly"


def rising(rate: float, end: float) -> list[dict]:
    steps = np.arange(0, 101, 5)
    return [
        {"step": int(s), "epoch": s / 100, "val_top1": end - 20 * float(np.exp(-rate * s))}
        for s in steps
    ]


def test_ptq_curves():
    def judged(seeds, top1, sam_rate=0.05):
        curves = {a: rising(sam_rate if a == "sam" else 0.05, top1[a]) for a in top1}
        return claims.judge("ptq-curves", result("figure6", seeds, top1, FALLING, curve=curves))

    assert judged((0, 1), RISING).verdict == "reproduced"
    assert judged((0,), RISING).verdict == "partly"
    slow = judged((0, 1), RISING, sam_rate=0.02)
    assert slow.verdict == "not"
    assert "not within" in slow.text
    assert judged((0, 1), {**RISING, "sam": 61.0}).verdict == "not"
    assert judged((0, 1), {**RISING, "sam": 66.05}).verdict == "partly"


def test_curves_that_gain_nothing_have_no_speed():
    falling = {a: [{**p, "val_top1": -p["val_top1"]} for p in rising(0.05, 50)] for a in RISING}
    found = claims.judge("ptq-curves", result("figure6", (0, 1), RISING, FALLING, curve=falling))
    assert found.verdict == "not"


def test_the_crossing_is_found_between_readings():
    curve = pd.DataFrame({"step": [0, 10, 20], "val_top1": [0.0, 90.0, 100.0]})
    assert claims._steps_to_95(curve) == pytest.approx(15.0)


def test_another_quantization_is_no_evidence_for_the_claim():
    made = result("table4", (0, 1), RISING, FALLING)
    eight = ARTEFACTS["table4"](CIFAR, (0, 1), weight_bits=8)
    records = [replace(r, spec=s) for r, s in zip(made.records, eight, strict=True)]
    found = claims.judge("ablation", replace(made, records=records))
    assert found.verdict == "not run"
    assert "not here" in found.text


def test_an_eigenvalue_that_did_not_converge_decides_nothing():
    made = result("table4", (0, 1), RISING, FALLING)
    records = [
        replace(r, metrics={**r.metrics, "converged": False})
        if r.spec.kind == "lambda_max" and root(r.spec).approach == "arch"
        else r
        for r in made.records
    ]
    found = claims.judge("ablation", replace(made, records=records))
    assert found.verdict == "not run"
    assert "ARCH did not converge" in found.text


@pytest.mark.parametrize("claim", claims.JUDGES)
def test_smoke_never_gives_a_verdict(claim):
    artefact = claims.JUDGES[claim].artefact
    made = result(artefact, (0, 1), RISING, FALLING, kept=pruned(dict.fromkeys(RISING, 0.3)))
    smoke = Result(artefact, PROFILES["smoke"], made.seeds, made.records)
    assert claims.judge(claim, smoke).verdict == "not run"


def test_an_empty_store_has_every_claim_not_run(tmp_path):
    verdicts = claims.scoreboard(Store(tmp_path))
    assert [v.id for v in verdicts] == list(paper.claims())
    assert {v.verdict for v in verdicts} == {"not run"}
    keys = {"id", "verdict", "profile", "effect", "low", "high", "n", "chapter"}
    assert set(verdicts[0].public()) == keys


def test_the_scoreboard_reads_what_is_stored(tmp_path):
    store = Store(tmp_path)
    for record in result("table4", (0, 1), RISING, FALLING).records:
        store.put(record)
    found = {v.id: v for v in claims.scoreboard(store)}["ablation"]
    assert (found.verdict, found.profile, found.n) == ("reproduced", "cifar", 2)


def test_a_diverged_net_leaves_its_claim_undecided(tmp_path):
    store = Store(tmp_path)
    for record in result("table4", (0,), RISING, FALLING).records:
        diverged = root(record.spec).approach == "arch"
        store.put(
            Record(
                spec=record.spec,
                profile="cifar",
                status="diverged" if diverged else "done",
                metrics={} if diverged else record.metrics,
                n_samples=N,
                provenance={"seconds": 1.0},
            )
        )
    found = {v.id: v for v in claims.scoreboard(store)}["ablation"]
    assert found.verdict == "not run"
    assert "diverged" in found.text


def test_bootstrap_of_one_seed_is_the_binomial_interval():
    values = np.repeat([1.0, 0.0], [600, 400])
    found = bootstrap([values])
    half = 1.96 * (0.6 * 0.4 / 1000) ** 0.5
    assert found.mean == pytest.approx(0.6)
    assert found.low == pytest.approx(0.6 - half, abs=0.003)
    assert found.high == pytest.approx(0.6 + half, abs=0.003)


def test_the_same_images_again_are_no_new_evidence():
    values = np.repeat([1.0, 0.0], [600, 400])
    one, three = bootstrap([values]), bootstrap([values] * 3)
    assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.1)


def test_seeds_that_disagree_widen_the_interval_to_students():
    sets = [np.repeat([1.0, 0.0], [k, 1000 - k]) for k in (550, 600, 650)]
    found = bootstrap(sets)
    half = 4.3027 * 0.05 / 3**0.5  # t of 2 degrees of freedom, deviation 0.05
    assert found.high - found.mean == pytest.approx(half, rel=1e-3)
    assert found.mean - found.low == pytest.approx(half, rel=1e-3)


def test_every_coded_claim_exists_in_the_paper():
    assert set(claims.JUDGES) <= set(paper.claims())
    assert all(case.artefact in ARTEFACTS for case in claims.JUDGES.values())
