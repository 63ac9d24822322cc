"""What an audit measures, in the order of worth: a small budget gets the most telling first."""

from __future__ import annotations

import statistics

import torch

from snt_core.audit import calls, insights, layerwise
from snt_core.audit.first_look import FirstLook
from snt_core.audit.measure import Found, Measure, Rows
from snt_core.audit.scene import Scene, answer, count_of, score
from snt_core.common.timing import seconds_of
from snt_core.methods.tasks.feed import moved

SPARSITIES = (0.5, 0.7, 0.3, 0.9, 0.8, 0.6)


def planned(scene: Scene, look: FirstLook, lose: float) -> list[Measure]:
    """Return everything that can be measured of a net, the most telling first."""
    can = "compression" not in look.unsupported
    curved = "curvature" not in look.unsupported
    every: list[Measure] = [_float(scene)]
    if can:
        every += [_quantized(scene, 8, 0, True), _quantized(scene, 4, 0, True)]
        every += [_pruned(scene, 0.5), _quantized(scene, 8, 8, True, "minmax"), _packed(scene)]
        every += [_quantized(scene, bits, 0, False) for bits in (4, 8)]
    if curved:
        every += [insights.largest_eigenvalue(scene, normalised=n) for n in (False, True)]
        every += [insights.trace(scene), insights.density(scene)]
    if can:
        every += [insights.outliers(scene), *_layers(scene, "W4"), _mix(scene, lose)]
        every += [_pruned(scene, s) for s in SPARSITIES[1:]]
    if look.is_vit:
        every += [_tokens(scene, "merge", r) for r in (4, 8, 16)]
        every += [_tokens(scene, "prune", k) for k in (0.9, 0.7, 0.5)]
    if can:
        every += [_latency(scene), _integers(scene), insights.entropies(scene)]
        finds: tuple[calls.Rule, ...] = ("percentile", "mse", "minmax")
        rules = [(o, c) for o in finds for c in (True, False)]
        every += [_quantized(scene, 8, 8, c, o) for o, c in rules if (o, c) != ("minmax", True)]
        every += [*_layers(scene, "50 %"), insights.ranks(scene)]
    return every


def _once(scene: Scene) -> float:
    return scene.sizes.forward * scene.sizes.evaluate


def _float(scene: Scene) -> Measure:
    def run(scene: Scene, found: Found) -> tuple[Rows, int]:
        n = scene.sizes.evaluate
        few = score(scene.model, scene, scene.sizes.layer)  # what single layers are compared with
        return [score(scene.model, scene, n).row(part="all"), few.row(part="layer")], n

    return Measure("float", {}, "the net itself", 1.3 * _once(scene), run)


def _quantized(
    scene: Scene, weight_bits: int, act_bits: int, per_channel: bool, observer: calls.Rule = ""
) -> Measure:
    settings = {
        "weight_bits": weight_bits,
        "act_bits": act_bits,
        "per_channel": per_channel,
        "observer": observer,
    }

    def run(scene: Scene, found: Found) -> tuple[Rows, int]:
        model = calls.quantized(scene, weight_bits, act_bits, per_channel, observer)
        return [score(model, scene, scene.sizes.evaluate).row()], scene.sizes.evaluate

    title = f"W{weight_bits}{f'A{act_bits}' if act_bits else ''}"
    title += f", a scale for each {'channel' if per_channel else 'tensor'}"
    title += f", ranges by {observer}" if observer else ""
    passes = {"": 1.0, "minmax": 2.0, "percentile": 2.5, "mse": 3.0}[observer]
    return Measure("quantize", settings, title, passes * _once(scene) + 0.3, run)


def _pruned(scene: Scene, sparsity: float) -> Measure:
    def run(scene: Scene, found: Found) -> tuple[Rows, int]:
        model = calls.pruned(scene, sparsity)
        return [score(model, scene, scene.sizes.evaluate).row()], scene.sizes.evaluate

    cost = _once(scene) + 3e-7 * scene.weights  # to sort the weights
    return Measure("prune", {"sparsity": sparsity}, f"{sparsity:.0%} pruned", cost, run)


def _tokens(scene: Scene, method: str, setting: float) -> Measure:
    def run(scene: Scene, found: Found) -> tuple[Rows, int]:
        from snt_core.methods.compress.speed import speedup

        model = calls.fewer_tokens(scene, method, setting)
        few = scene.inputs[: min(8, len(scene.inputs))].to(scene.device)
        faster = speedup(scene.model, model, few, repeats=3)
        n = scene.sizes.evaluate
        return [score(model, scene, n).row(speedup=faster)], n

    title = (
        f"{setting} tokens merged a block" if method == "merge" else f"{setting:.0%} of tokens kept"
    )
    cost = _once(scene) + 64 * scene.sizes.forward
    return Measure("tokens", {"method": method, "setting": setting}, title, cost, run)


def _layers(scene: Scene, treatment: str) -> list[Measure]:
    def of(name: str) -> Measure:
        def run(scene: Scene, found: Found) -> tuple[Rows, int]:
            return layerwise.one_layer(scene, name, treatment), scene.sizes.layer

        cost = scene.sizes.forward * scene.sizes.layer
        settings = {"layer": name, "treatment": treatment}
        return Measure("layer", settings, f"{name} alone at {treatment}", cost, run)

    known = calls.weights(scene.plain)
    return [of(name) for name in sorted(known, key=lambda n: -known[n].numel())]


def rises_of(found: Found, treatment: str = "W4") -> dict[str, float]:
    """Return how much the loss rises with each layer alone treated so, as far as it is known."""
    base = next((row for row in found.get("float", ()) if row["part"] == "layer"), None)
    if base is None or base["loss"] is None:
        return {}
    return {
        row["layer"]: (1e30 if row["loss"] is None else row["loss"] - base["loss"])
        for rows in found.values()
        for row in rows
        if row.get("treatment") == treatment
    }


def _mix(scene: Scene, lose: float) -> Measure:
    def run(scene: Scene, found: Found) -> tuple[Rows, int]:
        rises = rises_of(found)
        if not rises:
            raise ValueError("no layer was tried alone yet")
        rows = layerwise.cheapest_mix(scene, rises, lose)
        return rows, scene.sizes.evaluate

    tries = 3 + len(calls.weights(scene.plain)).bit_length()
    cost = tries * _once(scene) / 2 + 1e-6 * scene.weights
    return Measure("mix", {"lose": lose}, "the cheapest mix of 8 and 4 bits", cost, run)


def _packed(scene: Scene) -> Measure:
    def run(scene: Scene, found: Found) -> tuple[Rows, int]:
        rows = [{"what": "float", "bytes": calls.packed_bytes(scene.plain)}]
        for bits in (8, 4):
            small = calls.quantized(scene, bits, 0, True, "")
            rows.append({"what": f"W{bits}", "bytes": calls.packed_bytes(small)})
        try:
            half = calls.packed_bytes(calls.pruned(scene, 0.5))
        except ValueError:  # a layer in which pruned weights would not stay zero
            return rows, 0
        return [*rows, {"what": "50 % pruned", "bytes": half}], 0

    return Measure("packed", {}, "bytes of the packed file", 0.3 + 2e-7 * scene.weights, run)


EXPORT = 12.0  # seconds that two models take to become ONNX, whatever their size


def _latency(scene: Scene) -> Measure:
    def run(scene: Scene, found: Found) -> tuple[Rows, int]:
        return [
            {"batch": n, "engine": "torch", "milliseconds": 1000 * _median_seconds(scene, n)}
            for n in sorted({count_of(scene.chunks(k)[0]) for k in (1, min(8, len(scene.inputs)))})
        ], 0

    return Measure("latency", {}, "milliseconds of a forward pass", 80 * scene.sizes.forward, run)


def _integers(scene: Scene) -> Measure:
    takes_tensors = getattr(scene.task, "forward", None) is None

    def run(scene: Scene, found: Found) -> tuple[Rows, int]:
        if not takes_tensors:
            why = "the task calls the net in a way of its own, which engines do not know"
            return [{"why": why}], 0
        try:
            return [calls.latency(scene, 1)], 0
        except ValueError as error:
            return [{"why": str(error)}], 0

    cost = 30 * scene.sizes.forward + EXPORT * takes_tensors + 1e-7 * scene.weights
    title = "milliseconds of a forward pass in W8A8"
    return Measure("latency", {"engines": True}, title, cost, run)


def _median_seconds(scene: Scene, n: int) -> float:
    device = torch.device(scene.device)
    batch = moved(scene.chunks(n)[0], device)
    with torch.no_grad():
        seconds = [
            seconds_of(lambda: answer(scene.model, scene.task, batch), device) for _ in range(8)
        ]
    return statistics.median(seconds[1:])  # the first warms up
