"""One bit of a stored file is another: in each kind of file, at places drawn at random."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import torch

from snt_core.book import build
from snt_core.common.errors import UserError
from snt_core.data import load as data
from snt_core.data.facts import FACTS, Facts
from snt_core.nets import build as build_net
from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import training
from snt_core.runs.kinds.imp import IMPSpec, _Rounds
from snt_core.runs.kinds.lambda_max import LambdaMaxSpec
from snt_core.runs.plan import pending
from snt_core.runs.record import Record
from snt_core.runs.store import Store
from snt_core.training.recipe import Recipe
from snt_core.training.state import State
from tests.faults.catalogue import Fault, Row, Tally
from tests.records import record_of

NET = training(PROFILES["smoke"], "cifar100", "adam", 0)
SHARP = LambdaMaxSpec(parent=NET, n_samples=8)
ROUNDS = IMPSpec(parent=NET, sparsities=(0.5,), finetune=Recipe(epochs=1, lr=0.1))
OTHERS = [LambdaMaxSpec(parent=NET, n_samples=n) for n in (16, 32)]


def flipped(path: Path, tries: int) -> Iterator[int]:
    """Flip one bit of the file, again and again, from its whole content; yields the place."""
    whole = path.read_bytes()
    draw = random.Random(path.name)
    for _ in range(tries):
        place = draw.randrange(len(whole))
        content = bytearray(whole)
        content[place] ^= 1 << draw.randrange(8)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        yield place


def with_digest(record: Record, digest: str | None) -> Record:
    return replace(record, provenance={**record.provenance, "weights_sha256": digest})


def net_in(folder: Path, *, recorded: bool) -> Store:
    """A store with a net, whose digest stands in its record or, as of the first ones, beside it."""
    store = Store(folder)
    store.put_weights(NET, build_net("resnet20", "base", 10, 0).state_dict())
    digest = store.weights_digest(NET) if recorded else None
    store.put(with_digest(record_of(NET, "smoke"), digest))
    return store


def weights(folder: Path, tries: int, *, recorded: bool) -> Tally:
    """Used all the same, or not trained again by the command that needs them."""
    store, lost, wrong = net_in(folder, recorded=recorded), 0, 0
    for _ in flipped(store.weights_path(NET), tries):
        try:
            Store(folder).get_weights(NET)
            wrong += 1
        except UserError:
            lost += pending([SHARP], Store(folder)) != [NET, SHARP]
    return Tally(tries, lost, wrong)


def state(folder: Path, tries: int) -> Tally:
    """Gone on from, or in the way of the run that starts anew."""
    store, lost, wrong = Store(folder), 0, 0
    net, path = build_net("resnet20", "base", 10, 0), store.run_dir(NET) / "checkpoint.pt"
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    fresh = partial(State, torch.zeros(()), numerics="fp32")
    fresh().save(path, net, optimizer, 1.0)
    for _ in flipped(path, tries):
        try:
            fresh().restore(path, net, optimizer)
            wrong += 1
        except UserError:
            store.require_begun(NET)
            lost += store.is_begun(NET)
    return Tally(tries, lost, wrong)


def rounds(folder: Path, tries: int) -> Tally:
    """Gone on from, or in the way; a later round's state without them leads nowhere."""
    store, lost, wrong = Store(folder), 0, 0
    net, place = build_net("resnet20", "base", 10, 0), store.run_dir(ROUNDS)
    path, later = place / "checkpoint-rounds.safetensors", place / "checkpoint-1.pt"
    _Rounds(path).keep({"sparsity": 0.0}, net)
    for _ in flipped(path, tries):
        later.write_bytes(b"the state of a round under way")
        store.require_begun(ROUNDS)
        wrong += path.exists()
        lost += store.is_begun(ROUNDS)
    return Tally(tries, lost, wrong)


def sessions(folder: Path, tries: int) -> Tally:
    """Told as the processes before this one."""
    store, wrong = Store(folder), 0
    store.begin_session(NET, {"device": "a card", "started": "2026-11-26T09:30:00+00:00"})
    (store.run_dir(NET) / "checkpoint.pt").touch()
    for _ in flipped(store.run_dir(NET) / "sessions.json", tries):
        wrong += store.begin_session(NET, {"device": "another"}) != []
    return Tally(tries, 0, wrong)


def record(folder: Path, tries: int) -> Tally:
    """Read with another number, or in the way of the others."""
    store, lost, wrong = Store(folder), 0, 0
    made = record_of(SHARP, "smoke")
    path = store.put(made)
    others = [record_of(spec, "smoke") for spec in OTHERS]
    for other in others:
        store.put(other)
    for _ in flipped(path, tries):
        found = {one.name: one for one in Store(folder).records()}
        # 1e-3 and 1E-3 are one number: such a flip changes nothing
        wrong += found.pop(made.name, made) != made
        lost += list(found.values()) != sorted(others, key=lambda one: one.name)
        lost += pending([SHARP], Store(folder))[-1:] not in ([SHARP], [])
    return Tally(tries, lost, wrong)


def decoded(folder: Path, tries: int, spoil: Callable[..., Any] | None = None) -> Tally:
    """Used, or not decoded again. With `spoil` the images or labels are changed and saved anew."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(70) % 10
    mean = tuple(images[:50].mean(axis=(0, 1, 2)) / 255)
    facts = Facts(num_classes=10, train=50, test=20, mean=mean, std=(0.29, 0.29, 0.29))
    parts = {"train": (images[:50], labels[:50]), "test": (images[50:], labels[50:])}
    places = {"SNT_DATA_DIR": str(folder / "sets"), "SNT_CACHE_DIR": str(folder)}
    with (
        mock.patch.dict(FACTS, cifar10=facts),
        mock.patch.dict("os.environ", places),
        mock.patch("snt_core.data.cifar.read", return_value=parts),
    ):
        true, path = data.load("cifar10", 10), folder / "cifar10.safetensors"
        lost = wrong = 0
        for _ in spoilt(path, tries, spoil) if spoil else flipped(path, tries):
            try:
                found = data.load("cifar10", 10)
            except Exception:
                lost += 1
                continue
            for part in ("train", "val", "test"):
                ours, theirs = getattr(found, part), getattr(true, part)
                same = torch.equal(ours.images, theirs.images)
                wrong += not (same and torch.equal(ours.labels, theirs.labels))
    return Tally(tries, lost, wrong)


def spoilt(path: Path, tries: int, spoil: Callable[..., Any]) -> Iterator[None]:
    """Save the cache again with its own digest and other content."""
    from safetensors import safe_open
    from safetensors.torch import load, save

    whole = path.read_bytes()
    with safe_open(path, framework="pt") as file:
        meta = file.metadata()
    for _ in range(tries):
        tensors = load(whole)
        spoil(tensors)
        path.write_bytes(save(tensors, metadata=meta))
        yield


def zeroed(tensors: dict[str, torch.Tensor]) -> None:
    tensors["test_images"].zero_()


def rolled(tensors: dict[str, torch.Tensor]) -> None:
    tensors["test_labels"] = tensors["test_labels"].roll(1)


def chapter(folder: Path, tries: int) -> Tally:
    """Shown as it is."""
    path, key = executed(folder), "a" * 64
    return Tally(tries, 0, sum(build._stored_key(path) == key for _ in flipped(path, tries)))


def chapter_key(folder: Path, tries: int) -> Tally:
    """In the way of the chapter, which is whole and may be shown or executed again."""
    path, lost = executed(folder), 0
    for _ in flipped(path.with_suffix(".key"), tries):
        try:
            build._stored_key(path)
        except Exception:
            lost += 1
    return Tally(tries, lost, 0)


def executed(folder: Path) -> Path:
    cells = [{"cell_type": "code", "outputs": [{"text": [f"{i / 7}"]}]} for i in range(500)]
    path = folder / "table9_small.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    build.keep_key(path, "a" * 64)
    return path


FAULTS = [
    Fault("bit of weights, digest in the record", partial(weights, recorded=True)),
    Fault("bit of weights, digest beside them", partial(weights, recorded=False)),
    Fault("bit of a resume state", state),
    Fault("bit of finished rounds", rounds),
    Fault("bit of the sessions of a run", sessions),
    Fault("bit of a record", record),
    Fault("bit of decoded images", decoded),
    Fault("decoded test images zeroed", partial(decoded, spoil=zeroed)),
    Fault("decoded test labels rolled", partial(decoded, spoil=rolled)),
    Fault("bit of an executed chapter", chapter),
    Fault("bit of a chapter's key", chapter_key),
]


def rows(tries: int) -> Iterator[Row]:
    """Yield a row for each kind of file."""
    for fault in FAULTS:
        with TemporaryDirectory() as folder:
            found = fault.inject(Path(folder), tries)
        yield Row(fault.name, found.tries, found.lost, found.wrong)
