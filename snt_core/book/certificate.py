"""What was re-executed: by which command, when, on what, with which result.

All of it is read from stored records and from what `snt verify` kept; nothing is written by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from snt_core.book.chapters import chapters
from snt_core.paper.artefacts import artefacts
from snt_core.paper.profiles import PROFILES
from snt_core.paper.verdict import Verdict
from snt_core.runs.identity import record_name
from snt_core.runs.record import Record
from snt_core.runs.repeats import Repeat, repeats
from snt_core.runs.store import Store


@dataclass(frozen=True, kw_only=True)
class Execution:
    """The runs of one artefact at one profile that have records.

    Attributes:
        label: the artefact's name in the paper, such as "Table 4".
        asked: how many runs the artefact has at the profile, over all of its seeds.
        result: the verdicts that stand on these runs, in words; empty where none does.
    """

    artefact: str
    label: str
    profile: str
    records: Sequence[Record]
    asked: int
    result: str

    @property
    def command(self) -> str:
        """The command that makes these records; it skips those that are there."""
        seeds = {record.spec.net.seed for record in self.records}
        some = (
            "" if seeds >= set(PROFILES[self.profile].seeds) else ",".join(map(str, sorted(seeds)))
        )
        options = f" --seeds {some}" if some else ""
        return f"snt run --profile {self.profile} --only {self.artefact}{options}"

    @property
    def started(self) -> str:
        """When the first of the runs began, an interrupted attempt included."""
        sessions = [s for r in self.records for s in (r.provenance, *_interrupted(r))]
        return min(str(session["started"]) for session in sessions)

    @property
    def ended(self) -> str:
        """When the last of the runs ended; for one that was interrupted, the latest it can have."""
        return max(_end(record) for record in self.records)

    @property
    def seconds(self) -> float:
        """Work behind the records, in seconds."""
        return sum(float(record.provenance["seconds"]) for record in self.records)

    def facts(self, key: str) -> list[str]:
        """Return the different values that the records' provenance has for `key`."""
        return sorted({str(record.provenance[key]) for record in self.records})


def executions(store: Store, verdicts: Iterable[Verdict]) -> list[Execution]:
    """Return what was run at the profiles that can tell something, artefact by artefact.

    A record that serves several artefacts counts for each of them, and under the profile that it
    was run at.
    """
    there = {record.name: record for record in store.records()}
    labels = {chapter.artefact: chapter.label for chapter in chapters()}
    results = _results(verdicts)
    found = []
    for name, module in artefacts().items():
        for profile in (p for p in PROFILES.values() if p.verdicts):
            specs = list(dict.fromkeys(module.runs(profile, profile.seeds)))
            own = [there.get(record_name(spec)) for spec in specs]
            records = [r for r in own if r is not None and r.profile == profile.name]
            if records:
                found.append(
                    Execution(
                        artefact=name,
                        label=labels.get(name, name),
                        profile=profile.name,
                        records=records,
                        asked=len(specs),
                        result=results.get((name, profile.name), ""),
                    )
                )
    return found


def repetitions(store: Store, executed: Iterable[Execution]) -> list[Repeat]:
    """Return what `snt verify` found of the records behind `executed`, the last word on each.

    Those of records that were made anew since, under another schema, are history like them.
    """
    records = {record.name for one in executed for record in one.records}
    return list(
        {found.record: found for found in repeats(store) if found.record in records}.values()
    )


def _without_result(artefact: str) -> str:
    """Return why no verdict stands on an artefact's runs."""
    judges = getattr(artefacts()[artefact], "CLAIMS", {})
    return "too few runs to judge its claims" if judges else "no claim is judged by it"


def _results(verdicts: Iterable[Verdict]) -> Mapping[tuple[str, str], str]:
    """The claims' verdicts in words, by artefact and profile; those not run say nothing."""
    words: dict[tuple[str, str], list[str]] = {}
    for verdict in verdicts:
        for profile in sorted({one.profile for one in verdict.assertions if one.profile}):
            words.setdefault((verdict.chapter, profile), []).append(
                f"{verdict.id}: {verdict.verdict}"
            )
    return {key: ", ".join(said) for key, said in words.items()}


def _interrupted(record: Record) -> Sequence[Mapping[str, Any]]:
    """The sessions that ended before the run was done."""
    return record.provenance.get("interrupted", ())


def _end(record: Record) -> str:
    facts = record.provenance
    begun = datetime.fromisoformat(facts["started"])
    return (begun + timedelta(seconds=float(facts["seconds"]))).isoformat(timespec="seconds")


# what the page shows ------------------------------------------------------------------------


def summary(executed: Sequence[Execution], repeated: Sequence[Repeat]) -> str:
    """Return the certificate in a few sentences."""
    if not executed:
        return "No record of a profile that can tell something is in the store: nothing was run."
    records = {record.name: record for one in executed for record in one.records}
    hours = sum(float(r.provenance["seconds"]) for r in records.values()) / 3600
    days = _days(min(one.started for one in executed)[:10], max(one.ended for one in executed)[:10])
    devices = sorted({str(record.provenance["device"]) for record in records.values()})
    lines = [
        f"{len(records)} runs for {len({one.artefact for one in executed})} figures and tables "
        f"were carried out ({days}, {hours:.1f} hours of work, on {', '.join(devices)})."
    ]
    if repeated:
        agree = sum(repeat.same for repeat in repeated)
        devices = sorted({str(repeat.provenance["device"]) for repeat in repeated})
        lines.append(
            f"{len(repeated)} of these were run a second time with 'snt verify' "
            f"(on {', '.join(devices)}): {agree} agree, {len(repeated) - agree} do not."
        )
    else:
        lines.append("None of them was run a second time with 'snt verify' yet.")
    return " ".join(lines)


def executions_table(executed: Iterable[Execution]) -> pd.DataFrame:
    """Return a row for each execution, in a reader's words."""
    return pd.DataFrame(
        {
            "what": one.label,
            "profile": one.profile,
            "runs": f"{len(one.records)} of {one.asked}",
            "when": _days(one.started[:10], one.ended[:10]),
            "on": ", ".join(one.facts("device")),
            "hours of work": f"{one.seconds / 3600:.1f}",
            "result": one.result or _without_result(one.artefact),
        }
        for one in executed
    )


def commands(executed: Iterable[Execution]) -> str:
    """Return the commands behind the executions, one a line, each with what it makes."""
    lines = [(one.command, one.label) for one in executed]
    width = max((len(command) for command, _ in lines), default=0)
    return "\n".join(f"{command:{width}}  # {label}" for command, label in lines)


def repeats_table(repeated: Iterable[Repeat]) -> pd.DataFrame:
    """Return a row for each record that was run a second time."""
    return pd.DataFrame(
        {
            "kind of run": repeat.record.rpartition("-")[0],
            "command": repeat.command,
            "when (UTC)": _minute(repeat.started),
            "on": repeat.provenance["device"],
            "commit": _commit(repeat.provenance),
            "agrees": "yes" if repeat.same else "no",
            "result": _told(repeat),
        }
        for repeat in repeated
    )


def _commit(facts: Mapping[str, Any]) -> str:
    return (facts["commit"] or "unknown")[:10] + "+changes" * bool(facts["dirty"])


def _told(repeat: Repeat) -> str:
    if repeat.result == "identical":
        return "identical"
    return ", ".join(repeat.changed) or "headline numbers identical"


def _days(first: str, last: str) -> str:
    """A span of days, `2026-11-22 to 25` within a month."""
    if first == last:
        return first
    return f"{first} to {last[8:] if first[:7] == last[:7] else last}"


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")
