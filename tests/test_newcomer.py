"""Who has PyTorch and NumPy alone: what works, and what says in a line which extra it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from snt_core.common.files import PROJECT
from snt_core.fast.kernels import compiler

CORE = "torch,numpy"
EXTRA = 'pip install "snt-core[export]"'

# prints each section of the page as "title: ran", or with what it was refused for
SECTIONS = """
import os, sys, tempfile
import snt_core as snt
assert not {"torch", "numpy"} & set(sys.modules), "importing it must stay light"
assert not os.path.exists(os.path.join(os.path.dirname(snt.__file__), "..", "pyproject.toml"))
assert {"timm", "torchvision", "safetensors", "onnx", "scipy", "typer"} <= hidden
for name in snt.__all__:
    getattr(snt, name)
from tests.examples import LIBRARY, names, run, sections
os.chdir(tempfile.mkdtemp())
for title, examples in sections(LIBRARY).items():
    given = names()
    for example in examples:
        try:
            run(example.code, given)
            print(f"{title}: ran")
        except ImportError as error:
            print(f"{title}: {error}")
"""
COMMAND = "import sys; sys.argv = ['snt', 'claims']; from snt_core.entry import main; main()"

USER = """
import snt_core as snt
from torch import Tensor, nn


def flatness(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    found = snt.lambda_max(model, (images, labels), task=snt.Task())
    small: nn.Module = snt.quantize_static(model, images, weight_bits=8, act_bits=8)
    share: float = snt.coverage(small).share
    return found.value * share


def mistaken(model: nn.Module) -> str:
    snt.lamda_max(model)
    snt.prune_magnitude(model, "half")
    return snt.sparsity(model)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as a wheel installs it: without its project."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(PROJECT / "snt_core", folder / "snt_core")
    return folder


def python(*words: str, site: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in the folder that the package lies in, at home in a folder there."""
    paths = f"{site}{os.pathsep}{PROJECT}"  # the second for what is in `tests`
    env = {key: value for key, value in os.environ.items() if not key.startswith(("SNT_", "XDG_"))}
    env |= {"PYTHONPATH": paths, "MYPYPATH": str(site), "HOME": str(site / "home")}
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=site, env=env, timeout=300
    )


def newcomer(packages: str, code: str, site: Path) -> subprocess.CompletedProcess[str]:
    return python("-m", "tests.newcomer", packages, code, site=site)


def test_the_page_runs_or_names_the_extra(site):
    done = newcomer(CORE, SECTIONS, site)
    assert done.returncode == 0, done.stderr
    said: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        title, _, how = line.partition(": ")
        said.setdefault(title, []).append(how)
    assert said.pop("Out again") == [
        f"safetensors is missing: {EXTRA}",
        f"onnx is missing: {EXTRA}",
    ]
    assert said.pop("Fewer tokens") == ["No module named 'timm'"]  # of the reader's own import
    assert len(said) >= 9
    assert {how for hows in said.values() for how in hows} == {"ran"}
    compiled = site / "home" / ".cache" / "snt-core" / "native"
    assert compiled.is_dir() == (compiler() is not None), "kernels are kept in the user's cache"


@pytest.mark.parametrize(
    "packages", [CORE, f"{CORE},typer,rich", f"{CORE},pandas,scipy,typer,rich"]
)
def test_the_command_says_in_a_line_what_to_install(packages, site):
    done = newcomer(packages, COMMAND, site)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("snt: ")
    assert line.endswith(' is missing: pip install "snt-core[book]"')


def test_the_command_starts_where_that_is_said(site):
    about = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert about["project"]["scripts"] == {"snt": "snt_core.entry:main"}
    done = python("-c", COMMAND.replace("claims", "--version"), site=site)
    assert (done.returncode, done.stdout.split()[0]) == (0, "snt")


def test_vits_need_no_library_to_be_refused(site):
    """A model of a library that is not imported cannot be given."""
    code = "import snt_core as snt; from torch import nn; snt.merge_tokens(nn.Linear(2, 2), 1)"
    done = newcomer(CORE, code, site)
    last = done.stderr.splitlines()[-1]
    assert last == "ValueError: Linear is not a VisionTransformer of timm or torchvision"


@pytest.mark.slow
def test_types_are_seen_by_a_strict_checker(site):
    (site / "user.py").write_text(USER)
    options = ["--strict", "--config-file=", "--follow-imports=silent"]
    done = python("-m", "mypy", *options, "user.py", site=site)
    found = [line.split("error: ")[1] for line in done.stdout.splitlines() if "error: " in line]
    assert len(found) == 3, done.stdout
    assert found[0].startswith('Module has no attribute "lamda_max"')
    assert found[1].startswith('Argument 2 to "prune_magnitude" has incompatible type "str"')
    assert found[2].startswith('Incompatible return value type (got "float", expected "str")')
