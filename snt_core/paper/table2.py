"""Table 2: a vision transformer, ADAM against SAM, under four compressions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from snt_core.paper import numbers
from snt_core.paper.effects import Effect, gap, image_drops, sharper
from snt_core.paper.evidence import NET, Assertion, Untestable, frame, of
from snt_core.paper.looks import (
    COLOURS,
    DASHES,
    MARKERS,
    PAPER,
    described,
    key,
    or_absent,
    panels,
    plain_log,
    plain_symlog,
    values,
)
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import LABELS, lambda_max, sharpness, static, training
from snt_core.paper.statistics import Interval
from snt_core.runs.kinds.one_shot import OneShotSpec
from snt_core.runs.kinds.tokens import TokenSpec
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ORDER = ("adam", "sam")
SPEEDUPS = {"prune": 1.18, "merge": 1.90}  # at which the paper reads token pruning and merging
KEEP_RATIOS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
DROPS = {
    "delta_top1_weight_pruning": "50 % of weights",
    "delta_top1_token_pruning": "token pruning",
    "delta_top1_token_merging": "token merging",
    "delta_top1_quantization": "A8W8",
}


def runs(profile: Profile, seeds: Iterable[int]) -> list[Spec]:
    """Return both nets with lambda_max and the four compressions."""
    specs: list[Spec] = []
    for seed in seeds:
        for approach in ("sam", "adam"):
            net = training(profile, "imagenet", approach, seed, "vit")
            speed = {"batch_size": profile.speed_batch, "repeats": profile.speed_repeats}
            merged = (2, 4, 6, 8, 11, 14, 16) if net.model == "vit_b16" else (2, 4, 5, 6, 7)
            settings: dict[Any, tuple[float, ...]] = {"prune": KEEP_RATIOS, "merge": merged}
            specs += [
                net,
                lambda_max(profile, net),
                *sharpness(profile, net),
                OneShotSpec(parent=net, sparsities=(0.5,)),
                *(
                    TokenSpec(parent=net, method=m, settings=s[-profile.token_settings :], **speed)
                    for m, s in settings.items()
                ),
                static(profile, net, 8, finetune=False),
            ]
    return specs


# tables --------------------------------------------------------------------------------------


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per quantity and net, in the paper's order; accuracy drops are negative."""
    import pandas as pd

    records = list(records)
    curvature, pruned = frame(records, "lambda_max"), frame(records, "one_shot")
    half, dense = pruned[pruned.sparsity == 0.5], float_nets(records)
    keys = ["approach", "seed"]
    a8w8 = frame(records, "static").merge(dense[[*keys, "top1"]], on=keys)
    parts = [
        ("lambda_max", curvature, curvature.lambda_max),
        ("converged_top1", dense, dense.top1),
        ("delta_top1_weight_pruning", half, -half["drop"]),
        ("delta_top1_quantization", a8w8, a8w8.after - a8w8.top1),
    ]
    for method, target in SPEEDUPS.items():
        if len(found := at_speedup(records, method, target)):
            name = "pruning" if method == "prune" else "merging"
            parts.append((f"delta_top1_token_{name}", found, -found["drop"]))
    rows = [part[keys].assign(quantity=name, value=values) for name, part, values in parts]
    return pd.concat(rows, ignore_index=True)


def float_nets(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net: float top-1 (percent) and `correct`, in fp32 as A8W8 is read.

    They are those of the net that token pruning begins with: a checkpoint has no training's record,
    and sweeps over sparsities are in the number format of trainings.
    """
    tokens = frame(records, "tokens")
    return tokens[(tokens.method == "prune") & tokens.setting.isna()]


def at_speedup(records: Iterable[Record], method: str, target: float) -> pd.DataFrame:
    """Return a row per net at the setting where the speed-up is `target`: settings, drop, `loss`.

    All nets of one architecture run equally fast, so their measured speed-ups are pooled (mean
    over nets) and all are read at the same point, in a straight line between two settings.
    `loss` is, for each test image, right before minus right after, in [-1, 1]. Empty where no
    setting is that fast.
    """
    import pandas as pd

    tokens = frame(records, "tokens")
    tokens = tokens[tokens.method == method] if len(tokens) else tokens
    if tokens.empty:
        return tokens
    speeds = tokens.groupby("setting", dropna=False).speedup.mean()
    order = [None, *sorted(speeds.index.dropna(), reverse=method == "prune")]
    reached = np.maximum.accumulate([speeds[np.nan if s is None else s] for s in order])
    if reached[-1] < target:
        return pd.DataFrame()
    after = int(np.argmax(reached >= target))
    share = (target - reached[after - 1]) / (reached[after] - reached[after - 1])
    rows = []
    for names, net in tokens.groupby(NET):
        correct = {None if pd.isna(r.setting) else r.setting: r.correct for r in net.itertuples()}
        between = (1 - share) * correct[order[after - 1]] + share * correct[order[after]]
        loss = correct[None] - between
        rows.append(
            {
                **dict(zip(NET, names)),
                "settings": f"{order[after - 1] or 'none'} to {order[after]}",
                "drop": 100 * float(loss.mean()),
                "loss": loss,
            }
        )
    return pd.DataFrame(rows)


def beside_paper(table: pd.DataFrame) -> pd.DataFrame:
    """Return our means over seeds beside the paper's values: a row per quantity."""
    means = table.pivot_table(index="quantity", columns="approach", values="value")
    ours = means.round(2).add_suffix(" ours")  # to as many digits as the paper's
    rows = numbers.table2().join(ours, how="inner")
    names = {"adam": "ADAM (paper)", "sam": "SAM (paper)", "adam ours": "ADAM", "sam ours": "SAM"}
    return rows.rename(columns=names).reset_index()


# figures -------------------------------------------------------------------------------------


@or_absent
def figure(table: pd.DataFrame) -> Figure:
    """Draw lambda_max, and the points lost under four compressions, beside the paper's."""
    theirs = numbers.table2()
    figure, (left, right) = panels(2, width=9.5, ratios=(1, 3))
    for ax, names, sign in ((left, ["lambda_max"], 1), (right, list(DROPS), -1)):
        for i, name in enumerate(names):
            for k, approach in enumerate(ORDER):
                at = i + 0.24 * (k - 0.5)
                seen = table[(table.quantity == name) & (table.approach == approach)].value
                ax.plot(at - 0.05, sign * theirs.loc[name, approach], **PAPER)
                look: dict[str, Any] = {"color": COLOURS[approach], "ms": 8}
                ax.plot([at + 0.05] * len(seen), sign * seen, MARKERS[approach], **look)
        ax.grid(axis="x", visible=False)
    plain_log(left.yaxis)
    left.set_xticks([0], [r"$\lambda_{\max}$"])
    left.set_xlim(-0.6, 0.6)
    plain_symlog(right.yaxis, 1)
    right.set_xticks(range(len(DROPS)), [fill(words, 8) for words in DROPS.values()])
    right.set_ylabel("points of top-1 lost (symlog)")
    right.plot([], [], label="paper", **PAPER)
    for approach in ORDER:
        right.plot([], [], MARKERS[approach], color=COLOURS[approach], label=LABELS[approach])
    key(figure, right)
    lost = (
        f"{words}: {values(table[table.quantity == name].eval('value = -value'), 'value')}"
        for name, words in DROPS.items()
    )
    sharp = values(table[table.quantity == "lambda_max"], "value")
    return described(
        figure,
        f"Two dot plots beside the paper's values. Largest Hessian eigenvalue: {sharp}. Points of "
        f"top-1 lost, {'; '.join(lost)}.",
    )


def tokens(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net and setting of token pruning and merging: speed-up, points lost."""
    return frame(records, "tokens")


@or_absent
def tokens_figure(tokens: pd.DataFrame) -> Figure:
    """Draw accuracy lost over measured speed-up, for token pruning and token merging."""
    titles = {"prune": "token pruning", "merge": "token merging"}
    figure, axes = panels(2, height=3.6)
    for ax, (method, title) in zip(axes, titles.items(), strict=True):
        for (approach, _), net in tokens[tokens.method == method].groupby(["approach", "seed"]):
            look: dict[str, Any] = {
                "color": COLOURS[approach],
                "marker": MARKERS[approach],
                "ms": 5,
            }
            net = net.sort_values("speedup")
            ax.plot(net.speedup, net["drop"], DASHES[approach], label=LABELS[approach], **look)
        ax.axvline(SPEEDUPS[method], color="0.2", lw=1.5, ls=":")
        ax.set(title=title, xlabel="measured speed-up", ylabel="drop (points)")
        if ax.get_legend_handles_labels()[0]:  # a method may have no run yet
            ax.legend()
    most = tokens.loc[tokens.groupby(["method", "approach"]).speedup.idxmax()]
    ends = (
        f"{title}, at its fastest: {values(most[most.method == method], 'drop')}"
        for method, title in titles.items()
    )
    return described(
        figure, f"Two line charts of points lost over measured speed-up. {'; '.join(ends)}."
    )


# claims --------------------------------------------------------------------------------------


def _pruned(records: Sequence[Record]) -> Interval:
    sweep = frame(records, "one_shot")
    return gap(image_drops(sweep, sweep[sweep.sparsity == 0.5]), "adam", "sam", "drop")


def _tokens(method: str) -> Effect:
    def effect(records: Sequence[Record]) -> Interval:
        found = at_speedup(records, method, SPEEDUPS[method])
        if found.empty:
            raise Untestable(f"no setting is {SPEEDUPS[method]} times as fast")
        return gap(found, "adam", "sam", "loss")

    return effect


def _a8w8(records: Sequence[Record]) -> Interval:
    keys = ["approach", "seed"]
    dense = float_nets(records).set_index(keys).correct
    static = frame(records, "static").set_index(keys).correct
    losses = (dense.map(lambda c: c.astype(float)) - static).rename("loss").reset_index()
    return gap(losses, "adam", "sam", "loss")


CLAIMS = {
    "vit-lambda": {
        "lambda": Assertion(
            effect=sharper("adam", "sam"), reads=of("lambda_max"), approaches=ORDER, log=True
        )
    },
    "vit-pruning": {"drop": Assertion(effect=_pruned, reads=of("one_shot"), approaches=ORDER)},
    "vit-token-pruning": {
        "drop": Assertion(
            effect=_tokens("prune"), reads=of("tokens", method="prune"), approaches=ORDER
        )
    },
    "vit-token-merging": {
        "drop": Assertion(
            effect=_tokens("merge"), reads=of("tokens", method="merge"), approaches=ORDER
        )
    },
    "vit-a8w8": {
        "drop": Assertion(
            effect=_a8w8, reads=of("static", "tokens", method="prune"), approaches=ORDER
        )
    },
}
