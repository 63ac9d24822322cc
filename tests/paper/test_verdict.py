"""Claims from their assertions; records that are missing, diverged, tied or many; power."""

import dataclasses
import json
import math

import numpy as np
import pytest

from snt_core.common.errors import UserError
from snt_core.paper import figure6, numbers, power
from snt_core.paper.artefacts import claims
from snt_core.paper.effects import above_chance, loses_more
from snt_core.paper.evidence import frame
from snt_core.paper.statistics import Interval, holm, over_seeds, p_value
from snt_core.paper.verdict import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    PARTLY,
    SUPPORTED,
    decide,
    judge,
    scoreboard,
    survivors,
)
from snt_core.runs import store as store_module
from snt_core.runs.store import Store
from tests.paper.test_claims import CASES, FALLING, RISING, SEEDS
from tests.records import changed, evidence, judged, result

HOLDS = {"lambda_max": FALLING, "after": RISING}


def of_net(approach: str):
    return lambda spec: spec.net.approach == approach


# claims from assertions -------------------------------------------------------------------------


def test_a_claim_is_supported_when_all_its_assertions_are():
    found = judged("ablation", SEEDS, **HOLDS)
    assert found.verdict == SUPPORTED
    assert found.tally == "4 supported"


def test_one_assertion_contradicts_a_claim():
    found = judged("ablation", SEEDS, **{**HOLDS, "after": {**RISING, "arch": 61}})
    assert found.verdict == CONTRADICTED
    assert found.leading.id == "top1-arch"
    assert found.tally == "3 supported, 1 contradicted"


def test_a_claim_is_partly_supported_where_nothing_contradicts():
    after = {**RISING, "preact": (60, 64, 59)}
    found = judged("ablation", SEEDS, **{**HOLDS, "after": after})
    assert found.verdict == PARTLY
    assert judged("ablation", (0,), **HOLDS).verdict == INCONCLUSIVE


def test_parts_that_were_not_run_leave_a_claim_partly_supported():
    resnet, *_ = evidence("overhead", **CASES["overhead"]["step-resnet20"].supports)
    found = judge("overhead", resnet)
    assert found.verdict == PARTLY
    assert found.tally == "4 supported, 8 not run"


def test_a_gap_that_a_sign_alone_would_refute_is_inconclusive():
    """One image of 2,000, and a scatter of points: neither says anything."""
    found = judged("ablation", SEEDS, **{**HOLDS, "after": {**RISING, "preact": (63, 57, 59.8)}})
    assert {j.id: j.verdict for j in found.assertions}["top1-preact"] == INCONCLUSIVE
    found = judged("ablation", (0,), **{**HOLDS, "after": {**RISING, "preact": 59.95}})
    assert {j.id: j.verdict for j in found.assertions}["top1-preact"] == INCONCLUSIVE


def test_nets_that_lose_in_the_wrong_order_do_not_pass_for_compressible():
    """Float accuracies far apart hide what rounding takes; the losses tell."""
    top1 = {"adam": 60, "arch": 70, "sam": 80}
    after = {"adam": 58, "arch": 67, "sam": 76}
    found = judged("ptq-resnet20", SEEDS, top1=top1, after=after, lambda_max=FALLING)
    verdicts = {j.id: j.verdict for j in found.assertions}
    assert verdicts["top1-arch"] == verdicts["top1-sam"] == SUPPORTED
    assert verdicts["loss-arch"] == verdicts["loss-sam"] == CONTRADICTED
    assert found.verdict == CONTRADICTED


def test_what_is_lost_before_fine_tuning_is_its_own_number():
    made = result("table4", SEEDS, top1=80, before={"adam": 40, "arch": 50}, after=79)
    assert loses_more("adam", "arch", "before_correct")(made.records).mean == pytest.approx(10)
    assert loses_more("adam", "arch")(made.records).mean == pytest.approx(0)


# records that cannot tell -----------------------------------------------------------------------


def test_a_seed_with_a_diverged_net_does_not_count():
    made = result("table4", SEEDS, **HOLDS)
    lost = changed(
        made,
        lambda s: of_net("arch")(s) and s.net.seed == 1,
        status="diverged",
        metrics={},
    )
    found = {j.id: j for j in judge("ablation", lost).assertions}
    assert found["top1-arch"].n == found["lambda-arch"].n == 2
    assert found["top1-preact"].n == 3
    gone = changed(made, of_net("arch"), status="diverged", metrics={})
    found = {j.id: j for j in judge("ablation", gone).assertions}
    assert found["top1-arch"].verdict == NOT_RUN
    assert found["top1-arch"].text == "ARCH diverged"


def test_an_eigenvalue_that_did_not_converge_decides_nothing():
    found = judged("ablation", SEEDS, **HOLDS, converged={"arch": False})
    by = {j.id: j for j in found.assertions}
    assert by["lambda-arch"].verdict == NOT_RUN
    assert "did not converge" in by["lambda-arch"].text
    assert by["lambda-preact"].verdict == by["top1-arch"].verdict == SUPPORTED


def test_another_quantization_is_no_evidence_for_the_claim():
    eight = result("table4", SEEDS, part={"weight_bits": 8}, **HOLDS)
    found = {j.id: j for j in judge("ablation", eight).assertions}
    assert found["top1-arch"].verdict == NOT_RUN
    assert "was not run" in found["top1-arch"].text
    assert found["lambda-arch"].verdict == SUPPORTED  # of the float nets, which are the same


def test_what_lacks_is_told_of_the_seed_that_is_nearest_to_whole():
    made = result("table4", (0, 1))

    def there(record) -> bool:
        """All of seed 0 but a net's quantization, and little of seed 1."""
        measures = (record.spec.kind, record.spec.net.approach)
        return measures != ("ptq", "arch") if record.spec.net.seed == 0 else measures[0] == "train"

    kept = dataclasses.replace(made, records=[r for r in made.records if there(r)])
    found = {j.id: j for j in judge("ablation", kept).assertions}
    assert found["top1-arch"].text == "quantization of ARCH was not run"


def test_sparsities_at_chance_are_left_out():
    """At 90 % every net is at chance: there the more accurate net only has more to lose."""
    lost = {"adam": lambda s: 70 if s > 0.85 else 5 * s, "arch": lambda s: 75 if s > 0.85 else s}
    columns = {"top1": {"adam": 80, "arch": 85, "sam": 85}, "lost": lost["adam"]}
    made = result("figure5", part={"backbone": "resnet20", "method": "iterative"}, **columns)
    sweep = frame(made.records, "imp")
    assert set(sweep.sparsity) - set(above_chance(sweep).sparsity) == {0.9}
    assert above_chance(sweep.iloc[:0]).empty


@pytest.mark.parametrize("claim", ["vit-token-pruning", "vit-token-merging"])
def test_settings_of_tokens_that_are_too_slow_are_untestable(claim):
    (found,) = judged(claim, **CASES[claim]["drop"].supports, faster=0.02).assertions
    assert found.verdict == NOT_RUN
    assert "times as fast" in found.text


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"before": 50, "after": 50, "lost": 0, "prune": 0, "merge": 0, "top1": 60}, "are equal"),
        ({"lambda_max": 100}, "are equal"),
        ({"converged": False}, "too few"),
    ],
    ids=["drops", "eigenvalues", "unconverged"],
)
def test_a_proxy_of_what_does_not_vary_is_untestable(columns, why):
    base = {**CASES["proxy"]["resnet20"].supports, "after": RISING}
    found = judged("proxy", SEEDS, **{**base, **columns})
    assert found.verdict == NOT_RUN
    assert all(why in assertion.text for assertion in found.assertions)


def test_a_proxy_goes_on_without_nets_that_diverged():
    made = evidence("proxy", SEEDS, **CASES["proxy"]["resnet20"].supports)
    made = [changed(m, of_net("preact"), status="diverged", metrics={}) for m in made]
    found = {j.id: j for j in judge("proxy", *made).assertions}
    assert found["resnet20"].verdict == SUPPORTED


def test_smoke_beside_real_records_does_not_hide_them():
    real, smoke = (result("table4", SEEDS, profile=name, **HOLDS) for name in ("cifar", "smoke"))
    for order in ((real, smoke), (smoke, real)):
        found = judge("ablation", *order)
        assert (found.verdict, found.leading.profile) == (SUPPORTED, "cifar")


def test_two_fixed_checkpoints_are_settled_by_images_alone():
    """Nothing is trained, so one seed is all there is, and asking for two changes nothing."""
    for seeds in ((0,), (0, 1)):
        for columns, verdict in (
            (CASES["vit-pruning"]["drop"].supports, SUPPORTED),
            (CASES["vit-pruning"]["drop"].contradicts, CONTRADICTED),
        ):
            made = result("table2", seeds, profile="imagenet", **columns)
            (found,) = judge("vit-pruning", made).assertions
            assert (found.verdict, found.n, found.flags) == (verdict, 1, ())


# intervals, p-values, several at once -----------------------------------------------------------


def test_p_agrees_with_scipy_and_with_the_interval():
    from scipy import stats

    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.normal(rng.uniform(-2, 2), 1, rng.integers(2, 8))
        found = over_seeds(values)
        expected = stats.ttest_1samp(values, 0).pvalue
        assert p_value(found, (0, math.inf)) == pytest.approx(expected, rel=1e-6)
        outside = found.low > 0 or found.high < 0
        assert (p_value(found, (0, math.inf)) < 0.05) == outside


def test_holm_is_the_textbooks():
    """Holm's own kind of example: 0.01, 0.04, 0.03, 0.005 at 5 %."""
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    assert holm(p) == {"a", "d"}
    assert holm({"a": 0.04}) == {"a"}
    assert holm({"a": 0.04, "b": 0.5}) == set()
    assert holm({}) == set()


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((1.0, 0.1, 2.0), SUPPORTED),
        ((1.0, -0.1, 2.0), INCONCLUSIVE),
        ((-1.0, -2.0, 0.1), INCONCLUSIVE),
        ((-1.0, -2.0, -0.1), CONTRADICTED),
        ((1.0, 0.0, 2.0), INCONCLUSIVE),
        ((1.0, math.nan, math.nan), INCONCLUSIVE),
    ],
)
def test_the_interval_decides(interval, verdict):
    assert decide(Interval(*interval, 3), (0, math.inf), fixed=False, stand_in=False) == verdict
    one = decide(Interval(*interval, 1), (0, math.inf), fixed=False, stand_in=False)
    assert one == INCONCLUSIVE
    fixed = decide(Interval(*interval, 1), (0, math.inf), fixed=True, stand_in=False)
    assert fixed == verdict
    stand_in = decide(Interval(*interval, 3), (0, math.inf), fixed=False, stand_in=True)
    assert stand_in == (INCONCLUSIVE if verdict == CONTRADICTED else verdict)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("sd", [0.3, 0.9])
def test_rates_of_verdicts_are_those_that_the_page_on_power_states(seeds, sd):
    """With no effect at most 2.5 % a side are settled; with one, as many as `power` says."""
    trials = 4000
    for effect in (0.0, 0.28, 1.02, 2.1):
        found = power.simulate(effect, sd, seeds, trials=trials)
        error = 4 * math.sqrt(0.25 / trials)
        assert found[SUPPORTED] == pytest.approx(power.power(effect, sd, seeds), abs=error)
        assert found[CONTRADICTED] <= 0.025 + 4 * math.sqrt(0.025 / trials)
    none = power.simulate(0.0, sd, seeds, trials=trials)
    assert none[SUPPORTED] <= 0.025 + 4 * math.sqrt(0.025 / trials)


def test_what_is_detectable_has_the_power_that_was_asked_for():
    for sd in (0.5, 1.0):
        for seeds in (3, 5, 10):
            effect = power.detectable(sd, seeds)
            assert power.power(effect, sd, seeds) == pytest.approx(0.8)
    assert power.detectable(1.0, 10) < power.detectable(1.0, 3)


def test_scatter_is_that_of_the_seeds():
    """Gaps of 1, 2 and 3 points scatter by one; images add little to it."""
    after = {"adam": 60.0, "preact": (61, 62, 63), "arch": (70, 70, 70)}
    found = judged("ablation", SEEDS, after=after, lambda_max=FALLING)
    (gap,) = (j for j in found.assertions if j.id == "top1-preact")
    assert gap.effect == pytest.approx(2.0)
    half = 4.303 / math.sqrt(3)
    assert (gap.high - gap.low) / 2 == pytest.approx(half, rel=0.02)
    assert power.scatter([found]) > 0.9


def test_survivors_are_settled_assertions():
    verdicts = [judged("ablation", SEEDS, **HOLDS), judged("entropy", SEEDS)]
    kept = survivors(verdicts)
    assert kept
    assert all(claim == "ablation" for claim, _ in kept)


@pytest.mark.parametrize("rate", [0.03, 0.05, 0.2])
def test_the_crossing_is_found_between_readings(rate):
    """Where an exponential has 95 % of what it gains in 100 steps, off lines of 5 steps."""
    share = 0.95 * (1 - math.exp(-100 * rate))
    made = result("figure6", (0,), rate=rate)
    for _, one in figure6.table(made.records).groupby("approach"):
        assert figure6.steps_to_95(one) == pytest.approx(-math.log(1 - share) / rate, abs=0.5)


def test_a_curve_that_gains_nothing_has_no_speed():
    found = {j.id: j for j in judged("ptq-curves", SEEDS, gain={"sam": 0}).assertions}
    assert found["speed"].verdict == NOT_RUN
    assert "gains nothing" in found["speed"].text


# what scripts read ------------------------------------------------------------------------------


def test_an_empty_store_has_every_claim_not_run(tmp_path):
    verdicts = scoreboard(Store(tmp_path))
    assert [v.id for v in verdicts] == list(numbers.claims())
    assert {v.verdict for v in verdicts} == {NOT_RUN}
    keys = {"id", "verdict", "profile", "effect", "low", "high", "n", "chapter", "assertions"}
    for verdict in verdicts:
        body = verdict.public()
        assert set(body) == keys
        assert body["chapter"] == claims()[verdict.id][0]
        json.dumps(body, allow_nan=False)


def test_the_scoreboard_reads_what_is_stored_and_each_record_once(tmp_path, monkeypatch):
    store = Store(tmp_path)
    for made in (result("table4", SEEDS, **HOLDS), *evidence("overhead", SEEDS)[:2]):
        for record in made.records:
            store.put(record)
    reads: list[str] = []
    read = store_module.read_record
    monkeypatch.setattr(
        store_module,
        "read_record",
        lambda path, *more: reads.append(path.name) or read(path, *more),
    )
    found = {v.id: v for v in scoreboard(store)}
    assert (found["ablation"].verdict, found["ablation"].leading.n) == (SUPPORTED, 3)
    assert found["overhead"].verdict == PARTLY
    assert found["ptq-resnet20"].leading.n == 3  # its runs are among Table 4's
    files = [name for name in reads if name.startswith("step_time")]
    assert len(files) == len(set(files)) == 6


def test_an_unknown_claim_is_named():
    with pytest.raises(UserError, match="ptq-curves"):
        judge("ptq-curve")
