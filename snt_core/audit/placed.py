"""A net beside the book's own, where the classes agree, and how lambda_max may be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from snt_core.audit import frames
from snt_core.paper.evidence import frame, means
from snt_core.paper.recipes import BACKBONES, DATASETS
from snt_core.runs.record import Record
from snt_core.runs.store import Store

if TYPE_CHECKING:
    from snt_core.audit.auditing import Audit

CLASSES = {  # folders of a copy of the data, as they are called everywhere
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck".split(),
    "cifar100": """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge
        bus butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud
        cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox
        girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
        maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree
        pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
        road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel
        streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
        trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """.split(),
}
FORMAT = "float32"  # in which the book's nets are measured
JUDGED = ("resnet20", "mixer_s", "mobilenet_v1", "vit")  # by the proxy chapter
PROXY = "proxy_sharpness.html"
CARE = (
    "lambda_max has no unit: multiplying filters before a normalisation changes it, and nothing "
    "that the net computes. Compare it between trainings of one architecture on the same samples, "
    "and read it beside what was measured above, which says directly what compression costs. The "
    "value with filters normalised does not change so."
)


@dataclass(frozen=True)
class Place:
    """Beside whom a net stands: `table` of the book's nets, or `why` it cannot be compared.

    `curvature` says how lambda_max in the table may be read.
    """

    table: pd.DataFrame
    why: str = ""
    curvature: str = ""


def placed(audit: Audit, book: Store) -> Place:
    """Return the book's nets on the same classes, or why none is comparable."""
    name = data_set_of(audit)
    if name is None:
        known = ", ".join(DATASETS[k] for k in (*CLASSES, "imagenet"))
        return Place(
            pd.DataFrame(),
            f"Not comparable: the samples' classes are not those of {known}, on which the book's "
            f"nets are measured.",
        )
    if not audit.trained or not audit.labelled:
        what = "its weights are random" if not audit.trained else "its samples have no labels"
        return Place(pd.DataFrame(), f"Not comparable: {what}.")
    table = beside(book, name)
    if table.empty:
        return Place(table, f"Not comparable: the store holds no record on {DATASETS[name]}.")
    return Place(pd.concat([_own(audit), table], ignore_index=True), curvature=_curvature(audit))


def _own(audit: Audit) -> pd.DataFrame:
    """Return the audited net as the table's first row, with lambda_max where that compares."""
    row: dict[str, Any] = {"model": audit.facts["net"], "approach": "yours"}
    base = next(iter(audit.found.get("float", ())), {})
    row["top-1 (%)"] = base.get("top1")
    scores = frames.scores(audit)
    if frames.LOST in scores:
        lost = scores.set_index("setting")[frames.LOST]
        row["W4 lost (points)"] = lost.get("W4, a scale for each channel")
        row["50 % pruned lost (points)"] = lost.get("50% pruned")
    found = next(iter(audit.found.get("lambda_max normalised=False", ())), {})
    if audit.facts["number format"] == FORMAT and found.get("converged"):
        row["lambda_max"] = found["value"]
    return pd.DataFrame([row]).dropna(axis=1)


def _curvature(audit: Audit) -> str:
    own = audit.facts["number format"]
    if own != FORMAT:
        return f"lambda_max is not comparable: this net computes in {own}, the book's in {FORMAT}."
    if "lambda_max" not in _own(audit):
        return "lambda_max is not comparable: that of this net is not there, or did not settle."
    return (
        f"lambda_max: of {audit.sizes.curve} samples given here, of training images in the book; "
        "all in float32, BatchNorm in eval mode. It says nothing across architectures."
    )


def data_set_of(audit: Audit) -> str | None:
    """Return the book's data set whose classes, by name and number, the samples have; else None."""
    mine = [name.lower().replace(" ", "_").replace("-", "_") for name in audit.classes]
    for name, names in CLASSES.items():
        if mine == names and audit.outputs == len(names):
            return name
    ids = all(len(name) == 9 and name[0] == "n" and name[1:].isdecimal() for name in mine)
    return "imagenet" if mine and ids and audit.outputs == 1000 else None


def beside(book: Store, data: str) -> pd.DataFrame:
    """Return a row for each of the book's nets on a data set: top-1 and points lost, as means."""
    records = [r for r in book.records() if r.spec.net.data == data and r.profile != "smoke"]
    keys = ["model", "approach"]
    float_, ptq, one_shot = (frame(records, kind) for kind in ("train", "ptq", "one_shot"))
    if float_.empty:
        return pd.DataFrame()
    found = means(float_, keys, ["top1"]).rename(columns={"top1": "top-1 (%)"})
    four = ptq[(ptq.weight_bits == 4) & (ptq.act_bits == 0) & ptq.per_channel.astype(bool)]
    if len(four):
        tops = float_[["model", "approach", "seed", "top1"]]
        both = four.merge(tops, on=["model", "approach", "seed"])
        both = both.assign(**{"W4 lost (points)": both.top1 - both.before})
        found = found.merge(means(both, keys, ["W4 lost (points)"]), on=keys, how="left")
    half = one_shot[one_shot.sparsity == 0.5]
    if len(half):
        half = half.rename(columns={"drop": "50 % pruned lost (points)"})
        found = found.merge(means(half, keys, ["50 % pruned lost (points)"]), on=keys, how="left")
    curved = frame(records, "lambda_max")
    curved = curved[curved.converged.astype(bool) & (curved.bn_mode == "eval")]
    if len(curved):
        found = found.merge(means(curved, keys, ["lambda_max"]), on=keys, how="left")
    return found.assign(model=found.model.map(lambda m: BACKBONES.get(m, m)))


def evidence(book: Store, *, whole: bool = True) -> list[str]:
    """Return what the book's records say of lambda_max as a proxy; nothing where none are there.

    First one sentence over all nets, never of the profile smoke; then, where `whole`, the verdicts
    of the chapter.
    """
    from snt_core.common.errors import UserError
    from snt_core.paper.selection import select
    from snt_core.paper.verdict import judge
    from snt_core.paper.words import outcome

    told = correlation(book.records())
    if not whole:
        return told
    try:
        selections = [select("proxy", "published", (), book, backbone=b).read(book) for b in JUDGED]
        lines = outcome(judge("proxy", *selections))
    except UserError:  # a package without the paper's numbers
        return told
    return told + [line for line in lines if "Not known" not in line]


def correlation(records: Iterable[Record]) -> list[str]:
    """Return in a sentence how lambda_max ranked the book's nets; nothing with fewer than four."""
    from snt_core.paper import proxy

    points = proxy.table(r for r in records if r.profile != "smoke")
    points = points[~points.compression.str.endswith(proxy.TUNED)]
    try:
        found = proxy.within_compressions(points)
    except ValueError:
        return []
    if found.mean != found.mean:  # all drops or all eigenvalues are equal
        return []
    reading = (
        "the interval contains zero, so a sharper net need not lose more"
        if found.low <= 0 <= found.high
        else "so it tells something of the order of nets, not how much one loses"
    )
    return [
        f"Over the book's {found.seeds} nets, Spearman's correlation of lambda_max with the points "
        f"that compression cost is {found.mean:+.2f} (95 % interval {found.low:+.2f} to "
        f"{found.high:+.2f}): {reading}."
    ]
