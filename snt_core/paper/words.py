"""What came out, in words made from the verdicts, so that they cannot go stale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from snt_core.paper.verdict import (
    CONTRADICTED,
    INCONCLUSIVE,
    SUPPORTED,
    VERDICTS,
    Judged,
    Verdict,
    survivors,
)


def plural(count: int, noun: str) -> str:
    """Return a number and its noun: 1 seed, 2 seeds."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def findings(verdicts: Sequence[Verdict]) -> list[str]:
    """Return sentences on what is settled for and against the paper, and on what is not."""
    judged = [(verdict, one) for verdict in verdicts for one in verdict.assertions]
    kinds = Counter(one.verdict for _, one in judged)
    counts = ", ".join(f"{kinds[kind]} {kind}" for kind in VERDICTS if kinds[kind])
    kept = survivors(verdicts)
    sentences = [
        f"The paper's {len(verdicts)} claims are {len(judged)} assertions: {counts}. "
        f"{len(kept)} of the settled ones stand after correction for their number."
    ]
    for kind, opening in ((SUPPORTED, "Supported"), (CONTRADICTED, "Contradicted")):
        by_claim = {v.id: [one for one in v.assertions if one.verdict == kind] for v in verdicts}
        if told := [_told(ones) for ones in by_claim.values() if ones]:
            sentences.append(f"{opening}: {' '.join(told)}")
    unsettled = [one for _, one in judged if one.verdict == INCONCLUSIVE]
    alone = sum("one seed" in one.flags for one in unsettled)
    if unsettled:
        sentences.append(
            f"Of the {len(unsettled)} inconclusive ones {alone} have one training behind them, and "
            f"{len(unsettled) - alone} an interval that holds both signs or a stand-in's net."
        )
    return sentences


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


def _told(ones: Sequence[Judged]) -> str:
    """The first of a claim's assertions with its effect and the paper's, as a sentence."""
    first, *others = ones
    paper = f"; the paper: {first.claimed}" if first.claimed else ""
    more = f", and {len(others)} more of this claim" if others else ""
    return f"{first.says.rstrip('.')} ({first.measured} {first.unit}{paper}){more}."
