"""Python with some packages and what they need, and no others: `newcomer.py NAMES CODE`.

The finders of imports stay, and pass over every other package of this environment.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from typing import Any


def main(names: str, code: str) -> None:
    installed = needed(names.split(","))
    homes = metadata.packages_distributions()
    hidden = {top for top, found in homes.items() if not installed & {key(one) for one in found}}
    hidden -= {"snt_core", "tests"}
    sys.meta_path[:] = [Without(finder, hidden) for finder in sys.meta_path]
    exec(code, {"__name__": "__main__", "hidden": hidden})


class Without:
    """A finder of imports that does not see some packages."""

    def __init__(self, finder: Any, hidden: set[str]) -> None:
        self.finder, self.hidden = finder, hidden

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] in self.hidden:
            return None
        return self.finder.find_spec(name, path, target)


def needed(names: list[str]) -> set[str]:
    """Return these packages and all that they require, extras apart."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = key(todo.pop())
        if name in found:
            continue
        found.add(name)
        try:
            asked = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # one for another system
            continue
        todo += [re.split(r"[^\w.-]", one)[0] for one in asked if "extra ==" not in one]
    return found


def key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main(*sys.argv[1:])
