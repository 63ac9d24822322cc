"""The paper's claims, each bound to a test over records."""

from snt_core.paper.claims.cases import CASES, Case
from snt_core.paper.claims.findings import Finding, Untestable
from snt_core.paper.claims.verdict import Verdict, judge, scoreboard

__all__ = ["CASES", "Case", "Finding", "Untestable", "Verdict", "judge", "scoreboard"]
