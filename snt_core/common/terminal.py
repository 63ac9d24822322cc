"""Lines for whoever runs a command, also on terminals that cannot show every character."""

from __future__ import annotations

import codecs
import sys
import unicodedata
from functools import cache
from io import TextIOWrapper

PLAIN = {"−": "-", "–": "-", "—": "-", "×": "x", "±": "+-", "…": "...", "λ": "lambda", "ρ": "rho"}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Return the nearest plain text for what an encoding lacks, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    known = "".join(PLAIN.get(char, char) for char in text)
    letters = (c for c in unicodedata.normalize("NFKD", known) if not unicodedata.combining(c))
    return "".join(letters).encode("ascii", "replace").decode(), error.end


def spell_out() -> None:
    """Let output take any text: what the terminal's encoding lacks is spelt in plain letters."""
    codecs.register_error("snt-plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="snt-plain")


def harmless(text: object) -> str:
    """Return a text as a terminal shows it and does not obey it.

    A record, a notebook or the name of a file may hold characters that move the cursor, change the
    window's title or turn the order of what follows. They are spelt out, as `\\x1b` is.
    """
    return "".join(
        char.encode("unicode_escape").decode() if _commands(char) else char for char in str(text)
    )


def _commands(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def tell(line: object) -> None:
    """Print a line of a command's result."""
    print(harmless(line))


def say(line: object) -> None:
    """Tell whoever runs a command or a chapter, not who reads its page: on standard error."""
    one = " ".join(str(line).splitlines())
    print(f"snt: {harmless(one)}", file=sys.stderr, flush=True)


@cache
def say_once(line: str) -> None:
    """Tell a line, as `say` does, unless this process has told it before."""
    say(line)
