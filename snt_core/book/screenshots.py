"""Pictures of the built book for README.md: `make screenshots`."""

from __future__ import annotations

import io
from pathlib import Path

from snt_core.book.chromium import chromium
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT, atomic_write

TARGET = PROJECT / "book" / "screenshots"
DESK, PHONE = (1400, 900), (390, 844)
SHOTS = {  # file: page, size of the window, theme, what is scrolled to
    "front": ("book/intro", DESK, "light", "h1"),
    "chapter": ("book/table4_ablation", DESK, "dark", "h1"),
    "explore": ("book/explore", DESK, "light", "h1"),
    "phone": ("book/intro", PHONE, "light", "#the-claims-one-by-one"),
}


def take(html: Path, target: Path = TARGET) -> list[Path]:
    """Return the files of the pictures that were taken; a page that is absent has none.

    Raises:
        UserError: the book is not built, or there is no Chromium.
    """
    if not (html / "index.html").exists():
        raise UserError(f"{html / 'index.html'} is missing; run 'snt book' first")
    taken = []
    with chromium() as browser:
        for name, (page, (width, height), theme, start) in SHOTS.items():
            file = html / f"{page}.html"
            if not file.exists():
                continue
            opened = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if theme == "dark" else "light",
            )
            opened.goto(file.as_uri(), wait_until="load")
            opened.evaluate("() => window.MathJax?.startup?.promise")
            opened.evaluate("start => document.querySelector(start)?.scrollIntoView()", start)
            opened.wait_for_timeout(500)  # what fades in has done so
            taken.append(target / f"{name}.webp")
            atomic_write(taken[-1], _compressed(opened.screenshot()))
            opened.close()
    return taken


def _compressed(png: bytes) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(file, "WEBP", quality=80, method=6)
    return file.getvalue()


if __name__ == "__main__":
    for picture in take(PROJECT / "_build" / "html"):
        print(f"{picture.relative_to(PROJECT)}: {picture.stat().st_size / 1000:.0f} kB")
