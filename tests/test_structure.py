"""The tree stays one in which a stranger guesses right. `make lint` checks where imports may go."""

from __future__ import annotations

from collections import defaultdict

from snt_core.common.files import PROJECT

PACKAGE = PROJECT / "snt_core"
MODULES = [p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py"]


def test_no_two_modules_share_a_name_save_a_kind_of_run_and_what_it_carries_out():
    homes = defaultdict(list)
    for path in MODULES:
        homes[path.stem].append(path.relative_to(PACKAGE))
    for stem, paths in homes.items():
        kinds = [path for path in paths if path.parts[:2] == ("runs", "kinds")]
        assert len(paths) - len(kinds) <= 1, stem
        assert len(kinds) <= 1, stem


def test_modules_are_small():
    long = {str(p): n for p in MODULES if (n := len(p.read_text().splitlines())) > 300}
    assert long == {}


def test_tests_mirror_the_tree():
    """A folder of tests is a folder of the package; faults come to all of it."""
    tests = PROJECT / "tests"
    for folder in {path.parent for path in tests.rglob("test_*.py")} - {tests, tests / "faults"}:
        assert (PACKAGE / folder.relative_to(tests)).is_dir(), folder
