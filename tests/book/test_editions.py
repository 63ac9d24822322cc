"""The published site: every edition keeps its address, the newest is where readers land."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from snt_core.book.editions import site
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT


def crate(folder: Path, name: str, **pages: str) -> Path:
    """An exported edition with these files in its book, and one beside it."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        archive.writestr("snt-book/README.md", "not part of the site")
        for page, content in (pages or {"index.html": name}).items():
            archive.writestr(f"snt-book/html/{page}", content)
    return folder


def test_the_newest_edition_is_where_readers_land(tmp_path):
    for name in ("edition-2026-11-30", "edition-2026-12-01", "edition-2026-02-03"):
        crate(tmp_path / "crates", name)
    found = site(tmp_path / "crates", tmp_path / "site")
    assert found == ["edition-2026-12-01", "edition-2026-11-30", "edition-2026-02-03"]
    for name in found:
        assert name in (tmp_path / "site" / "editions" / name / "index.html").read_text()
    landing = (tmp_path / "site" / "index.html").read_text()
    assert 'url=editions/edition-2026-12-01/index.html"' in landing
    listing = (tmp_path / "site" / "editions" / "index.html").read_text()
    places = [listing.index(f'href="{name}/index.html"') for name in found]
    assert places == sorted(places)
    assert not list((tmp_path / "site").rglob("README.md"))


def test_pages_of_an_older_edition_lead_to_the_newest(tmp_path):
    page = '<html><body class="a">text</body></html>'
    for name in ("edition-2026-11-30", "edition-2026-12-01"):
        crate(tmp_path / "crates", name, **{"index.html": page, "book/intro.html": page})
    site(tmp_path / "crates", tmp_path / "site")
    editions = tmp_path / "site" / "editions"
    for file in ("index.html", "book/intro.html"):
        assert (editions / "edition-2026-12-01" / file).read_text() == page
        older = editions / "edition-2026-11-30" / file
        assert older.read_text().startswith('<html><body class="a"><aside aria-label="Edition"')
        (link,) = re.findall('href="(.*?)"', older.read_text())
        assert (older.parent / link).resolve() == editions / "edition-2026-12-01" / "index.html"


def test_a_second_edition_on_a_day_is_newer_also_after_nine(tmp_path):
    for name in ("edition-2026-11-30.9", "edition-2026-11-30", "edition-2026-11-30.10"):
        crate(tmp_path, name)
    assert site(tmp_path, tmp_path / "site")[0] == "edition-2026-11-30.10"


def test_an_old_site_is_replaced(tmp_path):
    crate(tmp_path / "crates", "edition-2026-11-30")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "old.html").touch()
    site(tmp_path / "crates", tmp_path / "site")
    assert not (tmp_path / "site" / "old.html").exists()


def test_no_path_leaves_the_site(tmp_path):
    crate(tmp_path / "crates", "edition-2026-11-30", **{"index.html": "", "../../../../out": "x"})
    site(tmp_path / "crates", tmp_path / "a" / "site")
    assert not [path for path in tmp_path.rglob("out") if (tmp_path / "a/site") not in path.parents]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (None, b"", "holds no exported edition"),
        ("edition-1", b"", "edition-YEAR-MONTH-DAY"),
        ("edition-2026-11-30", b"no zip", "is damaged"),
    ],
)
def test_what_is_wrong_is_told_before_the_site_is_replaced(tmp_path, name, content, says):
    (tmp_path / "crates").mkdir()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "old.html").touch()
    if name:
        (tmp_path / "crates" / f"{name}.zip").write_bytes(content)
    with pytest.raises(UserError, match=says):
        site(tmp_path / "crates", tmp_path / "site")
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["old.html"]


def test_a_crate_without_a_book_is_told(tmp_path):
    crate(tmp_path, "edition-2026-11-30", **{"other.html": ""})
    with pytest.raises(UserError, match="holds no book"):
        site(tmp_path, tmp_path / "site")


def test_the_command_ends_with_2_and_a_line(tmp_path):
    command = [sys.executable, "-m", "snt_core.book.editions", str(tmp_path), str(tmp_path / "s")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
