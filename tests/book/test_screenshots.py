"""The pictures in README.md."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from snt_core.book import screenshots
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT


@pytest.mark.book
def test_each_page_that_is_there_is_taken(smoke_book, tmp_path):
    taken = {
        file.stem: Image.open(file).size for file in screenshots.take(smoke_book.html, tmp_path)
    }
    assert {"front", "chapter", "phone"} <= set(taken)
    assert taken["phone"] == screenshots.PHONE


def test_pictures_of_the_readme_are_there_and_small():
    shown = re.findall(r"book/screenshots/\w+\.webp", (PROJECT / "README.md").read_text())
    assert shown
    assert sum((PROJECT / name).stat().st_size for name in set(shown)) < 400_000


def test_a_book_that_is_not_built_has_no_pictures(tmp_path):
    with pytest.raises(UserError, match="run 'snt book' first"):
        screenshots.take(tmp_path, tmp_path)
