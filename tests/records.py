"""Records as if nets of a given quality had been run, in the shapes that the runs write.

`result("table4", (0, 1), lambda_max={"adam": 105, "sam": 15}, after=70)` makes the records of an
artefact. Each column (see `DEFAULTS`) is one value for all nets or a dict by approach, in which
(approach, augment) and (approach, rho) go first. A tuple has a value for each seed; `lost` may be
a function of the sparsity.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from snt_core.paper.artefacts import artefact as artefact_module
from snt_core.paper.artefacts import claims
from snt_core.paper.profiles import PROFILES
from snt_core.paper.selection import Selection
from snt_core.paper.verdict import Verdict, judge
from snt_core.runs.record import Record
from snt_core.runs.spec import Net, Spec

N = 2000  # test images
STEP = 100 / N  # points that one of them counts
DEFAULTS: dict[str, Any] = {
    "top1": 80.0,  # dense, percent
    "before": 50.0,  # quantized
    "after": 70.0,  # and trained
    "rate": 0.05,  # of that training, per step, and what it gains on validation images
    "gain": 20.0,
    "lambda_max": 100.0,
    "converged": True,
    "lost": 20.0,  # points at sparsity 1, and at others in proportion to their square
    "prune": 10.0,  # points lost by fewer tokens at twice the speed, at others in proportion
    "merge": 20.0,
    "faster": 0.25,  # speed-up from one setting of tokens to the next
    "ffn": 0.5,  # variance explained at 26 % of the width
    "qkv": 0.6,
    "ratio": 5.0,  # widest to median channel
    "weights": 3.0,  # bits of entropy
    "activations": 2.0,
    "memory": {"adam": 100.0, "sam": 104.0, "snt": 102.0, "adam_eager": 150.0, "snt_eager": 180.0},
    "seconds": {"adam": 1.0, "sam": 2.0, "snt": 1.0, "adam_eager": 1.4, "snt_eager": 1.5},
}
PROVENANCE: dict[str, Any] = {
    "commit": "c" * 40,
    "dirty": False,
    "torch": "2.13.0",
    "device": "a processor",
    "started": "2026-11-25T10:00:00+00:00",
    "dtype": "fp32",
    "fused": True,
    "seconds": 1.0,
}
Get = Callable[..., Any]


def result(
    artefact: str,
    seeds: Sequence[int] = (0, 1),
    *,
    profile: str = "cifar",
    part: dict[str, Any] | None = None,
    **columns: Any,
) -> Selection:
    """Every run of an artefact, or of a `part` of it, with the quality in `columns`."""
    assert set(columns) <= set(DEFAULTS)
    chosen, part, seeds = PROFILES[profile], part or {}, tuple(seeds)
    specs = artefact_module(artefact).runs(chosen, seeds, **part)
    return Selection(
        artefact=artefact,
        profile=chosen,
        seeds=seeds,
        options=part,
        specs=specs,
        records=[record_of(spec, profile, **columns) for spec in specs],
    )


def judged(claim: str, seeds: Sequence[int] = (0, 1), profile: str = "cifar", **columns) -> Verdict:
    """Verdict on a claim whose nets are all as `columns` say."""
    return judge(claim, *evidence(claim, seeds, profile, **columns))


def evidence(
    claim: str, seeds: Sequence[int] = (0, 1), profile: str = "cifar", **columns: Any
) -> list[Selection]:
    """A selection for each part of a claim, as its chapter hands them over."""
    artefact, tests = claims()[claim]
    parts = {repr(test.part): dict(test.part) for test in tests.values()}.values()
    return [result(artefact, seeds, profile=profile, part=part, **columns) for part in parts]


def changed(made: Selection, chosen: Callable[[Spec], bool], **changes: Any) -> Selection:
    """With the fields of the chosen runs' records changed."""
    records = [replace(r, **changes) if chosen(r.spec) else r for r in made.records]
    return replace(made, records=records)


def without(made: Selection, chosen: Callable[[Spec], bool]) -> Selection:
    """Without the records of the chosen runs."""
    return replace(made, records=[r for r in made.records if not chosen(r.spec)])


def evaluation(top1: float, seed: int = 0) -> dict[str, Any]:
    """`top1` percent of N images right; a better net is right wherever a worse one is."""
    order = np.random.default_rng(seed).permutation(N)
    correct = order < round(N * top1 / 100)
    packed = base64.b64encode(np.packbits(correct).tobytes()).decode()
    return {"top1": 100 * float(correct.mean()), "loss": 1.0, "n": N, "correct": packed}


def curve(rate: float, end: float, gain: float = 20.0) -> list[dict[str, Any]]:
    """Validation accuracy that nears `end` exponentially, read every 5 of 100 steps."""
    return [
        {"step": s, "epoch": s / 100, "val_top1": end - gain * float(np.exp(-rate * s))}
        for s in range(0, 101, 5)
    ]


def record_of(spec: Spec, profile: str = "cifar", **columns: Any) -> Record:
    """The record of one run."""
    net = spec.net

    def get(name: str, approach: str = net.approach) -> Any:
        return _value(columns.get(name, DEFAULTS[name]), DEFAULTS[name], net, approach)

    return Record(
        spec=spec,
        profile=profile,
        status="done",
        metrics=_METRICS[spec.kind](spec, get),
        n_samples=getattr(spec, "n_samples", N),
        provenance=PROVENANCE,
    )


def _value(column: Any, default: Any, net: Net, approach: str) -> Any:
    if isinstance(column, dict):
        recipe = getattr(net, "recipe", None)
        keys = [(approach, recipe.augment), (approach, recipe.rho)] if recipe else []
        keys.append(approach)
        default = default[approach] if isinstance(default, dict) else default
        column = next((column[key] for key in keys if key in column), default)
    return column[net.seed] if isinstance(column, tuple) else column


def _train(spec: Spec, get: Get) -> dict[str, Any]:
    test = evaluation(get("top1"), spec.seed)
    return {"test": test, "history": [], "steps": 100, "parameters": 1000}


def _checkpoint(spec: Spec, get: Get) -> dict[str, Any]:
    return {"parameters": 1000, "local": False}


def _lambda_max(spec: Spec, get: Get) -> dict[str, Any]:
    good = {"residual": 0.001, "products": 9, "bn_mode": spec.bn_mode}
    return {"lambda_max": get("lambda_max"), "converged": get("converged"), **good}


def _sweep(spec: Spec, get: Get) -> dict[str, Any]:
    lost = get("lost")
    rows = []
    for s in (0.0, *spec.sparsities):
        drop = lost(s) if callable(lost) else lost * s**2
        rows.append({"sparsity": s, **evaluation(get("top1") - drop * (s > 0), spec.net.seed)})
    return {"sweep": rows}


def _quantized(spec: Spec, get: Get) -> dict[str, Any]:
    before = evaluation(get("before"), spec.net.seed)
    if spec.finetune is None:
        return {"before": before}
    after = evaluation(get("after"), spec.net.seed)
    readings = curve(get("rate"), get("after"), get("gain"))
    return {"before": before, "after": after, "curve": readings, "steps": 100}


def _tokens(spec: Spec, get: Get) -> dict[str, Any]:
    rows = []
    for i, setting in enumerate((None, *spec.settings)):
        speedup = 1 + i * get("faster")
        score = evaluation(get("top1") - get(spec.method) * (speedup - 1), spec.net.seed)
        rows.append({"setting": setting, "speedup": speedup, **score})
    return {"sweep": rows}


def _pca(spec: Spec, get: Get) -> dict[str, Any]:
    """Blocks on both sides of the mean that is asked for; the untrained net goes the other way."""

    def part(mean: float) -> dict[str, list[float]]:
        return {
            "mean": [0.25, 0.5, 0.75, 1.0],
            "at_share": [mean - 0.01, mean, mean + 0.01],
            "effective_rank": [100.0, 110.0, 120.0],
        }

    trained = {name: part(get(name)) for name in ("ffn", "qkv")}
    return {"trained": trained, "untrained": {"ffn": part(0.3), "qkv": part(0.2)}}


def _channels(spec: Spec, get: Get) -> dict[str, Any]:
    ratios = [get("ratio") / 2, get("ratio"), get("ratio") / 3]
    edges = {"low": [-1.0, -2.0], "high": [1.0, 3.0]}
    return {"ratios": ratios, "kurtosis": [3.0, 9.0, 4.0], "worst": "blocks.1", **edges}


def _entropy(spec: Spec, get: Get) -> dict[str, Any]:
    return {
        part: {"mean": get(part), "layers": {"head": get(part)}, "histogram": [1 / 16] * 16}
        for part in ("weights", "activations")
    }


def _density(spec: Spec, get: Get) -> dict[str, Any]:
    """Two probes, of which the second ended early."""
    nodes = [[-1.0, 2.0, get("lambda_max")], [0.0, 3.0]]
    weights = [[0.2, 0.5, 0.3], [0.5, 0.5]]
    return {"nodes": nodes, "weights": weights, "trace": 50.0, "trace_error": 2.0}


def _surface(spec: Spec, get: Get) -> dict[str, Any]:
    steps = [-1.0, 0.0, 1.0]
    return {"alphas": steps, "betas": steps, "losses": [[2.0, 1.0, 2.0]] * 3}


def _step_time(spec: Spec, get: Get) -> dict[str, Any]:
    median = {name: get("seconds", name) for name in DEFAULTS["seconds"]}
    return {
        "steps": {
            name: {
                "seconds": _rounds(t),
                "median": float(np.median(t)),
                "memory_mb": _rounds(get("memory", name)),
            }
            for name, t in median.items()
        }
    }


def _rounds(seconds: float | list[float]) -> list[float]:
    return seconds if isinstance(seconds, list) else [seconds] * 9


def _rise(spec: Spec, get: Get) -> dict[str, Any]:
    """The rise is what the quadratic term predicts, and grows with lambda_max."""
    names = [f"W{bits}" for bits in spec.weight_bits]
    names += [f"{sparsity:.0%} pruned" for sparsity in spec.sparsities]
    half = get("lambda_max") / 200
    point = {"loss": 1.0, "rise": half, "slope": 0.0, "quadratic": half, "squared_length": 1.0}
    return {"points": [{"compression": n, **point, "n_samples": spec.n_samples} for n in names]}


def _scale_free(spec: Spec, get: Get) -> dict[str, Any]:
    settled = {"residual": 0.001, "products": 9, "converged": True}
    traced = {"trace": 50.0, "trace_error": 2.0, "adaptive": 0.5}
    return {"normalised": get("lambda_max"), **settled, **traced}


def _rounding(spec: Spec, get: Get) -> dict[str, Any]:
    points = [{"weight_bits": None, "per_channel": False, **evaluation(get("top1"), spec.net.seed)}]
    for bits in spec.weight_bits:
        for per_channel in (False, True):
            rounded = evaluation(get("before"), spec.net.seed)
            points.append({"weight_bits": bits, "per_channel": per_channel, **rounded})
    return {"points": points}


def _control(spec: Spec, get: Get) -> dict[str, Any]:
    before, after = evaluation(get("top1"), spec.net.seed), evaluation(get("top1"), spec.net.seed)
    return {"before": before, "after": after, "curve": [], "steps": 100}


_METRICS = {
    "rise": _rise,
    "scale_free": _scale_free,
    "rounding": _rounding,
    "control": _control,
    "train": _train,
    "checkpoint": _checkpoint,
    "lambda_max": _lambda_max,
    "one_shot": _sweep,
    "imp": _sweep,
    "ptq": _quantized,
    "static": _quantized,
    "qat": _quantized,
    "tokens": _tokens,
    "pca": _pca,
    "channels": _channels,
    "entropy": _entropy,
    "density": _density,
    "surface": _surface,
    "step_time": _step_time,
}
