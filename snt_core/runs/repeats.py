"""What `snt verify` found, kept beside the records: the book's certificate is made of it.

verified/<profile>/<kind>-<id>-<time>.json   one record that was run again, with a checksum
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from snt_core.common.files import atomic_write, restored
from snt_core.common.terminal import say_once
from snt_core.runs import shapes
from snt_core.runs.inspection import PROFILE, SESSION, sealed, whole
from snt_core.runs.shapes import TEXT, TRUTH, many, number, require, text
from snt_core.runs.store import Store

SHAPE = shapes.fields(
    record=text("[a-z_]+-[0-9a-f]{16}"),
    profile=PROFILE,
    same=TRUTH,
    result=TEXT,
    numbers={"type": "object", "additionalProperties": many(number(), least=2)},
    provenance=shapes.fields(**SESSION),
)


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """A record that was run again.

    Attributes:
        record: `<kind>-<id>`.
        same: whether the headline numbers agree.
        result: how `snt verify` told it.
        numbers: the headline numbers of the record and of its repetition.
        provenance: of the repetition, in the words of a record's own provenance.
    """

    record: str
    profile: str
    same: bool
    result: str
    numbers: Mapping[str, tuple[float, float]]
    provenance: Mapping[str, Any]

    @property
    def command(self) -> str:
        """The command that does it again."""
        return f"snt verify {self.record.rpartition('-')[2]}"

    @property
    def changed(self) -> list[str]:
        """The headline numbers that are not the same to six digits, such as `top1 58.7 -> 58.8`."""
        told = {name: (f"{old:.6g}", f"{new:.6g}") for name, (old, new) in self.numbers.items()}
        return [f"{name} {old} -> {new}" for name, (old, new) in told.items() if old != new]

    @property
    def started(self) -> str:
        """When the repetition began (UTC), such as `2026-11-26T09:30:00+00:00`."""
        return str(self.provenance["started"])


def keep(repeat: Repeat, store: Store) -> Path:
    """Write the outcome into the store, whole or not at all; returns its file."""
    path = store.folder / "verified" / repeat.profile / _file(repeat)
    atomic_write(path, sealed(asdict(repeat)).encode())
    return path


def _file(repeat: Repeat) -> str:
    moment = repeat.started[:19].replace(":", "").replace("-", "")
    return f"{repeat.record}-{moment}.json"


def repeats(store: Store) -> list[Repeat]:
    """Return every repetition that the store keeps, by time.

    A file that is none is named in a line on standard error, and left out.
    """
    found = map(_read, sorted(store.folder.glob("verified/*/*.json")))
    whole = [repeat for repeat in found if repeat]
    return sorted(whole, key=lambda repeat: (repeat.started, repeat.record))


def _read(path: Path) -> Repeat | None:
    names = {field.name for field in fields(Repeat)}
    try:
        if not path.is_file():
            raise ValueError("it is no file")
        body = whole(path.read_bytes().decode())
        require("it", SHAPE, body)
        body["numbers"] = {name: (old, new) for name, (old, new) in body["numbers"].items()}
        if body["profile"] != path.parent.name:
            raise ValueError(f"its profile is {body['profile']}")
        repeat = Repeat(**{name: body[name] for name in names})
        if path.name != _file(repeat):
            raise ValueError(f"its content belongs to {_file(repeat)}")
        return repeat
    except (OSError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        say_once(
            f"{path} is no outcome of 'snt verify' ({reason}) and is left out; "
            f"remove it{restored(path, ', or restore it with ')}"
        )
        return None
