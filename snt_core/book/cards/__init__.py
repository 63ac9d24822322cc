"""What a chapter shows around its figure; chapters write `cards.NAME`."""

from snt_core.book.cards.figures import figure
from snt_core.book.cards.interactive import scatter, trainings
from snt_core.book.cards.sources import provenance
from snt_core.book.cards.summary import badge, nets, paragraph
from snt_core.book.cards.tables import comparison, listing, table, tables
from snt_core.book.cards.verdicts import outcome, outcomes, picture, scoreboard, verdict

__all__ = [
    "badge",
    "comparison",
    "figure",
    "listing",
    "nets",
    "outcome",
    "outcomes",
    "paragraph",
    "picture",
    "provenance",
    "scatter",
    "scoreboard",
    "table",
    "tables",
    "trainings",
    "verdict",
]
