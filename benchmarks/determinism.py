"""What may change about how a training is carried out, and what then changes of its result.

`python -m benchmarks.determinism` trains a ResNet-20 with SNT on scikit-learn's digits, each time
in a process of its own with one thing changed, and writes `determinism.json` beside this file: a
row for each change, against the first training. A few minutes; it needs no data set and no card.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.measure import machine
from snt_core.common.files import PROJECT, atomic_write
from snt_core.data.load import load
from snt_core.nets import build
from snt_core.runs.provenance import git_state
from snt_core.training import fit as training
from snt_core.training import ranks
from snt_core.training.engine import Engine
from snt_core.training.evaluate import evaluate
from snt_core.training.recipe import Recipe

RESULT = Path(__file__).with_name("determinism.json")
RECIPE = Recipe(epochs=2, batch_size=64, lr=3e-3, warmup_epochs=0.5, weight_decay=0.05)
# name -> what differs from the reference, which is fp32 with plain operators on one thread
CHANGES: dict[str, dict[str, Any]] = {
    "the same again": {},
    "beside another training, as with --workers 2": {"beside": True},
    "killed (SIGKILL) after 20 steps and resumed": {"kill_at": 20},
    "2 threads": {"threads": 2},
    "2 ranks of torchrun on CPUs": {"ranks": 2},
    "one-pass kernels in fp32": {"fused": True},
    "bf16 and one-pass kernels, the fast way": {"fused": True, "dtype": "bf16"},
    "the fast way again, against the fast way": {"fused": True, "dtype": "bf16"},
    "another seed": {"seed": 1},
}
FAST, AGAINST_FAST = list(CHANGES)[-3:-1]


@dataclass(frozen=True)
class Trained:
    """Weights and statistics by name, whether each test image was right, and top-1 in percent."""

    weights: dict[str, torch.Tensor]
    correct: torch.Tensor
    top1: float


def train(place: Path, change: dict[str, Any]) -> None:
    """Train in this process, and leave weights and test results in `place`."""
    torch.set_num_threads(change.get("threads", 1))
    kernels = change.get("fused", False)
    engine = Engine(device="cpu", dtype=change.get("dtype", "fp32"), fused=kernels)
    data = load("digits", 237)
    seed = change.get("seed", 0)
    model = build("resnet20", "snt", 10, seed)
    training.CHECK_EVERY, training.SAVE_EVERY = 10, 0.0  # a state at each look

    def progress(done: int, steps: int) -> None:
        if done >= change.get("kill_at", steps + 1):
            os.kill(os.getpid(), signal.SIGKILL)

    with ranks.joined():
        state = place / "state"
        if "resumed" in change:
            assert state.exists(), "nothing to resume"
        training.fit(model, data, RECIPE, engine, seed=seed, checkpoint=state, progress=progress)
        if ranks.is_main():
            torch.set_num_threads(1)  # training alone is compared
            tested = evaluate(model, data.test, data.facts)
            weights = {name: value.contiguous() for name, value in model.state_dict().items()}
            save_file({**weights, "_correct": tested.correct}, place / "net.safetensors")


def trained(change: dict[str, Any]) -> Trained:
    """Train in a process of its own and return what came out; one that is killed is run again."""
    with tempfile.TemporaryDirectory() as folder:
        running = _started(change, Path(folder))
        if "beside" in change:
            with tempfile.TemporaryDirectory() as other:
                _started({"seed": 1}, Path(other)).wait()
        code = running.wait()
        if "kill_at" in change:
            assert code == -signal.SIGKILL, code
            code = _started({"resumed": True}, Path(folder)).wait()
        if code:
            sys.exit(f"the training with {change} ended with {code}")
        found = load_file(Path(folder) / "net.safetensors")
    correct = found.pop("_correct")
    return Trained(found, correct, 100 * float(correct.double().mean()))


def _started(change: dict[str, Any], place: Path) -> subprocess.Popen[bytes]:
    launch = ["-m", "benchmarks.determinism", str(place), json.dumps(change)]
    if count := change.get("ranks"):
        several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        launch = several + launch
    env = {**os.environ, "OMP_NUM_THREADS": str(change.get("threads", 1))}
    return subprocess.Popen([sys.executable, *launch], cwd=PROJECT, env=env)


def compared(name: str, one: Trained, other: Trained) -> dict[str, Any]:
    """Return a row: is every bit equal, by how much do weights differ, and what becomes of top-1.

    `relative` is the length of the difference of all weights over the length of the first's.
    """
    # the running statistics of normalisations are in another unit than weights
    names = [n for n in one.weights if not n.endswith(("_mean", "_var", "_tracked"))]
    pairs = [(one.weights[n].double(), other.weights[n].double()) for n in names]
    a, b = (torch.cat([pair[i].flatten() for pair in pairs]) for i in (0, 1))
    return {
        "change": name,
        "bitwise": all(torch.equal(one.weights[n], other.weights[n]) for n in one.weights),
        "largest": float((a - b).abs().max()),
        "relative": float((a - b).norm() / a.norm()),
        "top1": [one.top1, other.top1],
        "images": len(one.correct),
        "images_that_differ": int((one.correct != other.correct).sum()),
    }


def main() -> None:
    """Measure every change and write the file."""
    reference, fast = trained({}), None
    rows = []
    for name, change in CHANGES.items():
        found = trained(change)
        against = fast if name == AGAINST_FAST and fast else reference
        fast = found if name == FAST else fast
        rows.append(compared(name, against, found))
        print(json.dumps(rows[-1]), flush=True)
    state = git_state()
    about = {"machine": machine(), "commit": state["commit"], "dirty": state["dirty"]}
    body = {**about, "steps": training.steps_of(RECIPE, load("digits", 237)), "rows": rows}
    atomic_write(RESULT, (json.dumps(body, indent=1) + "\n").encode())


if __name__ == "__main__":
    if len(sys.argv) == 3:
        train(Path(sys.argv[1]), json.loads(sys.argv[2]))
    else:
        main()
