"""What the verdicts can see: how large an effect must be to be settled by a few seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from snt_core.paper.looks import absent, canvas, described
from snt_core.paper.statistics import Interval, over_seeds, standard_error
from snt_core.paper.verdict import CONTRADICTED, INCONCLUSIVE, SUPPORTED, Verdict, decide, survivors

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SIGN = (0.0, math.inf)


def scatter(verdicts: Sequence[Verdict], unit: str = "points") -> float:
    """Return the standard deviation of a gap from seed to seed, pooled over the assertions.

    Of those in `unit` that several seeds stand behind; NaN where there is none.
    """
    variances = [
        found.n * standard_error(Interval(found.effect, found.low, found.high, found.n)) ** 2
        for verdict in verdicts
        for found in verdict.assertions
        if found.unit == unit and found.n > 1
        if found.effect is not None and found.low is not None and found.high is not None
    ]
    return math.sqrt(float(np.mean(variances))) if variances else math.nan


def power(effect: float, sd: float, seeds: int) -> float:
    """Return the chance that an effect comes out as supported.

    The interval is Student's t at 95 % over `seeds`, whose gaps scatter by `sd` about `effect`: the
    chance is that of a noncentral t beyond its critical value.
    """
    from scipy.stats import nct, t

    critical = t(seeds - 1).ppf(0.975)
    return float(nct(seeds - 1, effect * math.sqrt(seeds) / sd).sf(critical))


def detectable(sd: float, seeds: int, chance: float = 0.8) -> float:
    """Return the smallest effect that comes out as supported with a given chance."""
    from scipy.optimize import brentq

    return float(brentq(lambda effect: power(effect, sd, seeds) - chance, 1e-9 * sd, 100 * sd))


def simulate(
    effect: float, sd: float, seeds: int, *, trials: int = 20_000, seed: int = 0
) -> dict[str, float]:
    """Return the share of each verdict over `trials` in which the gaps are drawn anew.

    Judged by the very rules of the scoreboard, so that what `power` says can be held against it.
    """
    rng = np.random.default_rng(seed)
    gaps = rng.normal(effect, sd, (trials, seeds))
    found = [decide(over_seeds(row), SIGN, fixed=False, stand_in=False) for row in gaps]
    return {name: found.count(name) / trials for name in (SUPPORTED, CONTRADICTED, INCONCLUSIVE)}


def limits(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return what 3, 5 and 10 seeds can see at 80 % power, from the records' own scatter."""
    import pandas as pd

    sd = scatter(verdicts)
    return pd.DataFrame(
        {
            "seeds": seeds,
            "scatter of a gap (points)": sd,
            "seen at 80 % power (points)": detectable(sd, seeds),
        }
        for seeds in (3, 5, 10)
        if sd > 0
    )


def surviving(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return the settled assertions, and whether they remain after Holm's correction."""
    import pandas as pd

    kept = survivors(verdicts)
    return pd.DataFrame(
        {
            "claim": verdict.id,
            "assertion": found.says,
            "verdict": found.verdict,
            "p": "< 0.001" if found.p < 0.001 else f"{found.p:.3f}",
            "after Holm": "settled" if (verdict.id, found.id) in kept else "not settled",
        }
        for verdict in verdicts
        for found in verdict.assertions
        if found.verdict in (SUPPORTED, CONTRADICTED) and found.p is not None
    )


def table(verdicts: Sequence[Verdict], seeds: int = 3) -> pd.DataFrame:
    """Return, for each size that the paper prints in points, the chance that `seeds` settle it."""
    import pandas as pd

    sd = scatter(verdicts)
    return pd.DataFrame(
        {
            "claim": verdict.id,
            "assertion": found.says,
            "the paper": found.size,
            "chance to settle it": power(found.size, sd, seeds),
        }
        for verdict in verdicts
        for found in verdict.assertions
        if found.unit == "points" and found.size is not None and sd > 0
    )


def figure(verdicts: Sequence[Verdict]) -> Figure:
    """Draw the chance to settle an effect over its size, for 3, 5 and 10 seeds."""
    sd = scatter(verdicts)
    sizes = [
        found.size
        for verdict in verdicts
        for found in verdict.assertions
        if found.unit == "points" and found.size is not None
    ]
    if not sd > 0:
        return absent("no assertion has several seeds yet")
    figure = canvas(7, 3.8)
    ax = figure.subplots()
    effects = np.linspace(0.01, 6, 120)
    for seeds, dash in ((3, "-"), (5, "--"), (10, ":")):
        chances = [power(effect, sd, seeds) for effect in effects]
        ax.plot(effects, chances, dash, color="0.25", label=f"{seeds} seeds")
    shown = [size for size in sizes if size <= effects[-1]]
    ax.plot(shown, [0.0] * len(shown), "|", ms=14, color="#D55E00", label="sizes in the paper")
    ax.axhline(0.8, color="0.5", lw=0.8, ls=":")
    ax.set(xlabel="effect (points of top-1)", ylabel="chance to be settled", ylim=(-0.05, 1.05))
    ax.legend(loc="center right")
    seen = ", ".join(f"{n} seeds {detectable(sd, n):.2f}" for n in (3, 5, 10))
    return described(
        figure,
        "Rising curves of the chance to settle an effect over its size in points. Seen in four of "
        f"five repetitions: {seen} points.",
    )


def chance_findings(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return how many settled assertions chance alone would give, and how many there are.

    Were there no effect at all, each assertion with a p-value would come out settled at 5 %.
    """
    import pandas as pd

    judged = [found for verdict in verdicts for found in verdict.assertions]
    tested = [found for found in judged if found.p is not None]
    settled = [found for found in tested if found.verdict in (SUPPORTED, CONTRADICTED)]
    return pd.DataFrame(
        [
            {
                "assertions": len(judged),
                "tested": len(tested),
                "settled": len(settled),
                "settled by chance alone": 0.05 * len(tested),
                "settled after Holm's correction": len(survivors(verdicts)),
            }
        ]
    )
