"""Whatever is wrong with what a user types, names or leaves lying about is told in one line.

Every case ends with exit code 2 and exactly one line on standard error, which names the value, and
no run, kernel or notebook has been started by then.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from snt_core import cli
from snt_core.book import build, chapters, new_chapter
from snt_core.common import files
from snt_core.common.files import PROJECT
from snt_core.paper import numbers
from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import training
from snt_core.runs import runner
from snt_core.runs.store import Store
from tests.records import record_of

Prepare = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """A command line, what its one line must say, and what lies in the temporary folder before.

    `{tmp}` is that folder; the store is `{tmp}/store`, data sets `{tmp}/data`, the cache
    `{tmp}/cache`, and `{tmp}/project` the project, where a case says so.
    """

    words: str
    says: str
    prepare: Prepare = lambda tmp: None

    def __str__(self) -> str:
        return f"{self.words} -> {self.says}"


def file(name: str, content: bytes = b"x") -> Prepare:
    def write(tmp: Path) -> None:
        path = tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return write


def folder(name: str) -> Prepare:
    return lambda tmp: (tmp / name).mkdir(parents=True)


# what is typed --------------------------------------------------------------------------------

CLUSTER = "run --profile smoke --engine dask --cluster {tmp}/c.yml"
WORDS = [
    Case("rn", "'rn'"),
    Case("run", "--profile"),
    Case("run --profil smoke", "--profil"),
    Case("run --profile cifr", "'cifr'; did you mean 'cifar'"),
    Case("run --profile=", "unknown profile ''"),
    Case("run --profile published", "unknown profile 'published'"),
    Case("run --profile smoke --workers x", "'x'"),
    Case("run --profile smoke --workers 0", "--workers is '0'"),
    Case("run --profile smoke --workers 1.5", "'1.5'"),
    Case("run --profile smoke --only tabl4", "'tabl4'; did you mean 'table4'"),
    Case("run --profile smoke --only table4_bogus", "'table4_bogus'; did you mean 'table4'"),
    Case("run --profile smoke --only ,", "--only is ','"),
    Case("run --profile smoke --only table4,", "--only is 'table4,'"),
    Case("run --profile smoke --only intro", "'intro'"),
    Case("run --profile imagenet --only table4", "unknown profile of table4 'imagenet'"),
    Case("run --profile smoke --seeds abc", "--seeds is 'abc'"),
    Case("run --profile smoke --seeds 1.5", "--seeds is '1.5'"),
    Case("run --profile smoke --seeds ,", "--seeds is ','"),
    Case("run --profile smoke --seeds 0,,1", "--seeds is '0,,1'"),
    Case("run --profile smoke --seeds 0,0", "seeds are 0, 0"),
    Case("run --profile smoke --seeds 99999999999", "99999999999"),
    Case("run --profile smoke --budget 25", "--budget is '25'; give a time above 0, such as 90s"),
    Case("run --profile smoke --budget 0m", "--budget is '0m'"),
    Case("run --profile smoke --engine dsk", "'dsk'; did you mean 'dask'"),
    Case("run --profile smoke --engine dask", "--scheduler ADDRESS and --cluster FILE.yml"),
    Case("run --profile smoke --scheduler a:1", "--scheduler is for --engine dask"),
    Case("run --profile smoke --engine dask --scheduler a", "--scheduler is 'a'; give an address"),
    Case("run --profile smoke --engine dask --cluster {tmp}/no.yml", "no such file"),
    Case(CLUSTER, "names no kind", file("c.yml", b"workers: 2\n")),
    Case(CLUSTER, "'slrm'; did you mean 'slurm'", file("c.yml", b"kind: slrm\n")),
    Case(CLUSTER, "'job'", file("c.yml", b"kind: slurm\njob: 2\n")),
    Case(CLUSTER, "workers in c.yml is 0", file("c.yml", b"kind: slurm\nworkers: 0\n")),
    Case(CLUSTER, "options in c.yml is 3", file("c.yml", b"kind: slurm\noptions: 3\n")),
    Case("plan --profile smoke --seeds -1", "a seed is -1"),
    Case("plan --profile imagenet --only figure1 --seeds 0,1", "seeds are 0, 1"),
    Case("plan --profile smoke surplus", "surplus"),
    Case("book --profile smokee", "'smokee'; did you mean 'smoke'"),
    Case("book --profile", "--profile"),
    Case("claims --jsn", "--jsn"),
    Case("verify", "--sample N"),
    Case("verify ffffffffffff", "'ffffffffffff'"),
    Case(f"verify --sample {'9' * 5000}", "of at most 9 digits"),
    Case(f"run --profile smoke --workers {'9' * 5000}", "of at most 9 digits"),
    Case("run --profile smoke --engine dask --scheduler ucx://a:9", "tls://, ws:// or wss://"),
    Case(CLUSTER, "c.yml is not YAML", file("c.yml", b"kind: " + b"[" * 3000)),
    Case("chapter table4 -p store=/tmp/x\udcff", "takes UTF-8 text"),
    Case("chapter table4 --output /tmp/x\udcff.ipynb", "which is no path"),
    Case("verify ptq-", "'ptq-'"),
    Case("verify fff", "'fff'"),
    Case("verify --sample -1", "'-1'"),
    Case("verify --sample three", "'three'"),
    Case("verify --sample 3", "{tmp}/store"),
    Case("verify ffff --sample 3", "one of both"),
    Case("new-chapter Figure8", "'Figure8'"),
    Case("new-chapter ../figure8", "'../figure8'"),
    Case("new-chapter class_size", "'class'"),
    Case("new-chapter table4_other", "table4_other"),
    Case(f"new-chapter a{'b' * 300}", "name"),
]
PARAMETERS = [
    Case("chapter", "Missing"),
    Case("chapter tabel4", "'tabel4'; did you mean 'table4_ablation'"),
    Case("chapter table4 -p profil=smoke", "'profil'; did you mean 'profile'"),
    Case("chapter table4 -p profile", "'profile'"),
    Case("chapter table4 -p =smoke", "'=smoke'"),
    Case("chapter table4 -p seeds=0 -p seeds=1", "seeds twice, '0' and '1'"),
    Case("chapter table4 -p profile=smok", "'smok'; did you mean 'smoke'"),
    Case("chapter table4 -p profile=", "profile of table4 ''"),
    Case("chapter table4 -p profile=imagenet", "'imagenet'"),
    Case("chapter intro -p profile=smok", "'smok'; did you mean 'smoke'"),
    Case("chapter table4 -p seeds=abc", "seeds, not 'abc' (write seeds=0,1,2)"),
    Case("chapter table4 -p seeds=0,,1", "'0,,1'"),
    Case("chapter table4 -p seeds=1.5", "'1.5'"),
    Case("chapter table4 -p seeds=-1", "a seed is -1"),
    Case("chapter table4 -p seeds=0,0", "seeds are 0, 0"),
    Case("chapter table4 -p seeds=2147483649", "2147483649"),
    Case("chapter figure1 -p profile=imagenet -p seeds=0,1", "seeds are 0, 1"),
    Case("chapter table4 -p weight_bits=4.5", "weight_bits, not '4.5'"),
    Case("chapter table4 -p weight_bits=four", "'four'"),
    Case("chapter table4 -p weight_bits=9", "weight_bits is 9"),
    Case("chapter table4 -p weight_bits=1", "weight_bits is 1"),
    Case("chapter figure5 -p sparsities=2", "a sparsity is 2"),
    Case("chapter figure5 -p sparsities=1.0", "a sparsity is 1"),
    Case("chapter figure5 -p sparsities=0", "a sparsity is 0"),
    Case("chapter figure5 -p sparsities=nan", "a sparsity is nan"),
    Case("chapter figure5 -p sparsities=0.5,0.5", "[0.5, 0.5]"),
    Case("chapter figure5 -p sparsities=", "sparsities are []"),
    Case("chapter figure5 -p sparsities=half", "'half'"),
]

# where things go ------------------------------------------------------------------------------

TABLE4 = "chapter table4 -p profile=smoke"
PATHS = [
    Case("chapter table4 --output /etc", "'/etc'"),
    Case("chapter table4 --output out.txt", "'out.txt'"),
    Case("chapter table4 --output /proc/out.ipynb", "/proc"),
    Case("chapter table4 --output ~nosuchuser/out.ipynb", "'~nosuchuser/out.ipynb'"),
    Case("chapter table4 --output {tmp}/file/out.ipynb", "{tmp}/file", file("file")),
    Case(f"chapter table4 --output {'n' * 300}.ipynb", "name too long"),
    Case(f"chapter table4 --output {PROJECT}/book/table4_ablation.ipynb", "the chapter itself"),
    Case("export --output ~nosuchuser/out.zip", "'~nosuchuser/out.zip'"),
    Case(f"{TABLE4} -p store={{tmp}}/file", "'{tmp}/file'", file("file")),
    Case(f"{TABLE4} -p store={{tmp}}/file/below", "{tmp}/file is a file", file("file")),
    Case(f"{TABLE4} -p store=~nosuchuser", "'~nosuchuser'"),
    Case(f"{TABLE4} -p store=/proc/store", "/proc/store"),
    Case(TABLE4, "SNT_STORE is '{tmp}/store'", file("store")),
    Case(TABLE4, "{tmp}/store/records", file("store/records")),
    Case(TABLE4, "SNT_CACHE_DIR is '{tmp}/cache'", file("cache")),
    Case("status", "SNT_STORE is '{tmp}/store'", file("store")),
    Case("claims", "SNT_STORE is '{tmp}/store'", file("store")),
    Case("run --profile smoke", "SNT_DATA_DIR is '{tmp}/data'", file("data")),
    Case("run --profile smoke --only table4", "{tmp}/store/weights", file("store/weights")),
]

# what lies there ------------------------------------------------------------------------------

CIFAR = "run --profile cifar --only table4 --seeds 0"


def parquet(**columns: object) -> Prepare:
    """Train and test files of CIFAR-100 with these columns."""

    def write(tmp: Path) -> None:
        for part in ("train", "test"):
            path = tmp / "data" / "cifar100" / f"{part}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(columns), path)

    return write


def images(count: int) -> pa.Array:
    return pa.array([{"bytes": b"png", "path": None}] * count, pa.struct({"bytes": pa.binary()}))


def no_parquet(content: bytes) -> Prepare:
    def write(tmp: Path) -> None:
        for part in ("train", "test"):
            file(f"data/cifar100/{part}-0.parquet", content)(tmp)

    return write


def train_only(tmp: Path) -> None:
    parquet(img=images(2), fine_label=pa.array([0, 1]))(tmp)
    (tmp / "data" / "cifar100" / "test-00000-of-00001.parquet").unlink()


def record(tmp: Path, profile: str = "smoke") -> Path:
    net = training(PROFILES[profile], "cifar100", "adam", 0)
    return Store(tmp / "store").put(record_of(net, profile))


DATA = [
    Case(CIFAR, "cifar100 is not in {tmp}/data"),
    Case(CIFAR, "train-0.parquet cannot be read", no_parquet(b"")),
    Case(CIFAR, "train-0.parquet cannot be read", no_parquet(b"PAR1 and more")),
    Case(CIFAR, "has no test-*.parquet", train_only),
    Case(CIFAR, "hold 0 images", parquet(img=images(0), fine_label=pa.array([], pa.int64()))),
    Case(CIFAR, "hold 2 images", parquet(img=images(2), fine_label=pa.array([0, 1]))),
    Case(CIFAR, "'img'", parquet(img=pa.array([b"png"]), fine_label=pa.array([0]))),
    Case(CIFAR, "columns: image, label", parquet(image=images(1), label=pa.array([0]))),
    Case(CIFAR, "'fine_label'", parquet(img=images(1), label=pa.array([0]))),
    Case(CIFAR, "'fine_label'", parquet(img=images(1), fine_label=pa.array(["cat"]))),
    Case(CIFAR, "'fine_label'", parquet(img=images(1), fine_label=pa.array([0.5]))),
    Case(CIFAR, "/train is missing", folder("data/cifar-100-python")),
    Case(CIFAR, "/train is missing", file("data/cifar-100-python/train")),
    Case("chapter table4 -p profile=cifar", "cifar100 is not in {tmp}/data"),
    Case("run --profile imagenet --only figure2", "{tmp}/data/imagenet/val"),
    Case("run --profile imagenet --only figure2", "no images", folder("data/imagenet/val/n01")),
    Case("status --json x", "x"),
    Case("verify --sample 1", "cifar100 is not in {tmp}/data", lambda tmp: record(tmp, "cifar")),
]

# the book's own files -------------------------------------------------------------------------

GOOD_TOC = "format: jb-book\nroot: book/intro\nchapters:\n- file: book/table4_ablation\n"


def toc(text: str | bytes) -> Prepare:
    content = text if isinstance(text, bytes) else text.encode()
    return file("project/_toc.yml", content)


def config(text: str) -> Prepare:
    return file("project/_config.yml", text.encode())


def cells(change: Callable[[dict], None]) -> Prepare:
    """The notebook of Table 4 with something changed in it."""

    def write(tmp: Path) -> None:
        path = tmp / "project" / "book" / "table4_ablation.ipynb"
        body = json.loads(path.read_text())
        change(body)
        path.write_text(json.dumps(body))

    return write


def odd(*keys: str, value: object) -> tuple[str, Prepare]:
    """A value of the wrong type in the notebook, and what is said of it."""

    def change(body: dict) -> None:
        for key in keys[:-1]:
            body = body[key]
        body[keys[-1]] = value

    return f"or a damaged one (it.{'.'.join(keys)}", cells(change)


ODD_NOTEBOOKS = [
    odd("metadata", "snt", "label", value=5),
    odd("metadata", "snt", "artefact", value=["x"]),
    odd("metadata", "snt", value=[]),
    odd("metadata", "papermill", value=5),
    odd("metadata", "kernelspec", value="python3"),
    odd("metadata", "language_info", value=None),
    odd("nbformat_minor", value="x"),
    odd("cells", value={}),
]


def notebook(content: bytes) -> Prepare:
    return file("project/book/table4_ablation.ipynb", content)


def declares(source: str) -> Prepare:
    """A parameters cell with this source."""

    def change(body: dict) -> None:
        for cell in body["cells"]:
            if "parameters" in cell["metadata"].get("tags", ()):
                cell["source"] = [source]

    return cells(change)


def uncounted(body: dict) -> None:
    for cell in body["cells"]:
        cell.pop("execution_count", None)


def untagged(body: dict) -> None:
    for cell in body["cells"]:
        cell["metadata"].pop("tags", None)


def tagged_twice(body: dict) -> None:
    for cell in [cell for cell in body["cells"] if cell["cell_type"] == "code"][-2:]:
        cell["metadata"]["tags"] = ["parameters"]


def claim(entry: str) -> Prepare:
    return file("project/data/paper/claims.yml", f"- {entry}\n".encode())


BOOK = [
    Case("chapters", "book/gone", toc("format: jb-book\nroot: book/gone\n")),
    Case("chapters", "_toc.yml", toc("")),
    Case("chapters", "_toc.yml", toc("- a\n- b\n")),
    Case("chapters", "line 2", toc("root: book/intro\nchapters: [}\n")),
    Case("chapters", "line 2", toc("root: book/intro\n\tchapters: x\n")),
    Case("chapters", "'root' twice", toc("root: book/intro\nroot: book/intro\n")),
    Case("chapters", "chaptrs", toc(GOOD_TOC.replace("chapters", "chaptrs"))),
    Case("chapters", "fil", toc(GOOD_TOC.replace("- file", "- fil"))),
    Case("chapters", "jb-bok", toc(GOOD_TOC.replace("jb-book", "jb-bok"))),
    Case("chapters", "book/table4_ablation", toc(f"{GOOD_TOC}- file: book/table4_ablation\n")),
    Case("chapters", "'root'", toc("format: jb-book\n")),
    Case("chapters", "not UTF-8", toc(b"root: \xff\xfe\n")),
    Case("chapters", "there is no", lambda tmp: (tmp / "project" / "_toc.yml").unlink()),
    Case("book", "_config.yml", config("")),
    Case("book", "line 2", config("title: x\nexecute: [}\n")),
    Case("book", "'title' twice", config("title: x\ntitle: y\n")),
    Case("book", "_config.yml", lambda tmp: (tmp / "project" / "_config.yml").unlink()),
    Case("book", "project/_build", file("project/_build")),
    Case("chapters", "is not JSON", notebook(b"{")),
    Case("chapters", "is not JSON", notebook(b"")),
    Case("chapters", "table4_ablation.ipynb", notebook(b"[]")),
    Case("chapters", "table4_ablation.ipynb", notebook(b"{}")),
    Case("chapters", "table4_ablation.ipynb", notebook(b'{"cells": 3, "metadata": {}}')),
    Case("chapters", "not UTF-8", notebook(b'"\xff"')),
    *(
        Case("chapters", f"table4_ablation.ipynb is not a notebook of format 4, {about}", change)
        for about, change in ODD_NOTEBOOKS
    ),
    Case("chapters", "format 4", cells(lambda body: body.update(nbformat=3))),
    Case("chapters", "damaged", cells(lambda body: body["cells"][0].pop("source"))),
    Case("book", "damaged", cells(lambda body: body["cells"].append("text"))),
    Case("book", "'x' is not", cells(lambda body: body["cells"][1].update(outputs=["x"]))),
    Case("chapter table4", "'a b'", cells(lambda body: body["cells"][0].update(id="a b"))),
    Case("chapter table4", "'execution_count'", cells(uncounted)),
    Case("chapter table4 -p seeds=0", "0 code cells tagged", cells(untagged)),
    Case("chapter table4", "3 code cells tagged", cells(tagged_twice)),
    Case("chapter table4", "'profile = 1'", declares("profile = 1")),
    Case("chapter table4", "'import os'", declares("import os")),
    Case("chapter table4", "is no Python", declares("profile: str = ")),
    Case("chapter table4", "'Path'", declares("store: Path = 1")),
    Case("chapter table4", "profile: str = open", declares("profile: str = open('x')")),
    Case("chapter table4", "weight_bits, not 'x'", declares('weight_bits: int = "x"')),
    Case("chapter table4", "seeds, store", declares('profile: str = "smoke"')),
    Case("claims", "claims.yml", file("project/data/paper/claims.yml", b"- id: [\n")),
    Case("claims", "lacks assertions", claim("{id: a, where: b, says: c, assertons: []}")),
    Case("claims", "lacks", claim("words")),
    Case("claims", "there is no"),
]
CASES = [*WORDS, *PARAMETERS, *PATHS, *DATA, *BOOK]


@pytest.fixture
def nothing_may_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("work was started")

    for where, name in ((cli, "execute"), (runner, "load_data"), (runner, "run_all")):
        monkeypatch.setattr(where, name, started)
    monkeypatch.setattr("snt_core.training.engine.detect", started)
    monkeypatch.setattr("snt_core.book.build.build", started)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder that store, data, cache and network are in, or are not."""
    for variable, name in (("STORE", "store"), ("DATA_DIR", "data"), ("CACHE_DIR", "cache")):
        monkeypatch.setenv(f"SNT_{variable}", str(tmp_path / name))
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nothing listens there
    return tmp_path


@pytest.fixture
def project(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one chapter in the place of this one."""
    small = here / "project"
    (small / "book").mkdir(parents=True)
    (small / "_toc.yml").write_text(GOOD_TOC)
    (small / "book" / "intro.md").write_text("# Start\n")
    shutil.copy(PROJECT / "_config.yml", small)
    shutil.copy(PROJECT / "book" / "table4_ablation.ipynb", small / "book")
    monkeypatch.setattr(files, "PROJECT", small)
    for function in (chapters.chapters, chapters.find, build.require_buildable, new_chapter.create):
        monkeypatch.setattr(function, "__defaults__", (small,))
    numbers.claims.cache_clear()
    return small


def snt(words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["snt", *words.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def left_behind(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.usefixtures("nothing_may_start")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_told_in_one_line(case, here, request, monkeypatch, capsys):
    if case in BOOK:
        request.getfixturevalue("project")
    case.prepare(here)
    before = left_behind(here)
    monkeypatch.chdir(here)
    assert snt(case.words.format(tmp=here), monkeypatch) == 2
    said = capsys.readouterr()
    assert said.err.startswith("snt: ")
    assert said.err.count("\n") == 1
    assert case.says.format(tmp=here) in said.err
    assert left_behind(here) == before


def test_there_are_eighty_cases_and_more():
    assert len(CASES) >= 80
    assert len(set(map(str, CASES))) > 0.9 * len(CASES)
