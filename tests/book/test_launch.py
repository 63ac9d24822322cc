"""Launch buttons and links to the code follow one setting, and are gone while it is empty."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from snt_core.book import launch
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT

ADDRESS = "https://github.com/owner/name"


@pytest.mark.parametrize("url", [ADDRESS, f"{ADDRESS}/", f"{ADDRESS}.git", f" {ADDRESS}"])
def test_an_address_is_taken_however_it_ends(url):
    assert launch.checked_address(url) == ADDRESS


@pytest.mark.parametrize(
    "url", ["github.com/owner/name", "owner/name", f"{ADDRESS}/tree/main", "https://x.org/a/b", "x"]
)
def test_another_address_is_refused_in_a_line(url):
    with pytest.raises(UserError, match=re.escape(f"'{url}'")) as caught:
        launch.options(url)
    assert "\n" not in str(caught.value)


def test_colab_reads_github_alone():
    assert launch.colab_address(ADDRESS, "book/intro") == (
        "https://colab.research.google.com/github/owner/name/blob/colab/book/intro.ipynb"
    )
    assert launch.colab_address("https://gitlab.com/owner/name", "book/intro") is None
    assert launch.colab_address("", "book/intro") is None


def test_the_setting_is_one_and_empty():
    config = yaml.safe_load((PROJECT / "_config.yml").read_text())
    assert config["repository"]["url"] == ""
    assert "launch_buttons" not in config
    assert not {"use_repository_button", "use_issues_button"} & set(config["html"])


def page_of(project: Path, url: str, tmp_path: Path) -> str:
    """The chapter's page, as plain `jupyter-book build` renders it without running it."""
    config = yaml.safe_load((project / "_config.yml").read_text())
    config["repository"]["url"] = url
    config["execute"]["execute_notebooks"] = "off"
    (project / "_config.yml").write_text(yaml.safe_dump(config))
    run = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    options = ["--path-output", str(tmp_path / "out"), "-n", "-W", "--keep-going"]
    subprocess.run([*run, "build", str(project), *options], check=True, capture_output=True)
    return (tmp_path / "out" / "_build" / "html" / "book" / "table9_small.html").read_text()


def test_empty_there_is_no_button(small_project, tmp_path):
    page = page_of(small_project, "", tmp_path)
    assert "launch-buttons" not in page
    for word in ("mybinder", "colab", "github.com"):
        assert word not in page.lower(), word


def test_set_each_chapter_opens_in_binder_and_colab(small_project, tmp_path):
    page = page_of(small_project, ADDRESS, tmp_path)
    binder = "https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/book/table9_small.ipynb"
    assert binder in page
    assert launch.colab_address(ADDRESS, "book/table9_small") in page
    assert f'href="{ADDRESS}"' in page
    assert f"{ADDRESS}/issues" in page
    for icon in re.findall(r'src="([^"]*logo_(?:binder|colab)[^"]*)"', page):
        assert (tmp_path / "out" / "_build" / "html" / "book" / icon).resolve().is_file()
