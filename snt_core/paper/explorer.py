"""All records that can be judged as two tables to explore: sharpness against loss, and trainings.

No claim is tested here. Nets are told apart by their whole spec, so that a point has the lambda_max
of the very net that was compressed, however many trainings share its name and seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from snt_core.paper.looks import COLOURS, MARKERS, canvas, or_absent, panels, plain_log
from snt_core.paper.profiles import PROFILES, can_judge
from snt_core.paper.recipes import BACKBONES, LABELS, lambda_max
from snt_core.runs.record import Record
from snt_core.runs.spec import Net

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ABOUT = ["record", "profile", "net", "approach", "seed", "training"]
READINGS = ["train_loss", "val_loss", "val_top1"]  # of a training, each epoch
BEFORE, AFTER = "right after compression", "after fine-tuning"
USUAL_RATE = 1e-4  # of fine-tuning: it is named where it is another
QUANTIZED = ("ptq", "static", "qat")
Found = tuple[str, str, float]  # what was done, when it was read, top-1 (percent)


def judged(records: Iterable[Record]) -> list[Record]:
    """Return the records that ended well at a profile that can be judged."""
    return [r for r in records if r.status == "done" and can_judge(r.profile)]


def points(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per accuracy of a compressed net: what it lost (points) beside its sharpness.

    `lambda_max` is NaN where it was not measured or did not converge, and so is `normalised`, the
    filter-normalised one; a row has at least one of the two.
    """
    import pandas as pd

    records = judged(records)
    dense, raw, normalised = _dense(records), _sharpness(records), _normalised(records)
    rows = []
    for record in records:
        net = record.spec.net
        if net not in dense or not (net in raw or net in normalised):
            continue
        sharp = {"lambda_max": raw.get(net), "normalised": normalised.get(net)}
        for compression, when, top1 in _compressed(record):
            read = {"compression": compression, "when": when, "top1": top1}
            rows.append(_about(record) | read | {"lost": dense[net] - top1} | sharp)
    columns = [*ABOUT, "compression", "when", "top1", "lost", "lambda_max", "normalised"]
    return pd.DataFrame(rows, columns=columns).astype({"lambda_max": float, "normalised": float})


def curves(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per training and epoch: losses, validation top-1; `test_top1` is of its end."""
    import pandas as pd

    rows = [
        _about(record)
        | {"epoch": point["epoch"], **{name: point.get(name) for name in READINGS}}
        | {"test_top1": record.metrics["test"]["top1"]}
        for record in judged(records)
        if record.spec.kind == "train"
        for point in record.metrics["history"]
    ]
    return pd.DataFrame(rows, columns=[*ABOUT, "epoch", *READINGS, "test_top1"])


def _about(record: Record) -> dict[str, Any]:
    net = record.spec.net
    return {
        "record": record.name,
        "profile": record.profile,
        "net": f"{BACKBONES.get(net.model, net.model)} on {net.data}",
        "approach": LABELS.get(net.approach, net.approach),
        "seed": net.seed,
        "training": _training(net),
    }


def _training(net: Net) -> str:
    """Return in words what tells trainings of one approach apart."""
    recipe = getattr(net, "recipe", None)
    if recipe is None:
        return "public checkpoint"
    radius = f", rho {recipe.rho:g}" if recipe.rho else ""
    return f"{recipe.epochs} epochs, rate {recipe.lr:g}{radius}, images {recipe.augment}"


# what was measured of each net ---------------------------------------------------------------


def _dense(records: Iterable[Record]) -> dict[Net, float]:
    """Top-1 before compression; of a checkpoint it stands first in a sweep."""
    found: dict[Net, float] = {}
    for record in records:
        metrics = record.metrics
        if record.spec.kind == "train":
            found[record.spec.net] = metrics["test"]["top1"]
        elif record.spec.kind in ("one_shot", "tokens"):
            found.setdefault(record.spec.net, metrics["sweep"][0]["top1"])
    return found


def _sharpness(records: Iterable[Record]) -> dict[Net, float]:
    """lambda_max as its profile measures it, else on the most images; in eval mode first."""

    def order(record: Record) -> tuple[bool, bool, int, str]:
        spec: Any = record.spec
        usual = lambda_max(PROFILES[record.profile], spec.net)
        return spec != usual, spec.bn_mode != "eval", -spec.n_samples, record.name

    return _first(sorted(_converged(records, "lambda_max"), key=order), "lambda_max")


def _normalised(records: Iterable[Record]) -> dict[Net, float]:
    found = _converged(records, "scale_free")
    return _first(sorted(found, key=lambda r: (-r.n_samples, r.name)), "normalised")


def _converged(records: Iterable[Record], kind: str) -> Iterator[Record]:
    return (r for r in records if r.spec.kind == kind and r.metrics["converged"])


def _first(records: Iterable[Record], metric: str) -> dict[Net, float]:
    found: dict[Net, float] = {}
    for record in records:
        found.setdefault(record.spec.net, record.metrics[metric])
    return found


# what compression left -----------------------------------------------------------------------


def _compressed(record: Record) -> Iterator[Found]:
    """Yield each accuracy of a compressed net that a record has; none where it has none."""
    kind = record.spec.kind
    if kind in QUANTIZED:
        name = _quantized(record)
        yield name, BEFORE, record.metrics["before"]["top1"]
        if "after" in record.metrics:
            yield name, AFTER, record.metrics["after"]["top1"]
    elif kind == "rounding":
        for row in record.metrics["points"][1:]:  # the first is the float net
            bits = _bits(row["weight_bits"], 0, row["per_channel"])
            yield f"{bits}, rounding alone", BEFORE, row["top1"]
    elif kind in ("one_shot", "imp"):
        how, when = ("at once", BEFORE) if kind == "one_shot" else ("in rounds", AFTER)
        for row in record.metrics["sweep"]:
            if row["sparsity"]:
                yield f"{row['sparsity']:.0%} pruned {how}", when, row["top1"]
    elif kind == "tokens":
        for row in record.metrics["sweep"][1:]:  # the first is the plain net
            yield _tokens(record.spec, row["setting"]), BEFORE, row["top1"]


def _quantized(record: Record) -> str:
    """Return what was done as the tables call it, with each choice that is not the usual one."""
    spec: Any = record.spec
    per_channel = getattr(spec, "per_channel", False)
    words = [_bits(spec.weight_bits, getattr(spec, "act_bits", 0), per_channel)]
    if spec.kind == "qat":
        words.append("QAT")
    if getattr(spec, "form", "symmetric") != "symmetric":
        words.append(spec.form)
    if (observer := getattr(spec, "observer", "minmax")) != "minmax":
        words.append(f"range by {observer}")
    if getattr(spec, "clipping", "max") != "max":
        words.append(f"range by {spec.clipping}")
    if spec.kind == "ptq" and spec.edge_bits:
        words.append(f"first and last layer W{spec.edge_bits}")
    if spec.kind == "ptq" and spec.finetune.lr != USUAL_RATE:
        words.append(f"rate {spec.finetune.lr:g}")
    return ", ".join(words)


def _bits(weights: int, activations: int, per_channel: bool) -> str:
    return f"W{weights}" + f"/A{activations}" * bool(activations) + ", per channel" * per_channel


def _tokens(spec: Any, setting: float) -> str:
    if spec.method == "prune":
        return f"{setting:.0%} of the tokens kept"
    return f"{setting:g} tokens merged a block"


# the picture for who has no scripts ----------------------------------------------------------


def marks() -> dict[str, tuple[str, str]]:
    """Return colour and marker of each approach that the book draws, by its label."""
    return {LABELS[name]: (COLOURS[name], MARKERS[name]) for name in COLOURS}


@or_absent
def figure(points: pd.DataFrame) -> Figure:
    """Draw what every compression took over lambda_max, before and after fine-tuning."""
    figure, axes = panels(2, sharey=True)
    looks = marks()
    for ax, when in zip(axes, (BEFORE, AFTER), strict=True):
        for approach, part in points[points.when == when].groupby("approach"):
            colour, marker = looks.get(str(approach), ("0.5", "x"))
            look: dict[str, Any] = {"color": colour, "alpha": 0.6, "ms": 4, "ls": ""}
            ax.plot(part.lambda_max, part.lost, marker, label=approach, **look)
        ax.set(title=when, xlabel=r"$\lambda_{\max}$ (log scale)")
        plain_log(ax.xaxis)
    axes[0].set_ylabel("top-1 lost (points)")
    handles = {
        label: handle
        for ax in axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4)
    return figure


@or_absent
def curves_figure(curves: pd.DataFrame) -> Figure:
    """Draw validation top-1 of each training over its epochs."""
    figure = canvas(9, 3.8)
    ax = figure.subplots()
    looks, seen = marks(), set()
    for (_, approach), part in curves.groupby(["record", "approach"]):
        label = approach if approach not in seen else None
        seen.add(approach)
        colour, _ = looks.get(str(approach), ("0.5", "x"))
        ax.plot(part.epoch, part.val_top1, color=colour, lw=0.9, alpha=0.7, label=label)
    ax.set(xlabel="epoch", ylabel="validation top-1 (%)")
    figure.legend(loc="outside lower center", ncols=4)
    return figure
