"""The command line: wrong input is one line and exit code 2, before any work."""

import json
import os
import resource
import shutil
import subprocess
import sys

import pytest

import snt_core
from snt_core import cli
from snt_core.book.chapters import chapters
from snt_core.common.files import PROJECT
from snt_core.paper import numbers
from snt_core.paper.artefacts import artefacts
from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import training
from snt_core.runs.kinds.lambda_max import LambdaMaxSpec
from snt_core.runs.store import Store
from tests.records import record_of


def snt(*words: str, **env: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from snt_core.cli import main; main()", *words]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **env}, cwd=PROJECT, check=False
    )


def used() -> float:
    """Seconds of a processor that finished child processes took."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def test_wrong_input_ends_the_process_with_code_2_at_once(tmp_path):
    """What is wrong is tried out, case by case, in `test_bad_inputs`; this is the whole command.

    It takes 0.7 s of a processor, whatever else the machine does; torch alone would take two.
    """
    empty = {k: str(tmp_path / k) for k in ("SNT_STORE", "SNT_DATA_DIR", "SNT_CACHE_DIR")}
    blocked = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    for words in ("chapter table4 -p profil=x", "run --profile cifar --only table4 --seeds 0"):
        before = used()
        done = snt(*words.split(), **empty, **blocked)
        assert used() - before < 2
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""
    assert "SNT_DATA_DIR" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_alone_it_says_what_there_is_and_version_says_which():
    alone = snt()
    assert alone.returncode == 0
    assert {"chapter", "verify"} <= set(alone.stdout.split())
    assert snt("--version").stdout == f"snt {snt_core.__version__}\n"


def test_a_terminal_that_knows_plain_letters_only_shows_the_claims(tmp_path):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    done = snt("claims", SNT_STORE=str(tmp_path), **plain)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "ablation" in done.stdout


def test_without_a_checkout_a_line_says_what_needs_one(tmp_path):
    """As an installed wheel is: the package alone. With a store of its own it plans and runs."""
    shutil.copytree(PROJECT / "snt_core", tmp_path / "site" / "snt_core")
    place = {"PYTHONPATH": str(tmp_path / "site"), "SNT_STORE": "", "SNT_CACHE_DIR": ""}

    def installed(*words: str, **env: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", "from snt_core.cli import main; main()", *words]
        env = {**os.environ, **place, **env}
        return subprocess.run(
            command, capture_output=True, text=True, env=env, cwd=tmp_path, check=False
        )

    for words in ("chapters", "book", "claims", "status", "chapter table4", "new-chapter figure8"):
        done = installed(*words.split())
        assert done.returncode == 2, words
        assert "clone the repository" in done.stderr
        assert done.stderr.count("\n") == 1
    plan = ("plan", "--profile", "smoke", "--only", "table4")
    assert "12 runs" in installed(*plan, SNT_STORE=str(tmp_path / "store")).stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site"]


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "stopped"),
        (OSError(28, "No space left on device", "/full/x"), 2, "/full/x: No space left on device"),
        (PermissionError(13, "Permission denied"), 2, "permission denied"),
        (OSError("odd\nand long"), 2, "odd"),
    ],
    ids=lambda value: str(value).partition("\n")[0],
)
def test_what_the_system_or_the_user_stops_is_a_line(error, code, says, monkeypatch, capsys):
    def stopped(*_, **__):
        raise error

    monkeypatch.setattr(cli, "standings", stopped)
    monkeypatch.setattr("sys.argv", ["snt", "status"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == code
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_chapter_is_written_to_the_project_from_any_folder(tmp_path, monkeypatch, capsys):
    written = []
    monkeypatch.setattr(cli, "execute", lambda found, target, *_, **__: written.append(target))
    monkeypatch.chdir(tmp_path)
    for words in ("chapter intro", "chapter figure4 -p profile=smoke --output here.ipynb"):
        monkeypatch.setattr("sys.argv", ["snt", *words.split()])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
    assert written == [
        PROJECT / "_build" / "chapters" / "intro.ipynb",
        tmp_path / "here.ipynb",
    ]
    assert "figure4_blocks does not use profile" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", ["plan --profile smoke --only table4", "status", "claims", "verify --sample 1"]
)
def test_an_edited_record_is_one_line_and_the_others_are_read(words, tmp_path):
    first, second = (training(PROFILES["smoke"], "cifar100", "adam", seed) for seed in (0, 1))
    store = Store(tmp_path)
    path = store.put(record_of(first, "smoke", top1=50.0))
    path.write_text(path.read_text().replace("50.0", "99.0"))
    store.put(record_of(LambdaMaxSpec(parent=second, n_samples=8), "smoke"))
    done = snt(*words.split(), SNT_STORE=str(tmp_path))
    alone = words.startswith("verify")  # whose one record left has no weights
    assert done.returncode == (2 if alone else 0)
    said = done.stderr.splitlines()
    assert len(said) == (2 if alone else 1)
    assert not alone or "none of the 1 records" in said[1]
    assert str(path) in said[0]
    assert "checksum" in said[0]


def test_json_shapes(tmp_path):
    def read(*words):
        done = snt(*words, "--json", SNT_STORE=str(tmp_path))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    listed = read("chapters")
    assert [set(row) for row in listed] == [{"name", "label", "file"}] * len(chapters())
    assert {"table4_ablation", "table3_quantization"} <= {row["name"] for row in listed}

    verdicts = read("claims")
    keys = {"id", "verdict", "profile", "effect", "low", "high", "n", "chapter", "assertions"}
    assert all(set(row) == keys for row in verdicts)
    assert [row["id"] for row in verdicts] == list(numbers.claims())

    rows = read("status")
    assert all(set(r) == {"artefact", "profile", "done", "running", "missing"} for r in rows)
    assert {r["profile"] for r in rows} == set(PROFILES)


@pytest.mark.parametrize("words", [["status"], ["run", "--profile", "smoke", "--only", "table4"]])
def test_what_only_reads_records_imports_nothing_heavy(words, tmp_path):
    """Each of these takes a second or more."""
    store = Store(tmp_path)
    specs = artefacts()["table4"].runs(PROFILES["smoke"], PROFILES["smoke"].seeds)
    for spec in {spec.net for spec in specs} | set(specs):
        store.put(record_of(spec, "smoke"))
        if spec.leaves_weights:
            store.weights_path(spec).parent.mkdir(exist_ok=True)
            store.weights_path(spec).touch()
    code = (
        "import sys; sys.argv = ['snt', *sys.argv[1:]]; from snt_core.cli import main\n"
        "try: main()\n"
        "finally: print(*{'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules), end='.')"
    )
    env = {**os.environ, "SNT_STORE": str(tmp_path)}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=PROJECT, check=True)
    assert done.stdout.endswith("\n.")


def test_a_plan_says_what_would_run(tmp_path):
    done = snt("plan", "--profile", "smoke", "--only", "table4_ablation", SNT_STORE=str(tmp_path))
    assert done.returncode == 0
    assert "12 runs" in done.stdout
