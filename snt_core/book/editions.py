"""The published site: every edition at an address that stays, the newest one where readers land.

`python -m snt_core.book.editions CRATES SITE` unpacks the book of each exported crate
(`CRATES/edition-2026-11-26.zip`) to `SITE/editions/edition-2026-11-26`. Pages of an older one get
a line that leads to the newest.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from snt_core.book.policy import with_policy
from snt_core.common.errors import UserError

BOOK = "html/"  # where the built book lies in a crate
NAME = re.compile(r"edition-\d{4}-\d{2}-\d{2}(\.\d+)?")
LANDING = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url=$newest">
<title>The SNT reproducibility book</title>
</head>
<body>
<p><a href="$newest">The newest edition</a> · <a href="editions/index.html">all editions</a></p>
</body>
</html>
""")
LISTING = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Editions of the SNT reproducibility book</title>
<style>
body { font: 1.1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto }
</style>
</head>
<body>
<main>
<h1>Editions of the SNT reproducibility book</h1>
<p>Each stays as it was published. The newest comes first; pages of the others point to it.</p>
<ul>
$entries
</ul>
</main>
</body>
</html>
""")


OLDER = Template("""\
<aside aria-label="Edition" style="background: #7a3b00; color: #fff; padding: .5rem 1rem">
This is $name. <a href="$newest" style="color: #fff; text-decoration: underline">There is a newer
edition.</a></aside>
""")
BODY = re.compile(r"<body[^>]*>")


def site(crates: Path, target: Path) -> list[str]:
    """Make the site in `target`, which is replaced; returns the editions, the newest first.

    Raises:
        UserError: there is no crate, or one that is called by no date or holds no book.
    """
    files = sorted(crates.glob("*.zip"), key=lambda file: _order(file.stem), reverse=True)
    if not files:
        raise UserError(f"{crates} holds no exported edition (edition-2026-11-26.zip, say)")
    for file in files:
        if not NAME.fullmatch(file.stem):
            raise UserError(f"'{file.name}' is no edition; call it edition-YEAR-MONTH-DAY.zip")
    names = [file.stem for file in files]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".site") as place:
        new = Path(place) / "site"
        for file in files:
            edition = new / "editions" / file.stem
            _unpack(file, edition)
            if file is not files[0]:
                _point_to(names[0], edition)
        newest = f"editions/{names[0]}/index.html"
        landing = with_policy(LANDING.substitute(newest=newest))
        (new / "index.html").write_text(landing, encoding="utf-8")
        listing = with_policy(_listing(names))
        (new / "editions" / "index.html").write_text(listing, encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        new.replace(target)
    return names


def _order(name: str) -> tuple[str, int]:
    """By date, then by the number of a second edition on the same day."""
    date, _, number = name.partition(".")
    return date, int(number) if number.isdigit() else 0


def _point_to(newest: str, edition: Path) -> None:
    """Put a line that leads to the newest edition at the head of every page of an older one."""
    for page in edition.rglob("*.html"):
        up = "../" * len(page.relative_to(edition).parts)
        words = {"name": edition.name, "newest": f"{up}{newest}/index.html"}
        line = OLDER.substitute(words)
        text = page.read_text(encoding="utf-8")
        if body := BODY.search(text):
            page.write_text(text[: body.end()] + line + text[body.end() :], encoding="utf-8")


def _listing(names: Sequence[str]) -> str:
    entries = [f'<li><a href="{escape(n)}/index.html">{escape(n)}</a></li>' for n in names]
    return LISTING.substitute(entries="\n".join(entries))


def _unpack(crate: Path, target: Path) -> None:
    """Write the crate's book to `target`; `zipfile` keeps every path inside of it."""
    try:
        with zipfile.ZipFile(crate) as archive:
            found = [e for e in archive.infolist() if not e.is_dir() and _page(e.filename)]
            for entry in found:
                entry.filename = _page(entry.filename)
                archive.extract(entry, target)
    except zipfile.BadZipFile as error:
        raise UserError(f"{crate} is damaged ({error}); export the edition again") from error
    if not (target / "index.html").exists():
        raise UserError(f"{crate} holds no book; make it with 'snt export'")


def _page(name: str) -> str:
    """Return a file's path in the book; empty for what is no part of it."""
    _, _, inside = name.partition("/")  # the crate's own folder
    return inside.removeprefix(BOOK) if inside.startswith(BOOK) else ""


if __name__ == "__main__":
    try:
        crates, target = map(Path, sys.argv[1:3])
        for name in site(crates, target):
            print(name)
    except UserError as error:
        print(f"snt: {error}", file=sys.stderr)
        sys.exit(2)
