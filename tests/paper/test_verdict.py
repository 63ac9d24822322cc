"""Verdicts from several parts, and from records that are missing, diverged, tied or many."""

import math

import pytest

from snt_core.common.errors import UserError
from snt_core.paper import figure5, figure6, numbers
from snt_core.paper.artefacts import claims
from snt_core.paper.recipes import BACKBONES
from snt_core.paper.verdict import judge, scoreboard
from snt_core.runs.store import Store
from tests.paper.test_claims import CASES, FALLING, RISING, SHARP_LOSES
from tests.records import changed, judged, result, without

SEVERAL = [claim for claim in numbers.claims() if len(claims()[claim][1].parts) > 1]


def parts(claim: str, **columns) -> list:
    """A result for each part of a claim, as its chapter hands them over."""
    artefact, case = claims()[claim]
    columns = {**CASES[claim].holds, **columns}
    return [result(artefact, part=part, **columns) for part in case.parts]


def backbone(made) -> str:
    return BACKBONES[made.options["backbone"]]


def of_net(approach: str):
    return lambda spec: spec.net.approach == approach


def of_kind(kind: str, approach: str):
    return lambda spec: spec.kind == kind and spec.net.approach == approach


# several backbones ------------------------------------------------------------------------------


def test_three_claims_speak_of_several_backbones():
    assert SEVERAL == ["overhead", "one-shot", "proxy"]


@pytest.mark.parametrize("claim", SEVERAL)
def test_the_weakest_backbone_decides(claim):
    for i, bad in enumerate(parts(claim, **CASES[claim].fails[0])):
        made = parts(claim)
        made[i] = bad
        found = judge(claim, *made)
        assert (found.verdict, found.effect) == ("not", judge(claim, bad).effect)
        assert judge(claim, *made[::-1]) == found
        assert all(f"{backbone(one)}: " in found.text for one in made)


@pytest.mark.parametrize("claim", SEVERAL)
def test_the_smallest_effect_is_shown_of_backbones_that_are_alike(claim):
    smaller = {
        "overhead": {"seconds": {"adam": 1.0, "sam": 2.0, "snt": 1.07}},
        "one-shot": {"lost": {"adam": 50, "sam": 40, "arch": 45}},
        "proxy": {"lost": {"adam": 40, "preact": 30, "arch": 9, "sam": 10}},
    }[claim]
    made = parts(claim)
    plain, made[1] = made[1], parts(claim, **smaller)[1]
    alone = judge(claim, made[1]).effect
    assert alone < judge(claim, plain).effect
    found = judge(claim, *made)
    assert (found.verdict, found.effect) == ("reproduced", alone)


@pytest.mark.parametrize("claim", SEVERAL)
def test_a_backbone_that_was_not_run_keeps_a_claim_from_being_reproduced(claim):
    for i, missing in enumerate(parts(claim)):
        made = parts(claim)
        del made[i]
        found = judge(claim, *made)
        assert found.verdict == "partly"
        assert f"{backbone(missing)}: not run" in found.text
        bad = parts(claim, **CASES[claim].fails[0])[i]
        assert judge(claim, bad).verdict == "not"


def test_profiles_of_the_parts_are_both_named():
    resnet, mixer = parts("one-shot")
    options = {"part": mixer.options, **CASES["one-shot"].holds}
    mixer = result("figure5", profile="paper", **options)
    found = judge("one-shot", resnet, mixer)
    assert (found.verdict, found.profile) == ("reproduced", "cifar, paper")


# records that cannot tell -----------------------------------------------------------------------


@pytest.mark.parametrize("claim", [c for c in CASES if claims()[c][1].approaches])
def test_a_diverged_approach_leaves_the_claim_undecided(claim):
    approach = claims()[claim][1].approaches[-1]
    gone = [changed(made, of_net(approach), status="diverged", metrics={}) for made in parts(claim)]
    found = judge(claim, *gone)
    assert (found.verdict, found.effect) == ("not run", None)
    assert "diverged" in found.text


@pytest.mark.parametrize(
    "claim", [c for c in CASES if "lambda_max" in claims()[c][1].kinds and c != "proxy"]
)
def test_an_eigenvalue_that_did_not_converge_decides_nothing(claim):
    case = claims()[claim][1]
    sharp = {"converged": {case.approaches[-1]: False}}
    found = judge(claim, *parts(claim, **sharp))
    assert found.verdict == "not run"
    assert "did not converge" in found.text


def test_a_claim_without_eigenvalues_does_not_mind_them():
    assert judged("vit-pruning", **CASES["vit-pruning"].holds, converged=False).n == 2
    assert judged("qat-mixer", **CASES["qat-mixer"].holds, converged=False).verdict == "reproduced"


def test_another_quantization_is_no_evidence_for_the_claim():
    columns = {"lambda_max": FALLING, "after": RISING}
    eight = result("table4", part={"weight_bits": 8}, **columns)
    found = judge("ablation", eight)
    assert found.verdict == "not run"
    assert "not here" in found.text


@pytest.mark.parametrize("claim", [c for c in CASES if claims()[c][1].approaches])
def test_a_claim_wants_every_run_that_it_speaks_of(claim):
    """One seed of one approach lacks: its mean would be over other seeds than the others'."""
    case = claims()[claim][1]
    for kind in case.kinds:
        chosen = of_kind(kind, case.approaches[-1])
        less = [without(m, lambda s: chosen(s) and s.net.seed == 1) for m in parts(claim)]  # noqa: B023
        found = judge(claim, *less)
        assert found.verdict == "not run"
        assert "not here" in found.text


@pytest.mark.parametrize("claim", ["vit-token-pruning", "vit-token-merging"])
def test_settings_of_tokens_that_are_too_slow_are_untestable(claim):
    found = judged(claim, **CASES[claim].holds, faster=0.02)
    assert found.verdict == "not run"
    assert "no setting of token" in found.text


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"before": 50, "after": 50, "lost": 0, "prune": 0, "merge": 0}, "are equal"),
        ({"lambda_max": 100}, "are equal"),
        ({"converged": False}, "too few"),
    ],
    ids=["drops", "eigenvalues", "unconverged"],
)
def test_a_proxy_of_what_does_not_vary_is_untestable(columns, why):
    found = judged("proxy", **{**SHARP_LOSES, **columns})
    assert (found.verdict, found.effect) == ("not run", None)
    assert found.text.count(why) == 4


def test_the_proxy_goes_on_without_nets_that_diverged():
    made = [changed(m, of_net("preact"), status="diverged", metrics={}) for m in parts("proxy")]
    assert judge("proxy", *made).verdict == "reproduced"


def test_smoke_beside_real_records_does_not_hide_them():
    columns = CASES["ablation"].holds
    real, smoke = (result("table4", profile=name, **columns) for name in ("cifar", "smoke"))
    for order in ((real, smoke), (smoke, real)):
        found = judge("ablation", *order)
        assert (found.verdict, found.profile) == ("reproduced", "cifar")


def test_a_checkpoint_under_two_seeds_is_one_net():
    made = result("table2", (0, 1), profile="imagenet", **CASES["vit-pruning"].holds)
    found = judge("vit-pruning", made)
    assert (found.verdict, found.n) == ("partly", 1)


# ties, ends and edges ---------------------------------------------------------------------------


def test_arch_may_equal_sam_where_the_claim_allows_it():
    columns = {**CASES["qat-mobilenet"].holds, "after": {"adam": 78, "arch": 83, "sam": 83}}
    assert judged("qat-mobilenet", **columns).verdict == "reproduced"


def test_limits_belong_to_what_is_allowed():
    exact = {
        "overhead": {"seconds": {"adam": 2.0, "sam": 3.4, "snt": 2.0}},
        "vit-lambda": {"lambda_max": {"adam": 63, "sam": 21}},
        "outliers": {"ratio": {"adam": 6, "sam": 4}},
        "pca": {"ffn": {"adam": 0.25, "sam": 0.5}, "qkv": {"adam": 0.25, "sam": 0.5}},
    }
    for claim, columns in exact.items():
        assert judged(claim, **columns).verdict == "reproduced", claim


def test_a_point_apart_is_within_a_point_but_not_beyond_doubt():
    columns = {**CASES["ptq-mixer"].holds, "after": {"adam": 91, "arch": 91.5, "sam": 92}}
    assert judged("ptq-mixer", **columns).verdict == "partly"


def test_the_two_sparsities_of_a_short_profile_count_in_proportion():
    """2 of 2 or none: two thirds of them must hold."""
    for lost, holds in ((10, True), (30, False)):
        columns = {"part": {"backbone": "resnet20", "method": "iterative"}}
        made = result("figure5", profile="smoke", lost={"adam": 20, "arch": lost}, **columns)
        records = [r for r in made.records if r.spec.kind in ("train", "imp")]
        assert figure5.imp_resnet(records).holds is holds


@pytest.mark.parametrize("rate", [0.03, 0.05, 0.2])
def test_the_crossing_is_found_between_readings(rate):
    """Where an exponential has 95 % of what it gains in 100 steps, off lines of 5 steps."""
    share = 0.95 * (1 - math.exp(-100 * rate))
    made = result("figure6", (0,), rate=rate)
    for _, one in figure6.table(made.records).groupby("approach"):
        assert figure6.steps_to_95(one) == pytest.approx(-math.log(1 - share) / rate, abs=0.5)


# what scripts read ------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", ["overhead", "vit-lambda", "pca", "outliers", "entropy"])
def test_one_number_a_seed_has_no_interval_with_one_seed(claim):
    found = judged(claim, (0,), **CASES[claim].holds).public()
    assert found["effect"] is not None
    assert (found["low"], found["high"]) == (None, None)


def test_an_empty_store_has_every_claim_not_run(tmp_path):
    verdicts = scoreboard(Store(tmp_path))
    assert [v.id for v in verdicts] == list(numbers.claims())
    assert {v.verdict for v in verdicts} == {"not run"}
    keys = {"id", "verdict", "profile", "effect", "low", "high", "n", "chapter"}
    assert set(verdicts[0].public()) == keys


def test_the_scoreboard_reads_what_is_stored(tmp_path):
    store = Store(tmp_path)
    for made in (result("table4", **CASES["ablation"].holds), *parts("overhead")[:2]):
        for record in made.records:
            store.put(record)
    found = {v.id: v for v in scoreboard(store)}
    assert (found["ablation"].verdict, found["ablation"].n) == ("reproduced", 2)
    assert (found["overhead"].verdict, found["overhead"].profile) == ("partly", "cifar")
    ran = {name for name, verdict in found.items() if verdict.verdict != "not run"}
    assert ran == {"ablation", "overhead", "ptq-curves"}  # Figure 6's runs are among Table 4's


def test_an_unknown_claim_is_named():
    with pytest.raises(UserError, match="ptq-curves"):
        judge("ptq-curve")
