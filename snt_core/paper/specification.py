"""The specification curve: W4 after every reasonable choice that the paper leaves open.

Simonsohn, Simmons and Nelson, 2020, doi:10.1038/s41562-020-0912-z. Each curve shows what ResNet-20
with SAM or ARCH loses less than with ADAM, a point for each combination of choices.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from snt_core.paper.effects import gap, losses
from snt_core.paper.looks import COLOURS, MARKERS, canvas, described, or_absent
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import LABELS, THREE, finetuning, training
from snt_core.runs.kinds.ptq import PTQSpec
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BITS, EDGE_BITS = 4, 8
CHOICES: dict[str, dict[Any, str]] = {  # column of a quantized net -> its options in words
    "per_channel": {False: "scale per tensor", True: "scale per channel"},
    "clipping": {"max": "range to the maximum", "mse": "range of least error"},
    "edge_bits": {0: "first and last layer W4", EDGE_BITS: "first and last layer W8"},
}
RATE = "rate"  # the fourth choice, whose options the profile has; 0 is no fine-tuning


def runs(profile: Profile, seeds: Iterable[int]) -> list[Spec]:
    """Return the nets of ADAM, SAM and ARCH, each quantized with every combination of choices."""
    specs: list[Spec] = []
    for seed, approach in product(seeds, THREE):
        net = training(profile, "cifar100", approach, seed)
        tuning = finetuning(profile, net)
        specs.append(net)
        for *options, rate in product(*CHOICES.values(), profile.choice_rates):
            specs.append(
                PTQSpec(
                    parent=net,
                    weight_bits=BITS,
                    finetune=replace(tuning, lr=rate),
                    curve_points=profile.curve_points,
                    seed=seed,
                    **dict(zip(CHOICES, options, strict=True)),
                )
            )
    return specs


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per combination of choices and approach: points less lost than with ADAM.

    With the 95 % interval over test images and seeds, and in `choices` the combination in words.
    Without fine-tuning one rate stands for all: the net is the same.
    """
    import pandas as pd

    records = list(records)
    before = losses(records, "before_correct").assign(rate=0.0)
    after = losses(records, "correct")
    keys = [*CHOICES, RATE]
    before = before.drop_duplicates([*keys, "approach", "seed"])
    rows = []
    for found, part in pd.concat([before, after]).groupby(keys):
        for approach in sorted(set(part.approach) - {"adam"}):
            both = part[part.approach.isin(("adam", approach))]
            if both.groupby("seed").approach.nunique().max() < 2:
                continue  # no seed has the two of them
            effect = gap(both, "adam", approach, "loss")
            chosen = dict(zip(keys, found, strict=True))
            words = [CHOICES[key][chosen[key]] for key in CHOICES]
            rows.append(
                {
                    **chosen,
                    "approach": approach,
                    "choices": ", ".join([*words, rate_in_words(chosen[RATE])]),
                    "mean": effect.mean,
                    "low": effect.low,
                    "high": effect.high,
                    "n seeds": effect.seeds,
                }
            )
    columns = [*keys, "approach", "choices", "mean", "low", "high", "n seeds"]
    return pd.DataFrame(rows, columns=columns)


def rate_in_words(rate: float) -> str:
    """Return how a reader names a fine-tuning rate."""
    return f"fine-tuned at {rate:g}" if rate else "not fine-tuned"


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """Return in how many of the combinations an approach loses less than ADAM, and clearly so.

    Clearly: the interval lies on one side of zero.
    """
    import pandas as pd

    rows = []
    for approach, part in table.groupby("approach") if len(table) else ():
        for what, chosen in (
            ("all", part),
            ("not fine-tuned", part[part[RATE] == 0]),
            ("fine-tuned", part[part[RATE] > 0]),
        ):
            rows.append(
                {
                    "approach": LABELS[str(approach)],
                    "combinations": what,
                    "in all": len(chosen),
                    "loses less": int((chosen["mean"] > 0).sum()),
                    "clearly less": int((chosen.low > 0).sum()),
                    "clearly more": int((chosen.high < 0).sum()),
                    "median (points)": chosen["mean"].median(),
                }
            )
    return pd.DataFrame(rows)


def outcome(table: pd.DataFrame, profile: Profile) -> list[str]:
    """Return what the curves show, a sentence for each approach."""
    planned = (len(profile.choice_rates) + 1) * prod(map(len, CHOICES.values()))
    said = []
    for row in shares(table).to_dict("records"):
        if row["combinations"] == "all":
            said.append(
                f"Of {planned} combinations of choices {row['in all']} were run for "
                f"{row['approach']}. It loses less than ADAM in {row['loses less']} of them, "
                f"clearly in {row['clearly less']}, and clearly more in {row['clearly more']}. The "
                f"median is "
                f"{row['median (points)']:+.2f} points."
            )
    return said


@or_absent
def figure(table: pd.DataFrame) -> Figure:
    """Draw the curve of each approach, sorted, and under it which choices make each point."""
    approaches = [a for a in ("arch", "sam") if a in set(table.approach)]
    options = _options(table)
    figure = canvas(5 * len(approaches), 2.6 + 0.24 * len(options))
    grid = figure.subplots(
        2,
        len(approaches),
        sharex="col",
        sharey="row",
        squeeze=False,
        gridspec_kw={"height_ratios": [2.4, 0.24 * len(options)]},
    )
    for above, below, approach in zip(*grid, approaches, strict=True):
        rows = table[table.approach == approach].sort_values("mean").reset_index(drop=True)
        _curve(above, rows, approach)
        for at, (column, option, _) in enumerate(options):
            chosen = rows.index[rows[column] == option]
            below.plot(chosen, [at] * len(chosen), "s", ms=3.5, color="0.25")
        below.set(xlabel="combination of choices, sorted", xticks=[])
        below.grid(visible=False)
    grid[0, 0].set_ylabel("points less lost\nthan with ADAM")
    grid[1, 0].set_yticks(range(len(options)), [words for *_, words in options], fontsize=8)
    grid[1, 0].set_ylim(len(options) - 0.5, -0.5)
    told = (
        f"{LABELS[a]} {int((rows['mean'] > 0).sum())} of {len(rows)}, median "
        f"{rows['mean'].median():+.2f} points"
        for a, rows in table.groupby("approach")
    )
    return described(
        figure,
        "Curves of the points less lost than with ADAM, sorted, over a grid of squares that shows "
        f"the choices. Above zero: {'; '.join(told)}.",
    )


def _curve(ax: Axes, rows: pd.DataFrame, approach: str) -> None:
    below, above = rows["mean"] - rows.low, rows.high - rows["mean"]
    look: dict[str, Any] = {"color": COLOURS[approach], "fmt": MARKERS[approach]}
    ax.errorbar(rows.index, rows["mean"], yerr=[below, above], ms=4, lw=1, **look)
    ax.axhline(0, color="0.3", lw=1)
    ax.set_title(f"{LABELS[approach]} against ADAM", fontsize=11)


def _options(table: pd.DataFrame) -> list[tuple[str, Any, str]]:
    """Return each option: its column, its value there, and its words."""
    found = [(key, value, words) for key, o in CHOICES.items() for value, words in o.items()]
    rates = sorted(set(table[RATE]))
    return found + [(RATE, rate, rate_in_words(rate)) for rate in rates]
