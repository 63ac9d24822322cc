"""Two processes under torchrun take the steps that one process would.

torchrun starts this very file; what each rank found lies in files for the tests to compare.
"""

import contextlib
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from snt_core.common.errors import UserError
from snt_core.data.load import load
from snt_core.methods.snt.transform import SNTActivation
from snt_core.training import fit as train
from snt_core.training import ranks
from snt_core.training.engine import Engine
from snt_core.training.recipe import Recipe
from tests.sharing import made_once

EXACT = Engine(device="cpu", dtype="fp32", fused=False)
ADAM = Recipe(epochs=2, batch_size=16, lr=3e-3, weight_decay=0.05, augment="trivial-augment")
RECIPES = {"adam": ADAM, "sam": dataclasses.replace(ADAM, optimizer="sam", rho=0.1)}


def digits():
    """Four batches of 16 and a ragged rest."""
    whole = load("digits", 180)
    return dataclasses.replace(whole, train=whole.train[:70], val=whole.val[:40])


def net(*norm: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    stem = nn.Conv2d(3, 8, 5, 4)
    return nn.Sequential(stem, *norm, SNTActivation(8), nn.Flatten(), nn.Linear(8 * 49, 10))


def trained(name: str, *norm: nn.Module, **options):
    model, steps = net(*norm), []
    done = train.fit(
        model, digits(), RECIPES[name], EXACT, seed=0, after_step=steps.append, **options
    )
    return {"weights": model.state_dict(), "history": done.history, "steps": steps}


class Killed(Exception):
    pass


def killed_then_resumed(folder: Path):
    """Every rank stops at step 6; of their reports only rank 0's was heard."""
    train.CHECK_EVERY, train.SAVE_EVERY = 2, 0.0
    reports = []
    options = {"checkpoint": folder / "state.pt", "progress": lambda done, _: reports.append(done)}

    def kill(done: int) -> None:
        if done == 6:
            raise Killed

    with contextlib.suppress(Killed):
        train.fit(net(), digits(), RECIPES["sam"], EXACT, seed=0, after_step=kill, **options)
    return {**trained("sam", **options), "reports": reports}


def diverges() -> str:
    """Rank 1 alone sees an image that no net survives."""
    data = digits()
    model = net()
    if not ranks.is_main():
        model[0].register_forward_hook(lambda module, inputs, output: output * torch.inf)
    try:
        train.fit(model, data, ADAM, EXACT, seed=0)
    except train.Diverged as error:
        return str(error)
    return "no"


def on_a_rank(folder: Path) -> None:
    torch.set_num_threads(1)
    with ranks.joined():
        rank = torch.distributed.get_rank()
        numbers = [torch.full((2, 3), float(rank)), torch.tensor(10.0 * rank)]
        ranks.average(numbers)
        found = {
            "count": ranks.count(),
            "main": ranks.is_main(),
            "share": ranks.share(16),
            "told": ranks.from_main(lambda: ("rank", rank)),
            "mean": numbers,
            "adam": trained("adam"),
            "sam": trained("sam"),
            "diverged": diverges(),
            "norm": trained("adam", nn.BatchNorm2d(8)),
            "resumed": killed_then_resumed(folder),
        }
        try:
            ranks.share(15)
        except UserError as error:
            found["odd"] = str(error)
    torch.save(found, folder / f"rank{rank}.pt")


def under_torchrun(folder: Path) -> None:
    """Let two ranks write into `folder` what they found."""
    folder.mkdir()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node=2", __file__, str(folder)],
        env=os.environ
        | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def both(shared):
    """What rank 0 and rank 1 found."""
    folder = made_once(shared / "ranks", under_torchrun)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_ranks_know_their_place(both):
    assert [rank["count"] for rank in both] == [2, 2]
    assert [rank["main"] for rank in both] == [True, False]
    assert [rank["share"] for rank in both] == [slice(0, 8), slice(8, 16)]
    assert [rank["told"] for rank in both] == [("rank", 0)] * 2
    assert {rank["odd"] for rank in both} == {"batches of 15 images do not divide among 2 ranks"}
    for rank in both:
        assert torch.equal(rank["mean"][0], torch.full((2, 3), 0.5))
        assert rank["mean"][1].item() == 5.0


@pytest.mark.parametrize("name", RECIPES)
def test_two_ranks_equal_one_process(both, name):
    alone = trained(name)
    for rank in both:
        assert rank[name]["steps"] == alone["steps"] == list(range(1, 9))
        for key, expected in alone["weights"].items():
            torch.testing.assert_close(rank[name]["weights"][key], expected, rtol=1e-4, atol=1e-5)
        for found, expected in zip(rank[name]["history"], alone["history"], strict=True):
            assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["adam", "sam", "norm", "resumed"])
def test_ranks_end_with_the_same_bits(both, name):
    one, two = (rank[name] for rank in both)
    assert one["history"] == two["history"]
    for key, tensor in one["weights"].items():
        assert torch.equal(tensor, two["weights"][key]), key


def test_resumed_ranks_equal_uninterrupted_ones_bitwise(both):
    for rank in both:
        assert rank["resumed"]["steps"] == [5, 6, 7, 8]
        assert rank["resumed"]["history"] == rank["sam"]["history"]
        for key, tensor in rank["sam"]["weights"].items():
            assert torch.equal(tensor, rank["resumed"]["weights"][key]), key
    assert both[0]["resumed"]["reports"] == [2, 4, 6, 8]
    assert both[1]["resumed"]["reports"] == []


def test_a_run_that_diverges_on_one_rank_ends_on_all(both):
    assert [rank["diverged"] for rank in both] == ["the loss is not finite at step 4"] * 2


def test_outside_of_torchrun_nothing_happens():
    with ranks.joined():
        assert ranks.count() == 1
        assert ranks.is_main()
        assert ranks.share(15) == slice(0, 15)
        assert ranks.from_main(lambda: 7) == 7
        number = torch.tensor(3.0)
        ranks.average([number])
        assert number.item() == 3.0
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("half", [{}, {"RANK": "0"}, {"RANK": "0", "WORLD_SIZE": "abc"}])
def test_half_of_what_torchrun_sets_is_told(half, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", **half}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="cannot be joined"), ranks.joined():
        pass


if __name__ == "__main__":
    on_a_rank(Path(sys.argv[1]))
