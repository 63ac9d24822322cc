"""An audit as one page that needs nothing else: no script, no network, figures inside."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterable
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pandas as pd

from snt_core.audit import drawings, frames, placed
from snt_core.audit.placed import Place
from snt_core.runs.plan import clock

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from snt_core.audit.auditing import Audit

FORMAT = 1  # of the JSON; its keys stay
PHONE = "600px"
MOST = 60  # rows of a table; the JSON has them all
UNTOUCHED = 40


def page(audit: Audit, place: Place, evidence: list[str]) -> str:
    """Return the report as HTML. Every text that came from outside is escaped."""
    style = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    # narrower than the book's: a report has no script and no form
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        f"form-action 'none'"
    )
    title = f"Audit of {audit.facts['net']}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{''.join(_sections(audit, place, evidence))}</main>\n</body>\n"
        "</html>\n"
    )


def _sections(audit: Audit, place: Place, evidence: list[str]) -> Iterable[str]:
    yield from (f'<p class="note">{escape(note)}</p>\n' for note in audit.notes)
    yield "".join(f"<p>{escape(line)}</p>\n" for line in frames.findings(audit))
    yield _table(pd.DataFrame(audit.facts.items(), columns=["what", "value"]), "What was audited")
    scores, layers = frames.scores(audit), frames.layers(audit)
    if len(scores):
        yield _heading("What each setting costs")
        yield picture(
            drawings.costs, scores, "Lost from the float net, with the 95 % interval over samples."
        )
        yield _table(scores.drop(columns="family"), "What is left of accuracy after each setting")
        yield _text("Nothing was trained after: fine-tuning wins some of it back.")
    if "loss rises at W4" in layers:
        yield _heading("Which layers cost it")
        yield picture(
            drawings.by_layer, layers, "Rise of the loss with one layer alone compressed."
        )
    if len(layers):
        shown = f" (the first {MOST} of {len(layers)})" if len(layers) > MOST else ""
        yield _table(
            layers.head(MOST),
            f"Layers{shown}: what each costs alone, its outliers, entropies, rank",
        )
        yield _text(
            "Outliers: the widest input channel's range over the median one's. Rank share: "
            "effective rank over the most that the weight could have."
        )
    yield from _curvature(audit, evidence)
    if len(sizes := frames.sizes(audit)):
        yield _heading("Bytes and time")
        yield _table(sizes, "Bytes of packed files, and times measured here")
        yield _text(
            "Packed files hold codes of as many bits as a weight has, and pruned weights without "
            "their zeros. W8A8 is timed in an engine that multiplies integers where one is "
            "installed (pip install onnxruntime); simulated means floats, whose time says nothing "
            "of integers. Scattered zeros make no ordinary kernel faster."
        )
    yield _heading("Beside the book's nets")
    if place.why:
        yield _text(place.why)
    else:
        yield _table(place.table, "This net and the book's on the same classes")
        yield _text(place.curvature)
    yield from _covered(audit)
    if audit.left_out:
        yield _heading("What was not measured")
        rows = pd.DataFrame(audit.left_out.items(), columns=["measurement", "why"])
        yield _table(rows.head(MOST), "What was left out, and why")
    yield from _provenance(audit)


def _curvature(audit: Audit, evidence: list[str]) -> Iterable[str]:
    found, spectrum = frames.curvature(audit), frames.spectrum(audit)
    yield _heading("Curvature of the loss")
    if not len(found) and not len(spectrum):
        yield _text("Nothing was measured; see what was left out.")
    if len(found):
        yield _table(found, "Largest eigenvalue and trace of the Hessian of the mean loss")
    if len(spectrum):
        yield picture(drawings.density, spectrum, "Spectrum of the Hessian.")
    yield _text(placed.CARE)
    if evidence:
        yield _text(
            "What the book's own nets say of lambda_max as a proxy for what compression costs:"
        )
        yield f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in evidence)}</ul>\n"
    yield _text(
        "The book's chapter 'Is sharpness a proxy for compressibility?' holds the evidence "
        "(snt chapter proxy)."
    )


def _covered(audit: Audit) -> Iterable[str]:
    look = audit.look
    yield _heading("What compression touches")
    yield _text(
        f"{look.covered:.1%} of the {look.parameters:,} parameters, in {len(look.touched)} layers. "
        f"The rest stays as it is."
    )
    if look.untouched:
        rows = pd.DataFrame(look.untouched)
        summed = rows.groupby("why", as_index=False).agg(
            parameters=("weights", "sum"), tensors=("name", "count"), first=("name", "first")
        )
        summed = summed.sort_values("parameters", ascending=False).head(UNTOUCHED)
        yield _table(summed, "Parameters that compression leaves as they are")


def _provenance(audit: Audit) -> Iterable[str]:
    yield _heading("Where the numbers come from")
    about = {
        "weights (SHA-256)": audit.net.weights,
        "samples": audit.net.data,
        "samples of an evaluation": audit.sizes.evaluate,
        "of a single layer": audit.sizes.layer,
        "of the Hessian": audit.sizes.curve,
        "of ranges": audit.sizes.calibrate,
        "measurements": f"{len(audit.found)} of {len(audit.plan)}",
        "this call took": clock(audit.seconds),
    }
    if audit.records:
        first = next(iter(audit.records.values())).provenance
        about |= {k: first.get(k, "") for k in ("device", "threads", "torch", "started", "commit")}
    yield _table(pd.DataFrame(about.items(), columns=["what", "value"]), "Provenance")
    yield _text(
        "Every measurement is a record of its own; the same command goes on where it ended."
    )


def _heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>\n"


def _text(text: str) -> str:
    return f"<p>{escape(text)}</p>\n"


def _table(frame: pd.DataFrame, caption: str) -> str:
    """Return a frame as a table in a box of its own that scrolls, and that a keyboard reaches."""
    heads = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in frame.columns)
    body = "".join(
        f'<tr><th scope="row">{escape(_cell(row[0]))}</th>'
        + "".join(f"<td>{escape(_cell(value))}</td>" for value in row[1:])
        + "</tr>"
        for row in frame.itertuples(index=False, name=None)
    )
    name = escape(caption, quote=True)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table>'
        f"<caption>{name}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if 0.1 <= abs(value) < 1e5 or value == 0 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def picture(draw: Callable[[pd.DataFrame], Figure], table: pd.DataFrame, caption: str) -> str:
    """Return a figure for wide and for narrow screens, with its words as alternative text."""
    from snt_core.paper import looks

    looks.style()
    wide = draw(table)
    with looks.narrow():
        narrow = draw(table)
    alt = escape(str(wide.get_label()), quote=True)
    return (
        f'<figure><picture><source media="(max-width: {PHONE})" srcset="{_svg(narrow)}">'
        f'<img src="{_svg(wide)}" alt="{alt}"></picture><figcaption>{escape(caption)}</figcaption>'
        "</figure>\n"
    )


def _svg(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(
        file, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None}
    )
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"


# JSON -----------------------------------------------------------------------------------------


def as_json(audit: Audit, place: Place, evidence: list[str]) -> str:
    """Return everything that is known, for scripts; NaN is null."""
    body = {
        "format": FORMAT,
        "facts": audit.facts,
        "weights_sha256": audit.net.weights,
        "data": audit.net.data,
        "notes": list(audit.notes),
        "findings": frames.findings(audit),
        "samples": {k: v for k, v in vars(audit.sizes).items() if isinstance(v, int)},
        "coverage": {
            "share": audit.look.covered,
            "parameters": audit.look.parameters,
            "touched": audit.look.touched,
            "untouched": audit.look.untouched,
        },
        "settings": _rows(frames.scores(audit)),
        "layers": _rows(frames.layers(audit)),
        "curvature": _rows(frames.curvature(audit)),
        "sizes": _rows(frames.sizes(audit)),
        "measured": {
            key: [{k: v for k, v in row.items() if k != "correct"} for row in rows]
            for key, rows in audit.found.items()
        },
        "records": {key: record.name for key, record in audit.records.items()},
        "left_out": audit.left_out,
        "book": {
            "why": place.why,
            "nets": _rows(place.table),
            "lambda_max": place.curvature,
            "evidence": evidence,
        },
    }
    return json.dumps(body, indent=1, allow_nan=False) + "\n"


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    def plain(value: Any) -> Any:
        value = value.item() if hasattr(value, "item") else value
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [{str(k): plain(v) for k, v in row.items()} for row in frame.to_dict("records")]
