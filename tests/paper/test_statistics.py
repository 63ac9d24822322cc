"""Intervals against closed forms, SciPy, plain loops, and by how often they hold the truth."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from snt_core.paper.statistics import (
    Interval,
    bootstrap,
    median,
    over_seeds,
    rank_correlation,
    standard_error,
)

# means over images and seeds --------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("seeds", "apart", "least", "most"),
    [(1, 0.0, 0.92, 0.98), (3, 0.0, 0.92, 1), (3, 1.0, 0.92, 1)],
)
def test_bootstrap_holds_the_truth_in_about_95_of_100(seeds, apart, least, most):
    """Images of mean 0.1 that the seeds share; the seeds' means are `apart`.

    With several seeds it may hold it more often: it is the wider of two intervals.
    """
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        images = rng.choice([-1.0, 0.0, 1.0], 500, p=[0.1, 0.7, 0.2])
        found = bootstrap([images + apart * rng.normal() for _ in range(seeds)], resamples=400)
        held += found.low <= 0.1 <= found.high
    assert least <= held / 400 <= most


def test_bootstrap_repeats_with_its_seed():
    sets = [np.random.default_rng(s).normal(size=50) for s in range(2)]
    assert bootstrap(sets) == bootstrap(sets)
    assert bootstrap([sets[0]]) != bootstrap([sets[0]], seed=1)


@pytest.mark.parametrize("n", [2, 3, 7])
def test_over_seeds_is_students_interval(n):
    values = np.random.default_rng(n).normal(3, 2, n)
    found = over_seeds(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.mean, found.seeds) == (pytest.approx(values.mean()), n)


def test_one_number_has_no_interval_and_nothing_beyond_doubt():
    found = over_seeds([5.0])
    assert (found.mean, found.seeds) == (5.0, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize("interval", [bootstrap, over_seeds])
def test_no_seed_is_an_error(interval):
    with pytest.raises(ValueError, match="no seed"):
        interval([])


def test_a_median_lies_in_its_interval_and_noise_widens_it():
    rng = np.random.default_rng(0)
    narrow, wide = (median(1.0 + s * rng.normal(size=40), 1) for s in (0.01, 0.1))
    for found in (narrow, wide):
        assert found.low <= found.mean <= found.high
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)
    assert median(np.full(9, 2.0), 1) == Interval(2.0, 2.0, 2.0, 1)


def test_the_standard_error_gives_the_interval_of_t():
    values = np.array([1.0, 2.5, 3.0, 4.5])
    assert standard_error(over_seeds(values)) == pytest.approx(values.std(ddof=1) / 2)


# rank correlation -------------------------------------------------------------------------------


def strata(n: int, count: int = 1, seed: int = 0, noise: float = 1.0) -> dict:
    """`count` strata of the same `n` nets: y is x with noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return {
        f"s{k}": {f"net{i}": (x[i], y) for i, y in enumerate(x + noise * rng.normal(size=n))}
        for k in range(count)
    }


def mapped(made: dict, change) -> dict:
    return {
        name: {net: change(k, x, y) for net, (x, y) in points.items()}
        for k, (name, points) in enumerate(made.items())
    }


def by_loop(made: dict, nets: list[str]) -> float:
    """Ranks counted one by one: half of how many are below less how many are above."""
    pairs = []
    for points in made.values():
        own = [points[net] for net in nets if net in points]
        for one in own:
            below = [sum(float(o[i] < one[i]) for o in own) for i in (0, 1)]
            above = [sum(float(o[i] > one[i]) for o in own) for i in (0, 1)]
            pairs.append([(b - a) / 2 / len(own) for b, a in zip(below, above)])
    xx, yy, xy = (sum(p[i] * p[j] for p in pairs) for i, j in ((0, 0), (1, 1), (0, 1)))
    return xy / math.sqrt(xx * yy) if xx * yy > 0 else math.nan


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("n", [4, 9, 30])
def test_one_stratum_is_spearmans_rho(n, ties):
    made = strata(n)
    if ties:
        made = mapped(made, lambda _, x, y: (round(x), round(y)))
    expected = stats.spearmanr(list(made["s0"].values())).statistic
    found = rank_correlation(made)
    assert found.mean == pytest.approx(expected)
    assert found.seeds == n
    assert found.low <= found.mean <= found.high


def test_monotone_transforms_and_levels_of_strata_change_nothing():
    made = strata(8, 3)
    plain = rank_correlation(made)
    assert rank_correlation(mapped(made, lambda _, x, y: (math.exp(x), y**3))) == plain
    assert rank_correlation(mapped(made, lambda k, x, y: (x, y + 100 * k))) == plain
    assert rank_correlation(mapped(made, lambda k, x, y: (10**k * x - k, y))) == plain
    turned = rank_correlation(mapped(made, lambda _, x, y: (x, -y)))
    assert (turned.mean, turned.low, turned.high) == pytest.approx(
        (-plain.mean, -plain.high, -plain.low)
    )


def test_levels_of_strata_would_fool_a_plain_correlation():
    """Within each stratum y falls with x; over all it seems to rise."""
    made = {f"s{k}": {f"{k}{i}": (10 * k + i, 10 * k - i) for i in range(4)} for k in range(3)}
    assert rank_correlation(made).mean == pytest.approx(-1)
    assert stats.spearmanr([xy for points in made.values() for xy in points.values()])[0] > 0.7


def test_the_bootstrap_draws_nets_with_all_their_points():
    """The same draws, ranked in a plain loop; strata lack nets, one has a single one."""
    made = strata(7, 4)
    for net in ("net0", "net3"):
        del made["s1"][net]
    made["s2"] = {"net5": (1.0, 2.0)}
    nets = sorted(made["s0"])
    drawn = np.random.default_rng(3).choice(7, (400, 7))
    rho = [by_loop(made, [nets[i] for i in draw]) for draw in drawn]
    found = rank_correlation(made, resamples=400, seed=3)
    assert found.mean == pytest.approx(by_loop(made, nets))
    assert (found.low, found.high) == pytest.approx(tuple(np.nanpercentile(rho, [2.5, 97.5])))


def test_points_of_one_net_in_many_strata_are_not_independent():
    one, many = strata(8), strata(8, 30, noise=0.0)
    repeated = {f"r{k}": one["s0"] for k in range(30)}
    assert rank_correlation(repeated) == rank_correlation(one)
    assert rank_correlation(many).mean == pytest.approx(1)


@pytest.mark.parametrize("change", [lambda _, x, y: (x, 1.0), lambda _, x, y: (1.0, y)])
def test_what_does_not_vary_has_no_correlation(change):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = rank_correlation(mapped(strata(6, 2), change))
    assert all(math.isnan(x) for x in (found.mean, found.low, found.high))


def test_three_nets_are_too_few():
    with pytest.raises(ValueError, match="3 nets are too few"):
        rank_correlation(strata(3, 5))
    with pytest.raises(ValueError, match="0 nets"):
        rank_correlation({})
