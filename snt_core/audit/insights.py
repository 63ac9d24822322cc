"""Measurements of what lies behind a loss of accuracy: curvature, outliers, entropies, ranks."""

from __future__ import annotations

from typing import Any

from snt_core.audit import calls
from snt_core.audit.measure import Found, Measure, Row, Rows
from snt_core.audit.scene import Scene

PRODUCTS, TOLERANCE = 20, 0.02
PROBES, STEPS = 2, 8
ORTHOGONAL = 4e-8  # seconds a parameter and product, to keep Krylov vectors orthogonal
RANK_LIMIT = 2048  # the smaller side of a weight whose singular values are computed


def largest_eigenvalue(scene: Scene, *, normalised: bool) -> Measure:
    def run(scene: Scene, found: Found) -> tuple[Rows, int]:
        one = calls.lambda_max(
            scene, normalised=normalised, max_products=PRODUCTS, tolerance=TOLERANCE
        )
        keys = ("value", "residual", "products", "converged")
        return [{key: getattr(one, key) for key in keys}], scene.sizes.curve

    title = "lambda_max" + (", filters normalised" if normalised else "")
    cost = 0.7 * PRODUCTS * (_product(scene) + ORTHOGONAL * scene.weights)  # seldom all of them
    return Measure("lambda_max", {"normalised": normalised}, title, cost, run)


def _product(scene: Scene) -> float:
    return scene.sizes.product * scene.sizes.curve


def trace(scene: Scene) -> Measure:
    probes = 5

    def run(scene: Scene, found: Found) -> tuple[Rows, int]:
        one = calls.trace(scene, probes)
        row = {
            "value": one.value,
            "error": one.error,
            "probes": probes,
            "parameters": one.parameters,
        }
        return [row], scene.sizes.curve

    return Measure(
        "trace", {"probes": probes}, "trace of the Hessian", probes * _product(scene), run
    )


def density(scene: Scene) -> Measure:
    def run(scene: Scene, found: Found) -> tuple[Rows, int]:
        one = calls.density(scene, PROBES, STEPS)
        rows = [{"nodes": n, "weights": w} for n, w in zip(one.nodes, one.weights)]
        return rows, scene.sizes.curve

    settings = {"probes": PROBES, "steps": STEPS}
    cost = PROBES * STEPS * (_product(scene) + ORTHOGONAL * scene.weights)
    return Measure("density", settings, "spectrum", cost, run)


def outliers(scene: Scene) -> Measure:
    def run(scene: Scene, found: Found) -> tuple[Rows, int]:
        names = calls.layers(scene.model)
        try:
            return [
                _reach(n, r) for n, r in calls.ranges(scene, names).items()
            ], scene.sizes.calibrate
        except ValueError:  # one of them takes no part, say: each by itself then
            return [_alone(scene, name) for name in names], scene.sizes.calibrate

    cost = len(calls.layers(scene.model)) * scene.sizes.forward * scene.sizes.calibrate
    return Measure("outliers", {}, "outliers among what layers read", 0.2 * cost + 0.5, run)


def _alone(scene: Scene, name: str) -> Row:
    try:
        return _reach(name, calls.ranges(scene, [name])[name])
    except ValueError as error:
        return {"layer": name, "why": str(error)}


def _reach(name: str, ranges: Any) -> Row:
    ratio = calls.widest(ranges)
    worst = max((k for k in ranges.kurtosis if k == k), default=None)
    return {
        "layer": name,
        "widest to median": ratio if ratio < 1e300 else None,
        "kurtosis": worst,
    }


def entropies(scene: Scene) -> Measure:
    def run(scene: Scene, found: Found) -> tuple[Rows, int]:
        weights, activations = calls.entropies(scene, 4)
        rows = [
            {"layer": name, "weights": bits, "activations": activations.layers.get(name)}
            for name, bits in weights.layers.items()
        ]
        rows.append({"layer": "", "weights": weights.mean, "activations": activations.mean})
        return rows, scene.sizes.calibrate

    cost = 4 * scene.sizes.forward * scene.sizes.calibrate + 0.5
    return Measure("entropy", {"bits": 4}, "entropy of 4-bit codes", cost, run)


def ranks(scene: Scene) -> Measure:
    known = calls.weights(scene.plain)

    def sides(weight: Any) -> tuple[int, int]:
        first, second = weight.flatten(1).shape
        return min(first, second), max(first, second)

    def run(scene: Scene, found: Found) -> tuple[Rows, int]:
        return [
            {"layer": name, "rank share": calls.rank(weight)}
            for name, weight in calls.weights(scene.plain).items()
            if 1 < sides(weight)[0] <= RANK_LIMIT and weight.any()
        ], 0

    counted = [sides(weight) for weight in known.values()]
    cost = sum(8e-10 * a * a * b for a, b in counted if a <= RANK_LIMIT) + 0.1
    return Measure("rank", {}, "effective ranks of the weights", cost, run)
