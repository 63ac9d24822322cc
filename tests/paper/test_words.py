"""What came out, in words."""

from __future__ import annotations

from snt_core.paper import numbers, words
from snt_core.paper.verdict import CONTRADICTED, INCONCLUSIVE, NOT_RUN, SUPPORTED, Judged, Verdict


def verdict(claim: str, *kinds: str) -> Verdict:
    flags = ("one seed",)
    ones = (
        Judged(id=str(i), says="A.", verdict=kind, unit="points", size=None, flags=flags)
        for i, kind in enumerate(kinds)
    )
    return Verdict(id=claim, verdict=kinds[0], chapter="x", assertions=tuple(ones))


def test_findings_are_three_short_sentences():
    told = words.findings(
        [
            verdict("overhead", SUPPORTED, CONTRADICTED, CONTRADICTED),
            verdict("ablation", SUPPORTED, INCONCLUSIVE),
            verdict("proxy", NOT_RUN),
        ]
    )
    assert told == [
        "The paper makes 6 assertions: 2 supported, 2 contradicted, 1 inconclusive and 1 not run.",
        "Supported: the cost of a training step (1 of 3) and the steps of SNT (1 of 2); "
        "contradicted: the cost of a training step (2 of 3).",
        "Of the inconclusive ones 1 rest on one training alone; in 0 the interval holds both "
        "signs, or another net stands in.",
    ]


def test_every_claim_has_a_short_name():
    topics = [entry["topic"] for entry in numbers.claims().values()]
    assert len(set(topics)) == len(topics)
    assert max(map(len, topics)) <= 32
