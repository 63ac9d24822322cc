"""What came out, in words made from the verdicts, so that they cannot go stale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from snt_core.paper import numbers
from snt_core.paper.verdict import (
    CONTRADICTED,
    INCONCLUSIVE,
    SUPPORTED,
    VERDICTS,
    Verdict,
)


def plural(count: int, noun: str) -> str:
    """Return a number and its noun: 1 seed, 2 seeds."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def symbols(text: str) -> str:
    """Return a text with the symbol that pages have for lambda_max, a name of the code."""
    return text.replace("lambda_max", "λ_max")


def findings(verdicts: Sequence[Verdict]) -> list[str]:
    """Return three sentences: what is settled, what that is about, why the rest is not settled."""
    judged = [one for verdict in verdicts for one in verdict.assertions]
    kinds = Counter(one.verdict for one in judged)
    counts = _series([f"{kinds[kind]} {kind}" for kind in VERDICTS if kinds[kind]])
    sentences = [f"The paper makes {plural(len(judged), 'assertion')}: {counts}."]
    if settled := [_topics(verdicts, kind) for kind in (SUPPORTED, CONTRADICTED) if kinds[kind]]:
        told = "; ".join(settled)
        sentences.append(f"{told[0].upper()}{told[1:]}.")
    unsettled = [one for one in judged if one.verdict == INCONCLUSIVE]
    alone = sum("one seed" in one.flags for one in unsettled)
    if unsettled:
        sentences.append(
            f"Of the inconclusive ones {alone} rest on one training alone; in "
            f"{len(unsettled) - alone} the interval holds both signs, or another net stands in."
        )
    return sentences


def _topics(verdicts: Sequence[Verdict], kind: str) -> str:
    """Return what the assertions of a kind are about, and how many of each claim's they are."""
    told = []
    for verdict in verdicts:
        count = sum(one.verdict == kind for one in verdict.assertions)
        if count:
            topic = numbers.claims()[verdict.id]["topic"]
            told.append(f"{topic} ({count} of {len(verdict.assertions)})")
    return f"{kind}: {_series(told)}"


def _series(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def outcome(verdict: Verdict) -> list[str]:
    """Return what came out of one claim: each assertion with its effect and the paper's size."""
    told = []
    for one in verdict.assertions:
        if not one.measured:
            told.append(f"{one.says} Not known: {one.text}.")
            continue
        paper = f", in the paper {one.claimed}" if one.claimed else ""
        flags = f" ({', '.join(one.flags)})" if one.flags else ""
        told.append(
            f"{one.says} {one.verdict.capitalize()}{flags}: {one.measured} {one.unit}{paper}."
        )
    return told
