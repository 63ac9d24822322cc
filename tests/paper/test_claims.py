"""Every assertion on constructed records: supported, contradicted, too small to tell, missing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from snt_core.paper import numbers
from snt_core.paper.artefacts import artefacts, claims
from snt_core.paper.profiles import PROFILES
from snt_core.paper.selection import Selection
from snt_core.paper.verdict import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    SUPPORTED,
    Judged,
    judge,
    judge_assertion,
)
from tests.records import evidence, judged, without

SEEDS = (0, 1, 2)
RISING = {"adam": 60.0, "preact": 63.0, "arch": 66.0, "sam": 70.0}
FALLING = {"adam": 105.0, "preact": 70.0, "arch": 39.0, "sam": 15.0}


@dataclass(frozen=True)
class Case:
    """Columns of constructed records under which an assertion is supported, and so on."""

    supports: dict[str, Any]
    contradicts: dict[str, Any]
    unsure: dict[str, Any]


def order(column: str, more: str, less: str, high: float, low: float, **common: Any) -> Case:
    """A column that has to be higher for one approach; unsure where seeds disagree."""
    mixed = {more: (high, low, high), less: (low, high, high)}
    return Case(
        {column: {more: high, less: low}, **common},
        {column: {more: low, less: high}, **common},
        {column: mixed, **common},
    )


def sharper(more: str, less: str) -> Case:
    return order("lambda_max", more, less, 100, 10)


def higher(better: str, worse: str) -> Case:
    return order("after", better, worse, 75, 65)


def alike(column: str = "after") -> Case:
    near = {"adam": 91.0, "arch": 91.1, "sam": 91.3}
    return Case({column: near}, {column: {**near, "sam": 95}}, {column: {**near, "sam": 91.9}})


def drops(more: str, less: str) -> Case:
    return order("lost", more, less, 50, 10, top1=95)


def step(contender: str, good: float, bad: float, edge: list[float]) -> Case:
    def made(value: Any) -> dict[str, Any]:
        times = {"adam": 1.0, "sam": 2.0, "snt": 1.0, "adam_eager": 2.0, "snt_eager": 2.0}
        times |= {contender: value}
        return {"seconds": times}

    return Case(made(good), made(bad), made(edge))


def memory() -> Case:
    base = {"adam": 100.0, "sam": 104.0, "snt_eager": 180.0}
    return Case(
        {"memory": {**base, "snt": 105.0}},
        {"memory": {**base, "snt": 115.0}},
        {"memory": {**base, "snt": [100.0, 120.0] * 4 + [110.0]}},
    )


def per_backbone(*names: str, **makers: Any) -> dict[str, Case]:
    return {f"{key}-{name}": make for name in names for key, make in makers.items()}


THREE = ("resnet20", "mixer_s", "mobilenet_v1")
PLAIN = {"before": RISING, "lost": {"adam": 40, "preact": 30, "arch": 20, "sam": 10}}
PLAIN |= {"prune": {"adam": 20, "sam": 10}, "merge": {"adam": 30, "sam": 10}, "top1": 90}
TURNED = {"lambda_max": {a: 1 / x for a, x in FALLING.items()}}
CASES: dict[str, dict[str, Case]] = {
    "overhead": per_backbone(
        *THREE,
        step=step("snt", 1.02, 1.2, [0.9, 1.3] * 4 + [1.1]),
        plain=step("snt_eager", 2.04, 2.4, [1.8, 2.6] * 4 + [2.2]),
        sam=step("sam", 2.0, 2.6, [1.2, 2.8] * 4 + [2.3]),
        memory=memory(),
    ),
    "vit-lambda": {"lambda": sharper("adam", "sam")},
    "vit-pruning": {"drop": drops("adam", "sam")},
    "vit-token-pruning": {"drop": order("prune", "adam", "sam", 24, 6)},
    "vit-token-merging": {"drop": order("merge", "adam", "sam", 24, 6)},
    "vit-a8w8": {"drop": order("before", "sam", "adam", 79, 60)},
    "pca": {
        "ffn": order("ffn", "sam", "adam", 0.8, 0.4),
        **{
            f"qkv-{a}": Case(
                {"ffn": {a: 0.5}, "qkv": {a: (0.7, 0.71, 0.72)}},
                {"ffn": {a: 0.5}, "qkv": {a: (0.3, 0.31, 0.32)}},
                {"ffn": {a: 0.5}, "qkv": {a: (0.3, 0.7, 0.6)}},
            )
            for a in ("sam", "adam")
        },
    },
    "outliers": {"ratio": order("ratio", "adam", "sam", 12, 4)},
    "entropy": {part: order(part, "arch", "adam", 3.0, 2.5) for part in ("weights", "activations")},
    "ptq-resnet20": {
        "lambda-arch": sharper("adam", "arch"),
        "lambda-sam": sharper("arch", "sam"),
        "top1-arch": higher("arch", "adam"),
        "top1-sam": higher("sam", "arch"),
        # nets of unlike float accuracy: what is lost decides, not what is left
        "loss-arch": order("after", "arch", "adam", 78, 74, top1={"adam": 80, "arch": 80}),
        "loss-sam": order("after", "sam", "adam", 58, 54, top1={"adam": 60, "sam": 60}),
    },
    "ptq-mixer": {
        "lambda-arch": sharper("adam", "arch"),
        "lambda-sam": sharper("arch", "sam"),
        "alike": alike(),
    },
    "ptq-mobilenet": {
        "lambda-arch": sharper("adam", "arch"),
        "lambda-sam": sharper("arch", "sam"),
        "top1-arch": higher("arch", "adam"),
        "top1-sam": higher("sam", "arch"),
    },
    "qat-resnet18": {"lambda-arch": sharper("adam", "arch"), "top1-arch": higher("arch", "adam")},
    "qat-mixer": {
        "alike": alike(),
        "top1-sam-adam": higher("sam", "adam"),
        "top1-sam-arch": higher("sam", "arch"),
    },
    "qat-mobilenet": {
        "top1-arch": higher("arch", "adam"),
        "top1-sam": higher("sam", "adam"),
        "top1-arch-sam": higher("arch", "sam"),
        "lambda-arch": sharper("sam", "arch"),
    },
    "imp-mixer": {"top1-adam": drops("adam", "arch"), "top1-sam": drops("sam", "arch")},
    "imp-resnet": {"drop": drops("adam", "arch")},
    "one-shot": {
        **per_backbone(
            "resnet20",
            "mixer_s",
            **{
                "sam-adam": drops("adam", "sam"),
                "sam-arch": drops("arch", "sam"),
                "arch-adam": drops("adam", "arch"),
            },
        )
    },
    "ptq-curves": {
        "speed": Case(
            {"rate": {"adam": (0.05, 0.0501, 0.0499)}},
            {"rate": {"adam": 0.05, "arch": 0.05, "sam": (0.02, 0.0201, 0.0199)}},
            {"rate": {"adam": (0.05, 0.02, 0.05), "sam": (0.05, 0.05, 0.02)}},
        ),
        "end-adam": higher("sam", "adam"),
        "end-arch": higher("sam", "arch"),
    },
    "ablation": {
        "lambda-preact": sharper("adam", "preact"),
        "lambda-arch": sharper("preact", "arch"),
        "top1-preact": higher("preact", "adam"),
        "top1-arch": higher("arch", "preact"),
    },
    "augmentation": {
        **{
            f"dense-{a}": Case(
                {"top1": {a: 90, (a, "none"): 80}},
                {"top1": {a: 80, (a, "none"): 90}},
                {"top1": {a: (90, 80, 85), (a, "none"): (80, 90, 85)}},
            )
            for a in ("adam", "arch")
        },
        "drop": Case(
            {"lost": {("adam", "none"): 40, ("arch", "none"): 20}},
            {"lost": {("adam", "none"): 20, ("arch", "none"): 40}},
            {"lost": {("adam", "none"): (40, 20, 30), ("arch", "none"): (20, 40, 30)}},
        ),
    },
    "proxy": {
        **{
            name: Case(
                {"lambda_max": FALLING, **PLAIN},
                {**TURNED, **PLAIN},
                {**PLAIN, "lambda_max": {"adam": (105, 1, 50), "sam": (15, 200, 40)}},
            )
            for name in (*THREE, "vit")
        },
        **{
            f"{name}-tuned": Case(
                {"lambda_max": FALLING, "after": RISING},
                {**TURNED, "after": RISING},
                {"lambda_max": {"adam": (105, 1, 50), "sam": (15, 200, 40)}, "after": RISING},
            )
            for name in THREE
        },
    },
}
STAND_INS = {"vit-lambda", "vit-pruning", "vit-token-pruning", "vit-token-merging", "vit-a8w8"}
STAND_INS |= {"pca", "outliers", "qat-resnet18"}
EACH = [(claim, name) for claim, cases in CASES.items() for name in cases]
each = pytest.mark.parametrize(("claim", "name"), EACH)


def stands_in(claim: str, name: str) -> bool:
    return claim in STAND_INS or (claim, name) == ("proxy", "vit")


def one(claim: str, name: str, seeds=SEEDS, profile="cifar", **columns) -> Judged:
    return judge_assertion(claim, name, *evidence(claim, seeds, profile, **columns))


def test_an_assertion_alone_is_judged_as_with_the_others():
    together = judged("ptq-resnet20").assertions
    assert len(together) > 1
    made = evidence("ptq-resnet20")
    assert together == tuple(judge_assertion("ptq-resnet20", j.id, *made) for j in together)


def test_every_assertion_has_its_test_and_its_cases():
    written = {
        claim: [assertion["id"] for assertion in entry["assertions"]]
        for claim, entry in numbers.claims().items()
    }
    assert {claim: sorted(ids) for claim, ids in written.items()} == {
        claim: sorted(tests) for claim, (_, tests) in claims().items()
    }
    assert {claim: set(ids) for claim, ids in written.items()} == {
        claim: set(cases) for claim, cases in CASES.items()
    }
    assert all(artefact in artefacts() for artefact, _ in claims().values())
    assert len(written) == 22
    assert 60 <= len(EACH) <= 75


@each
def test_an_effect_on_the_claimed_side_supports(claim, name):
    found = one(claim, name, **CASES[claim][name].supports)
    assert found.verdict == SUPPORTED
    assert found.low <= found.effect <= found.high
    assert found.n == len(SEEDS)
    assert ("stand-in" in found.flags) == stands_in(claim, name)
    assert ("short schedule" in found.flags) == (claim != "overhead")
    json.dumps(found.public(), allow_nan=False)


@each
def test_an_effect_on_the_other_side_contradicts_unless_of_a_stand_in(claim, name):
    found = one(claim, name, **CASES[claim][name].contradicts)
    assert found.verdict == (INCONCLUSIVE if stands_in(claim, name) else CONTRADICTED)


@each
def test_an_interval_across_the_limit_is_inconclusive(claim, name):
    found = one(claim, name, **CASES[claim][name].unsure)
    assert found.verdict == INCONCLUSIVE
    assert found.effect is not None


@each
def test_one_training_settles_nothing(claim, name):
    for columns in (CASES[claim][name].supports, CASES[claim][name].contradicts):
        found = one(claim, name, (0,), **columns)
        if claim == "overhead":  # nothing is trained
            assert found.verdict in (SUPPORTED, CONTRADICTED)
            assert "one seed" not in found.flags
        else:
            assert found.verdict in (INCONCLUSIVE, NOT_RUN)  # too few nets for a correlation
            assert "one seed" in found.flags or found.verdict == NOT_RUN
        json.dumps(found.public(), allow_nan=False)


@each
def test_smoke_gives_no_verdict(claim, name):
    assert one(claim, name, profile="smoke", **CASES[claim][name].supports).verdict == NOT_RUN


@each
def test_an_assertion_asks_for_what_it_reads_and_no_more(claim, name):
    """All runs but those that it reads are gone: nothing changes. One of its own: that seed."""
    _, tests = claims()[claim]
    test = tests[name]
    columns = CASES[claim][name].supports
    whole = one(claim, name, **columns)
    if not test.whole:
        return
    made = evidence(claim, SEEDS, **columns)
    own = [without(m, lambda s: not test.speaks_of(s)) for m in made]
    assert judge_assertion(claim, name, *own) == whole
    part = next(m for m in made if dict(m.options) == dict(test.part))
    gone = next(s for s in part.specs if test.speaks_of(s) and s.net.seed == 2)
    less = [without(m, lambda s: s == gone) for m in made]
    assert judge_assertion(claim, name, *less).n == 2


@pytest.mark.parametrize("claim", CASES)
def test_without_records_a_claim_is_not_run(claim):
    cifar, artefact = PROFILES["cifar"], claims()[claim][0]
    empty = [
        Selection(artefact=artefact, profile=cifar, seeds=seeds, specs=[]) for seeds in ((0, 1), ())
    ]
    for none in ([], empty[:1], empty[1:]):
        found = judge(claim, *none)
        assert found.verdict == NOT_RUN
        assert found.public()["effect"] is None
        assert all(assertion.text for assertion in found.assertions)
