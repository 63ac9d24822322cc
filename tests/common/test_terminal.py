"""What an encoding lacks is spelt in plain letters."""

from __future__ import annotations

import io

import pytest

from snt_core.common import terminal


@pytest.mark.parametrize(
    ("text", "spelt"),
    [("λ ± 0.1 – 3 × 10", "lambda +- 0.1 - 3 x 10"), ("naïve …", "naive ..."), ("漢", "?")],
)
def test_text_is_spelt_out(text, spelt, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    terminal.spell_out()
    print(text, end="", flush=True)
    assert stream.buffer.getvalue().decode() == spelt


HOSTILE = [
    "\x1b]0;pwned\x07\x1b[2J",
    "a\x1b[31mb.json",
    "\r\b\x7f",
    "\x9b2J",
    "\u202egnp.exe",
    "a\u2028b\u2029",
    "\ud800",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("show", [terminal.say, terminal.say_once, terminal.tell])
def test_a_terminal_obeys_nothing_that_is_shown(text, show, capsys):
    show(f"λ {text} ±")
    said = capsys.readouterr()
    (line,) = (said.out + said.err).splitlines()
    assert line.isprintable()
    assert "λ" in line
    assert line.endswith("±")


def test_other_text_stays():
    for text in ("λ ± 0.1 – 3 × 10", "naïve …", "漢 | ─┃", "C:\\x"):
        assert terminal.harmless(text) == text
