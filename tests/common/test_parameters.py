"""Values are read the same wherever they come from, and injected names are compared."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from snt_core.common.errors import UserError
from snt_core.common.parameters import check_injected, declared, spelt, typed

CELL = 'profile: str = "published"  # which # one\nseeds: list[int] = []\n'


@pytest.mark.parametrize(
    ("annotation", "given", "value"),
    [
        ("list[int]", 1, [1]),  # what papermill makes of -p seeds 1
        ("list[int]", "0,1", [0, 1]),  # and of -p seeds 0,1
        ("list[int]", "[0, 1]", [0, 1]),
        ("list[int]", (0, 1), [0, 1]),
        ("list[int]", [], []),
        ("list[float]", 0.5, [0.5]),
        ("list[float]", [1], [1.0]),
        ("int", 4.0, 4),
        ("int", "4", 4),
        ("float", 1, 1.0),
        ("bool", "false", False),
        ("bool", True, True),
        ("str", 5, "5"),
    ],
)
def test_a_value_gets_its_type_from_a_shell_from_papermill_and_from_python(
    annotation, given, value
):
    got = typed("table9", "x", annotation, given)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("annotation", "given"),
    [
        ("int", 4.5),
        ("int", True),
        ("int", None),
        ("int", [1]),
        ("int", float("inf")),
        ("float", "x"),
        ("float", False),
        ("list[int]", None),
        ("list[int]", [0, "a"]),
        ("list[int]", 1.5),
        ("list[int]", {"a": 1}),
        ("bool", "maybe"),
        ("bool", 2),
        ("str", ["a"]),
    ],
)
def test_a_value_of_another_type_is_named(annotation, given):
    with pytest.raises(UserError) as caught:
        typed("table9", "x", annotation, given)
    assert f"for x, not '{given}' (write x=" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_null_is_no_text():
    assert typed("table9", "x", "str", None) == ""


def test_a_type_is_spelt_as_in_a_chapter():
    assert [spelt(t) for t in (int, str, Sequence[float], list[int])] == [
        "int",
        "str",
        "list[float]",
        "list[int]",
    ]


def test_comments_belong_to_their_parameters():
    found = declared(CELL, "the cell")
    assert found["profile"].comment == "which # one"
    assert found["seeds"].comment == ""


@pytest.mark.parametrize(
    ("cells", "wrong"),
    [
        (["import os", CELL, "# Parameters\nprofil = 1\n", "x"], "'profil'; did you mean"),
        (["import os", CELL, "# Parameters\nprofile = 1\nrho = 2\n"], "'rho'"),
        ([CELL, "# Parameters\nprofile = 1\nseeds = 3\n"], None),
        ([CELL, "x = 3"], None),
        (["x = 3", "# Parameters\nprofil = 1\n"], None),  # nothing declared to compare with
        ([CELL, "# Parameters\nprofil = = 1\n"], None),
        ([], None),
    ],
)
def test_an_injected_name_must_be_declared(cells, wrong):
    if wrong is None:
        check_injected("table9", cells)
        return
    with pytest.raises(UserError, match=wrong):
        check_injected("table9", cells)


def test_a_notebook_shows_the_line_alone():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shown = []
    shell._showtraceback = lambda kind, value, lines: shown.extend(lines)
    shell.run_cell("from snt_core.common.errors import UserError\nraise UserError('seeds is x')")
    assert shown == ["snt: seeds is x"]
