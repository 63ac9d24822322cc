"""Each record has a page in the book, and its id leads there: a Sphinx extension (`_config.yml`).

Links are made when a page is rendered, so that a notebook which is opened elsewhere, where no such
page lies, shows the id as text.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snt_core.book import record_links, record_page
from snt_core.paper.profiles import can_judge
from snt_core.runs.identity import record_name
from snt_core.runs.record import Record
from snt_core.runs.repeats import Repeat, repeats
from snt_core.runs.store import Store, open_store

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx: links while pages are rendered, the records' own pages at the end."""
    pages = RecordPages(open_store)
    app.add_css_file("records.css")
    app.connect("html-page-context", pages.add_links)
    app.connect("build-finished", pages.write_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class RecordPages:
    """The records of the store, read once they are asked for: chapters may have added some."""

    def __init__(self, open_one: Callable[[], Store]) -> None:
        self._open = open_one

    @cached_property
    def store(self) -> Store:
        return self._open()

    @cached_property
    def records(self) -> dict[str, Record]:
        """Every record by its name."""
        return {record.name: record for record in self.store.records()}

    @cached_property
    def names(self) -> dict[str, str]:
        """From a record's id and from its name to its name."""
        return {key: name for name in self.records for key in (name, name.rpartition("-")[2])}

    def add_links(
        self, app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any
    ) -> None:
        """Make each cell that names a record lead to its page."""
        if "body" in context:
            context["body"] = record_links.with_links(context["body"], self.names, page)

    def write_all(self, app: Sphinx, exception: Exception | None) -> None:
        """Write the pages of all records that pages lead to, and of all that can be judged."""
        if exception is None and app.builder.format == "html":
            titles = {page: title.astext() for page, title in app.env.titles.items()}
            repository = app.config.html_theme_options.get("repository_url", "")
            self.write(Path(app.outdir), titles, repository)

    def write(self, html: Path, titles: dict[str, str], repository: str = "") -> None:
        """Write page and JSON of each record into the built book in `html`.

        Args:
            titles: of the book's pages, such as `book/intro`.
            repository: where commits are linked to; empty for nowhere.
        """
        uses = self._uses(html, titles)
        wanted = {n for n, r in self.records.items() if can_judge(r.profile)} | set(uses)
        parents = {name: self._parent(name) for name in self.records}
        wanted |= {parent for name in wanted if (parent := parents[name])}
        children, second = self._children(wanted, parents), self._repeats()
        folder = html / record_links.FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(wanted):
            record = self.records[name]
            around = record_page.Around(
                pages=uses[name],
                parent=parents[name],
                children=children[name],
                repeats=second[name],
                repository=repository,
            )
            text = record_page.page(record, around)
            (folder / f"{name}.html").write_text(text, encoding="utf-8")
            shutil.copyfile(self.store.record_path(record), folder / f"{name}.json")

    def _uses(self, html: Path, titles: dict[str, str]) -> defaultdict[str, list[tuple[str, str]]]:
        """Return for each record the pages that lead to it, as title and address.

        Read from the pages as they were written, some by a build before this one.
        """
        uses = defaultdict(list)
        for page, title in titles.items():
            if (file := html / f"{page}.html").exists():
                text = file.read_text(encoding="utf-8")
                for name in record_links.linked(text, self.records):
                    uses[name].append((title, f"../{page}.html"))
        return uses

    def _parent(self, name: str) -> str | None:
        spec = self.records[name].spec
        parent = record_name(spec.net)
        return parent if spec.net is not spec and parent in self.records else None

    def _children(
        self, wanted: set[str], parents: dict[str, str | None]
    ) -> defaultdict[str, list[tuple[str, str]]]:
        children = defaultdict(list)
        for name in sorted(wanted):
            if parent := parents[name]:
                children[parent].append((name, record_page.what(self.records[name])))
        return children

    def _repeats(self) -> defaultdict[str, list[Repeat]]:
        second = defaultdict(list)
        for repeat in repeats(self.store):
            second[repeat.record].append(repeat)
        return second
