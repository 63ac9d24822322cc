"""The command line: wrong input is one line and exit code 2, before any work."""

import json
import os
import subprocess
import sys

import pytest

from snt_core.book.chapters import chapters
from snt_core.common.files import PROJECT
from snt_core.paper import numbers
from snt_core.paper.artefacts import artefacts
from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import training
from snt_core.runs.record import Record
from snt_core.runs.store import Store


def snt(*words: str, **env: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from snt_core.cli import main; main()", *words]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **env}, cwd=PROJECT, check=False
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["chapter", "table4", "-p", "profil=smoke"], "did you mean 'profile'"),
        (["chapter", "table4", "-p", "seeds=abc"], "seeds=0,1,2"),
        (["chapter", "table4", "-p", "profile=smok"], "did you mean 'smoke'"),
        (["chapter", "table4", "-p", "profile"], "key=value"),
        (["chapter", "tabel4"], "did you mean 'table4"),
        (["run", "--profile", "cifr"], "did you mean 'cifar'"),
        (["run", "--profile", "smoke", "--only", "tabl4"], "did you mean 'table4'"),
        (["run", "--profile", "smoke", "--seeds", "abc"], "whole numbers"),
        (["plan", "--profile", "smoke", "--seeds", "-1"], "whole numbers"),
        (["book", "--profile", "smokee"], "did you mean 'smoke'"),
        (["verify"], "--sample"),
        (["rn"], "Did you mean 'run'"),
        (["run", "--profil", "smoke"], "--profile"),
        (["run"], "Missing"),
        (["run", "--profile", "smoke", "--workers", "x"], "integer"),
        (["chapter", "table4", "-p", "weight_bits=9"], "weight_bits is 9"),
        (["chapter", "figure5", "-p", "sparsities=2"], "sparsity is 2"),
        (["chapter", "table4", "-p", "seeds=-1"], "seed is -1"),
        (["verify", "ffffffffffff"], "no record"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_input_is_one_line_and_exit_code_2(words, says, tmp_path):
    done = snt(*words, SNT_STORE=str(tmp_path))
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_missing_cifar_is_one_line_and_exit_code_2(tmp_path):
    empty = {k: str(tmp_path / k) for k in ("SNT_STORE", "SNT_DATA_DIR", "SNT_CACHE_DIR")}
    blocked = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    words = ("run", "--profile", "cifar", "--only", "table4", "--seeds", "0")
    done = snt(*words, **empty, **blocked)
    assert done.returncode == 2
    assert "SNT_DATA_DIR" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "SNT_STORE").exists()


def test_an_edited_record_is_one_line_and_exit_code_2(tmp_path):
    net = training(PROFILES["smoke"], "cifar100", "adam", 0)
    record = Record(spec=net, profile="smoke", status="done", metrics={"top1": 50}, n_samples=1)
    path = Store(tmp_path).put(record)
    path.write_text(path.read_text().replace("50", "99"))
    done = snt("plan", "--profile", "smoke", SNT_STORE=str(tmp_path))
    assert done.returncode == 2
    assert path.name in done.stderr
    assert "checksum" in done.stderr
    assert done.stderr.count("\n") == 1


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
        facts = {"profile": "smoke", "metrics": {}, "provenance": {"seconds": 1.0}}
        store.put(Record(spec=spec, status="done", n_samples=1, **facts))
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
