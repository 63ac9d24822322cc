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
