"""Chapters are found, their parameters checked, and they run; the real ones keep the rules."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import papermill
import pytest
from IPython.core.interactiveshell import InteractiveShell
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from snt_core.book import cards
from snt_core.book.chapters import Chapter, chapters, check, find, parameters
from snt_core.book.execution import execute, execute_all, verify_executed
from snt_core.book.request import prepared
from snt_core.common.errors import UserError
from snt_core.common.parameters import Parameter
from snt_core.paper.artefacts import artefacts
from snt_core.paper.profiles import PROFILES
from snt_core.paper.selection import Selection
from snt_core.runs.store import Store
from tests.records import record_of

PARAMETERS = """\
profile: str = "published"  # smoke | cifar | published
seeds: list[int] = []  # empty: the profile's own
rho: float = 0.05
bits: int = 4  # 2 to 8
exact: bool = False
nets: list[str] = ["adam"]
"""


def chapter(file: Path) -> Chapter:
    return Chapter(file.stem, "Table 9", file, "table9")


def read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


def code_cells(file: Path) -> list[dict[str, Any]]:
    return [cell for cell in read(file)["cells"] if cell["cell_type"] == "code"]


# finding ------------------------------------------------------------------------------------


def test_chapters_are_the_notebooks_of_the_contents_in_order(tmp_path, make_chapter):
    for name in ("table9_small", "figure1_first", "not_listed"):
        make_chapter("1", name=name)
    (tmp_path / "book" / "page.md").write_text("# Page")
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/figure1_first\nparts:\n- chapters:\n  - file: book/page\n"
        "    sections:\n    - file: book/table9_small\n"
    )
    assert [c.name for c in chapters(tmp_path)] == ["figure1_first", "table9_small"]
    assert find("table9", tmp_path) == find("table9_small", tmp_path)
    assert find("table9", tmp_path).label == "Table 9"
    assert find("table9", tmp_path).artefact == "table9"
    with pytest.raises(UserError, match="unknown chapter 'tabel9'; did you mean 'table9_small'"):
        find("tabel9", tmp_path)


def test_a_page_that_is_listed_but_missing_is_named(tmp_path):
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/gone\n")
    with pytest.raises(UserError, match="book/gone"):
        chapters(tmp_path)


# parameters ---------------------------------------------------------------------------------


def test_parameters_are_read_without_running_the_cell(make_chapter):
    declared = parameters(chapter(make_chapter(parameters=PARAMETERS)))
    assert list(declared) == ["profile", "seeds", "rho", "bits", "exact", "nets"]
    assert declared["bits"] == Parameter("bits", "int", 4, "2 to 8")
    assert declared["seeds"] == Parameter("seeds", "list[int]", [], "empty: the profile's own")
    assert declared["rho"].comment == ""


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("seeds", "0,1,2", [0, 1, 2]),
        ("seeds", "[0, 1]", [0, 1]),
        ("seeds", "7", [7]),
        ("seeds", "", []),
        ("seeds", "[]", []),
        ("seeds", [3], [3]),
        ("rho", "1e-1", 0.1),
        ("rho", "2", 2.0),
        ("bits", "8", 8),
        ("bits", 8, 8),
        ("exact", "true", True),
        ("exact", "False", False),
        ("exact", True, True),
        ("nets", "adam, sam", ["adam", "sam"]),
        ("nets", "['adam']", ["adam"]),
        ("profile", "cifar", "cifar"),
        ("profile", "published", "published"),
    ],
)
def test_values_get_their_declared_type(make_chapter, name, given, value):
    nine = chapter(make_chapter(parameters=PARAMETERS))
    got = check(nine, {name: given})[name]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"profil": "smoke"}, "unknown parameter of table9 'profil'; did you mean 'profile'"),
        ({"seeds": "abc"}, "whole numbers for seeds, not 'abc' (write seeds=0,1,2)"),
        ({"seeds": "0,,1"}, "not '0,,1'"),
        ({"bits": "4.5"}, "a whole number for bits, not '4.5'"),
        ({"rho": "big"}, "a number for rho, not 'big'"),
        ({"exact": "maybe"}, "true or false for exact, not 'maybe'"),
    ],
)
def test_a_wrong_parameter_is_one_line_that_says_how_to_mend_it(make_chapter, given, says):
    nine = chapter(make_chapter(parameters=PARAMETERS))
    with pytest.raises(UserError) as caught:
        check(nine, given)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# execution ----------------------------------------------------------------------------------


def test_execution_injects_parameters_and_leaves_no_local_path(tmp_path, make_chapter):
    file = make_chapter("print(seeds, profile)", parameters=PARAMETERS)
    source = file.read_bytes()
    output = tmp_path / "out" / "nine.ipynb"
    assert execute(chapter(file), output, {"seeds": [0, 1], "profile": "smoke"}) == output
    assert code_cells(output)[-1]["outputs"][0]["text"] == ["[0, 1] smoke\n"]
    assert str(tmp_path) not in output.read_text()
    assert list(output.parent.iterdir()) == [output]
    assert file.read_bytes() == source
    verify_executed(output)


def test_execution_runs_where_it_is_told(tmp_path, make_chapter):
    file = make_chapter("import os; print(os.getcwd())")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    output = execute(chapter(file), tmp_path / "nine.ipynb", {}, cwd=elsewhere)
    assert code_cells(output)[-1]["outputs"][0]["text"] == [f"{elsewhere}\n"]


def test_a_failing_chapter_is_named_and_the_others_still_run(tmp_path, make_chapter):
    good = chapter(make_chapter("6 * 7", name="table1_good"))
    bad = chapter(make_chapter("1", "raise ValueError('first\\nlast line')", name="table2_bad"))
    out = tmp_path / "out"
    (out / "table2_bad.ipynb").parent.mkdir()
    (out / "table2_bad.ipynb").write_text("what was there before")
    said: list[str] = []
    with pytest.raises(UserError) as caught:
        execute_all([bad, good], out, {}, 2, notify=said.append)
    assert "table2_bad failed in cell 2: ValueError: last line" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (out / "table2_bad.failed.ipynb").exists()
    assert (out / "table2_bad.ipynb").read_text() == "what was there before"
    verify_executed(out / "table1_good.ipynb")
    assert len(said) == 2


CALL = """\
from snt_core.paper.selection import reproduce
runs = reproduce("table4", profile=profile, seeds=seeds, store=store, weight_bits=weight_bits)
print(len(runs.records), runs.seeds)
"""
DECLARED = """\
profile: str = "published"
seeds: list[int] = []
store: str = ""
weight_bits: int = 4
"""


def test_a_mistake_is_the_same_line_in_plain_papermill_as_from_snt(tmp_path, make_chapter):
    """Whatever the mistake: a value, a name, a profile. Nothing has been made by then."""
    file = make_chapter(CALL, parameters=DECLARED, name="table4_small")
    table4 = Chapter("table4_small", "Table 4", file, "table4")
    store = str(tmp_path / "store")
    for given in ({"profil": "smoke"}, {"seeds": "a"}, {"profile": "imagenet"}):
        with pytest.raises(UserError) as asked:
            prepared(table4, {name: str(value) for name, value in given.items()})
        with pytest.raises(PapermillExecutionError) as ran:
            papermill.execute_notebook(
                file,
                tmp_path / "out.ipynb",
                parameters={**given, "store": store},
                progress_bar=False,
            )
        assert ran.value.traceback == [f"snt: {asked.value}"]
    with pytest.raises(UserError) as told:
        execute(table4, tmp_path / "out" / "table4.ipynb", {**given, "store": store})
    assert str(told.value).startswith(f"{asked.value} (see ")
    assert not (tmp_path / "store").exists()


def test_a_bare_value_is_a_list_and_the_first_line_is_told_while_it_runs(tmp_path, make_chapter):
    file = make_chapter(CALL, parameters=DECLARED, name="table4_small")
    table4 = Chapter("table4_small", "Table 4", file, "table4")
    store = Store(tmp_path / "store")
    for spec in artefacts()["table4"].runs(PROFILES["cifar"], [1]):
        store.put(record_of(spec))
    said: list[str] = []
    output = tmp_path / "out.ipynb"
    execute(table4, output, {"seeds": 1, "store": str(store.folder)}, notify=said.append)
    assert {"12 (1,)\n"} <= {
        text
        for cell in code_cells(output)
        for shown in cell["outputs"]
        for text in shown.get("text", [])
    }
    assert said == [
        "table4, weight_bits 4: profile cifar, seeds 1: 12 of 12 records are there, nothing is "
        "computed"
    ]


def test_a_dead_kernel_is_reported(tmp_path, make_chapter):
    file = make_chapter("import os; os._exit(9)")
    with pytest.raises(UserError, match="kernel died"):
        execute(chapter(file), tmp_path / "nine.ipynb", {})


def test_a_notebook_that_never_ran_is_not_taken_for_an_executed_one(make_chapter):
    with pytest.raises(UserError, match=r"cell 1 .* was never executed"):
        verify_executed(make_chapter("1"))


def test_kernels_share_no_port_with_others(tmp_path, make_chapter):
    where = "import json, ipykernel; print(json.load(open(ipykernel.get_connection_file()))['ip'])"
    file = make_chapter(where)
    sockets = []
    for name in ("one", "two"):
        output = execute(chapter(file), tmp_path / f"{name}.ipynb", {})
        sockets.append(Path(code_cells(output)[-1]["outputs"][0]["text"][0].strip()))
    assert all(socket.is_absolute() for socket in sockets)
    assert sockets[0] != sockets[1]
    assert not any(socket.parent.exists() for socket in sockets)


def test_kernels_compute_with_one_thread(tmp_path, make_chapter):
    file = make_chapter("import os; print(os.environ['OMP_NUM_THREADS'])")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        done = execute_all([chapter(file)], tmp_path / "out", {}, 1)
    assert code_cells(done[file.stem])[-1]["outputs"][0]["text"] == ["1\n"]


# the real chapters --------------------------------------------------------------------------

REAL = chapters()
real = pytest.mark.parametrize("real_chapter", REAL, ids=lambda c: c.name)


def test_there_are_chapters():
    assert REAL
    assert len({c.short for c in REAL}) == len(REAL), "two chapters share a short name"


@real
def test_source_has_no_outputs_and_the_common_kernel(real_chapter):
    assert read(real_chapter.file)["metadata"]["kernelspec"]["name"] == "python3"
    for cell in code_cells(real_chapter.file):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        assert "papermill" not in cell["metadata"]


@real
def test_has_one_parameters_cell_with_the_common_parameters(real_chapter):
    tagged = [
        cell
        for cell in code_cells(real_chapter.file)
        if "parameters" in cell["metadata"].get("tags", ())
    ]
    assert len(tagged) == 1
    declared = parameters(real_chapter)
    common = {"profile": ("str", "published"), "seeds": ("list[int]", []), "store": ("str", "")}
    assert {name: (declared[name].annotation, declared[name].default) for name in common} == common
    assert all(parameter.comment for parameter in declared.values())
    defaults = {name: parameter.default for name, parameter in declared.items()}
    assert check(real_chapter, defaults) == defaults


@real
def test_is_short_and_free_of_long_functions(real_chapter):
    sources = ["".join(cell["source"]) for cell in code_cells(real_chapter.file)]
    assert sum(len(source.splitlines()) for source in sources) <= 60
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                assert node.end_lineno - node.lineno < 5, node.name


@real
def test_figures_have_name_and_caption(real_chapter):
    """What they show in words, `cards.figure` makes of the records (see test_figures)."""
    for cell in code_cells(real_chapter.file):
        about = cell["metadata"].get("mystnb", {})
        assert bool(about) == ("cards.figure(" in "".join(cell["source"]))
        if about:
            assert about["figure"]["name"]
            assert about["figure"]["caption"]


@real
def test_without_records_a_chapter_says_so_and_shows_no_number_of_smoke(
    real_chapter, tmp_path, monkeypatch
):
    """The published edition of an empty store: every cell runs, and nothing is computed."""
    monkeypatch.setenv("SNT_STORE", str(tmp_path))
    names: dict[str, Any] = {}
    for cell in code_cells(real_chapter.file):
        exec("".join(cell["source"]), names)
    shown = [value for value in names.values() if isinstance(value, Selection)]
    assert not [selection for selection in shown if selection.records]
    assert all("Not run yet" in cards.badge(one).data for one in shown if one.specs)
    assert not list(tmp_path.rglob("*.json"))


@real
@pytest.mark.book
def test_executes_at_smoke(real_chapter, smoke_book):
    executed = smoke_book.executed / f"{real_chapter.name}.ipynb"
    verify_executed(executed)
    assert 'profile = "smoke"' in executed.read_text().replace('\\"', '"')


@real
@pytest.mark.book
def test_shows_the_records_of_the_project_from_another_directory(
    real_chapter, tmp_path, monkeypatch
):
    """The published edition, which is what its defaults ask for, each value shown by IPython.

    Here, without a kernel: those, and papermill, are with every chapter at smoke, above.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SNT_STORE", raising=False)
    monkeypatch.setitem(sys.modules, "chapter", ModuleType("chapter"))
    settings = Config({"HistoryManager": {"enabled": False}})
    shell = InteractiveShell(user_module=sys.modules["chapter"], config=settings)
    for cell in code_cells(real_chapter.file):
        shell.run_cell("".join(cell["source"])).raise_error()
    shell.restore_sys_module_state()


@pytest.mark.book
def test_runs_with_plain_papermill_from_another_directory(tmp_path, monkeypatch):
    """Papermill by its function: what its command adds is tested below."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SNT_STORE", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    file = find("table4").file
    papermill.execute_notebook(str(file), "executed.ipynb", progress_bar=False)
    verify_executed(tmp_path / "executed.ipynb")


@pytest.mark.book
def test_papermills_command_makes_what_is_missing_itself(tmp_path):
    """Live, nets and all, in a store of its own: the others find what was run before."""
    one, store = find("figure6"), tmp_path / "store"
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(one.file)]
    result = subprocess.run(
        [*command, f"{one.name}.ipynb", "-p", "profile", "smoke"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "SNT_STORE": str(store)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    verify_executed(tmp_path / f"{one.name}.ipynb")
    assert len(list((store / "records" / "smoke").glob("*.json"))) == 6
