"""The one place where an audit calls `snt_core.methods`: nothing else knows their arguments."""

from __future__ import annotations

import copy
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from snt_core.audit.scene import Scene
from snt_core.methods import compressible

# methods that take `data` and a `task`, instead of images and labels
_WITH_TASK = importlib.util.find_spec("snt_core.methods.task") is not None


def _data(scene: Scene, n: int) -> tuple[Any, ...]:
    inputs, targets = scene.part(n)
    if _WITH_TASK:
        return (scene.chunks(n) if scene.raw else (inputs, targets),)
    if scene.task is not None:
        raise ValueError("a task of one's own is not served by this version; leave --task out")
    return inputs, targets


def _inputs(scene: Scene) -> Any:
    """Return what activations are looked at on: inputs alone, or batches that a task takes."""
    n = scene.sizes.calibrate
    return scene.chunks(n) if scene.raw else scene.part(n)[0]


def _task(scene: Scene) -> dict[str, Any]:
    return {"task": scene.task} if _WITH_TASK and scene.task is not None else {}


# compression ----------------------------------------------------------------------------------


def quantized(
    scene: Scene, weight_bits: int, act_bits: int, per_channel: bool, observer: str
) -> nn.Module:
    """Return the net with weights (and activations, if `act_bits`) rounded."""
    from snt_core.methods.compress.activations import quantize_static
    from snt_core.methods.compress.quantize import quantize_weights

    if not act_bits:
        return quantize_weights(scene.model, weight_bits, per_channel=per_channel)
    static: Any = quantize_static
    inputs = _inputs(scene)
    options = {"weight_bits": weight_bits, "act_bits": act_bits, "observer": observer}
    made: nn.Module = static(
        scene.model, inputs, **options, per_channel=per_channel, batch_size=32, **_task(scene)
    )
    return made


def pruned(scene: Scene, sparsity: float) -> nn.Module:
    """Return the net without its smallest weights, by one threshold for all layers."""
    from snt_core.methods.compress.prune import prune_magnitude

    return prune_magnitude(scene.model, sparsity)


def fewer_tokens(scene: Scene, method: str, setting: float) -> nn.Module:
    """Return the net with tokens merged or pruned. ValueError where it is not timm's ViT."""
    from snt_core.methods.compress.token_vit import merge_tokens, prune_tokens

    if method == "merge":
        return merge_tokens(scene.model, int(setting))
    return prune_tokens(scene.model, setting)


def layers(model: nn.Module) -> dict[str, Any]:
    """Return the convolutions and linear layers that can be treated alone, by name.

    Not one whose weight is computed anew in each pass (weight normalisation): nothing can be
    written into that.
    """
    known = compressible.layers(model)
    return {name: layer for name, layer in known.items() if "weight" in layer._parameters}


def rounded(layer: nn.Module, bits: int) -> Tensor:
    """Return a layer's weight as the whole net's would be rounded, a scale for each output."""
    from snt_core.methods.compress.quantize import quantize_weights

    alone: Any = quantize_weights(nn.Sequential(copy.deepcopy(layer)), bits, per_channel=True)
    weight: Tensor = alone[0].weight.detach()
    return weight


def thinned(weight: Tensor, sparsity: float) -> Tensor:
    """Return a weight without its smallest entries."""
    flat = weight.detach().abs().flatten()
    gone = flat.topk(round(sparsity * len(flat)), largest=False, sorted=False).indices
    kept = torch.ones_like(flat)
    kept[gone] = 0
    return weight.detach() * kept.view_as(weight)


@contextmanager
def changed(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """Give some layers of a model other weights within the block, without a copy of the net."""
    known = layers(model)
    before = {name: known[name].weight.detach().clone() for name in weights}
    with torch.no_grad():
        try:
            for name, weight in weights.items():
                known[name].weight.copy_(weight)
            yield model
        finally:
            for name, weight in before.items():
                known[name].weight.copy_(weight)


def coverage(model: nn.Module) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return which parameters compression touches, and which it does not with the reason."""
    if importlib.util.find_spec("snt_core.methods.coverage") is not None:
        return _said_coverage(model)
    owned = {id(layer.weight) for layer in layers(model).values()}
    touched, untouched = [], []
    owners = {id(p): type(m).__name__ for m in model.modules() for p in m.parameters(recurse=False)}
    for name, p in model.named_parameters():
        row = {"name": name, "weights": p.numel()}
        if id(p) in owned:
            touched.append(row)
        else:
            untouched.append({**row, "why": _why(name, p, owners.get(id(p), "?"))})
    return touched, untouched


def _said_coverage(model: nn.Module) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    known: Any = importlib.import_module("snt_core.methods.coverage")
    said = known.coverage(model)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    touched = [{"name": name, "weights": sizes.get(name, 0)} for name in said.touched]
    untouched = [
        {"name": name, "weights": sizes.get(name, 0), "why": why}
        for name, why in said.untouched.items()
    ]
    return touched, untouched


def _why(name: str, p: nn.Parameter, owner: str) -> str:
    if name.endswith("bias"):
        return "a bias"
    if "Norm" in owner:
        return f"normalisation ({owner})"
    if owner == "MultiheadAttention":
        return "packed inside nn.MultiheadAttention; use separate linear layers to compress it"
    if p.ndim < 2:
        return f"a parameter of one axis ({owner})"
    return f"{owner} is no convolution or linear layer"


def packed_bytes(model: nn.Module, bits: Mapping[str, int]) -> int:
    """Return the bytes of a safetensors file, the layers of `bits` packed, all else as it is."""
    from safetensors.torch import save

    from snt_core.methods.compress.quantize import codes

    known = layers(model)
    small = {f"{name}.weight": b for name, b in bits.items() if b < 16}
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if name not in small:
            state[name] = value.detach().cpu().contiguous().clone()
            continue
        found, scale = codes(known[name.removesuffix(".weight")].weight, small[name], True)
        state[name] = _bytes(found.cpu(), small[name])
        state[f"{name}.scale"] = scale.cpu().flatten().clone()
    return len(save(state))


def _bytes(codes: Tensor, bits: int) -> Tensor:
    """Return codes as bytes, `bits` of each, one behind the other."""
    flat = codes.flatten().to(torch.int64) + 2 ** (bits - 1)
    places = (flat.unsqueeze(1) >> torch.arange(bits)) & 1
    stream = places.flatten().to(torch.uint8)
    stream = torch.cat([stream, stream.new_zeros(-len(stream) % 8)]).view(-1, 8)
    return (stream << torch.arange(8, dtype=torch.uint8)).sum(1).to(torch.uint8)


# curvature ------------------------------------------------------------------------------------


def lambda_max(scene: Scene, *, normalised: bool, max_products: int, tolerance: float) -> Any:
    """Return the largest eigenvalue of the Hessian, of D H D where `normalised`."""
    from snt_core.methods.curvature.lambda_max import lambda_max as found
    from snt_core.methods.curvature.scale_free import filter_scale

    call: Any = found
    scale = filter_scale(scene.model) if normalised else None
    options = {"max_products": max_products, "tolerance": tolerance, "scale": scale}
    return call(
        scene.model, *_data(scene, scene.sizes.curve), batch_size=8, **options, **_task(scene)
    )


def trace(scene: Scene, probes: int) -> Any:
    """Return Hutchinson's estimate of the trace."""
    from snt_core.methods.curvature.spectrum import hessian_trace

    call: Any = hessian_trace
    return call(
        scene.model, *_data(scene, scene.sizes.curve), probes=probes, batch_size=8, **_task(scene)
    )


def density(scene: Scene, probes: int, steps: int) -> Any:
    """Return nodes and weights of the spectrum."""
    from snt_core.methods.curvature.spectrum import spectral_density

    call: Any = spectral_density
    options = {"probes": probes, "steps": steps, "batch_size": 8}
    return call(scene.model, *_data(scene, scene.sizes.curve), **options, **_task(scene))


def product(scene: Scene, n: int) -> None:
    """Carry out a Hessian-vector product on `n` samples: can it be, and what does it cost."""
    from snt_core.methods.curvature.lambda_max import hvp

    call: Any = hvp
    count = sum(p.numel() for p in scene.model.parameters() if p.requires_grad)
    call(scene.model, *_data(scene, n), torch.ones(count, device=scene.device), **_task(scene))


# analysis -------------------------------------------------------------------------------------


def ranges(scene: Scene, names: list[str]) -> dict[str, Any]:
    """Return low, high and kurtosis of each channel that the named layers read."""
    from snt_core.methods.analysis.channels import channel_ranges

    call: Any = channel_ranges
    inputs = _inputs(scene)
    found: dict[str, Any] = call(
        scene.model, names, inputs, capture="input", batch_size=32, **_task(scene)
    )
    return found


def entropies(scene: Scene, bits: int) -> tuple[Any, Any]:
    """Return the entropy of the codes of weights, and of activations."""
    from snt_core.methods.analysis.entropy import activation_entropy, weight_entropy

    call: Any = activation_entropy
    inputs = _inputs(scene)
    return weight_entropy(scene.model, bits), call(
        scene.model, inputs, bits, batch_size=32, **_task(scene)
    )


def rank(weight: Tensor) -> float:
    """Return the effective rank of a weight as a share of the most that it could have."""
    from snt_core.methods.analysis.weights import effective_rank

    return effective_rank(weight) / min(weight.flatten(1).shape)


def widest(ranges: Any) -> float:
    """Return the widest channel's range over the median one's."""
    from snt_core.methods.analysis.channels import widest_to_median

    return widest_to_median(ranges)


def copied(model: nn.Module) -> nn.Module:
    """Return a copy of a model."""
    return copy.deepcopy(model)
