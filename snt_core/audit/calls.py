"""The one place where an audit calls `snt_core.methods`: nothing else knows their arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from snt_core.audit.scene import Scene
from snt_core.audit.user_files import in_a_line
from snt_core.methods.models import compressible
from snt_core.methods.models.wrapping import copied

# how ranges are found; empty where weights alone are rounded
Rule = Literal["", "minmax", "percentile", "mse"]


def _data(scene: Scene, n: int) -> Any:
    return scene.chunks(n) if scene.raw else scene.part(n)


def _inputs(scene: Scene) -> Any:
    """Return what activations are looked at on: inputs alone, or batches that a task takes."""
    n = scene.sizes.calibrate
    return scene.chunks(n) if scene.raw else scene.part(n)[0]


# compression ----------------------------------------------------------------------------------


def quantized(
    scene: Scene, weight_bits: int, act_bits: int, per_channel: bool, observer: Rule
) -> nn.Module:
    """Return the net with weights (and activations, if `observer` finds their ranges) rounded."""
    from snt_core.methods.compress.activations import quantize_static
    from snt_core.methods.compress.quantize import quantize_weights

    if not observer:
        return quantize_weights(scene.model, weight_bits, per_channel=per_channel)
    return quantize_static(
        scene.model,
        _inputs(scene),
        weight_bits=weight_bits,
        act_bits=act_bits,
        observer=observer,
        per_channel=per_channel,
        batch_size=32,
        task=scene.task,
    )


def pruned(scene: Scene, sparsity: float) -> nn.Module:
    """Return the net without its smallest weights, by one threshold for all layers."""
    from snt_core.methods.compress.prune import prune_magnitude

    return prune_magnitude(scene.model, sparsity)


def fewer_tokens(scene: Scene, method: str, setting: float) -> nn.Module:
    """Return a ViT with tokens merged or pruned. ValueError where it is none of those known."""
    from snt_core.methods.compress.token_vit import merge_tokens, prune_tokens

    if method == "merge":
        return merge_tokens(scene.model, int(setting))
    return prune_tokens(scene.model, setting)


def layers(model: nn.Module) -> list[str]:
    """Return the names of the convolutions and linear layers, whose inputs can be looked at."""
    return list(compressible.layers(model))


def weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of a plain model that can be treated alone, by the name of their layer.

    Those of attention and recurrent layers, which have several, keep their own name too.
    """
    return {_layer(name): p for name, p in compressible.prunable(model).items()}


def _layer(name: str) -> str:
    return name.removesuffix(".weight")


def rounded(model: nn.Module, name: str, bits: int) -> Tensor:
    """Return a weight as the whole net's would be rounded, with a scale for each output."""
    from snt_core.methods.compress.quantize import FakeQuantize

    outputs = {_layer(n): one for n, one in compressible.outputs_by_name(model).items()}
    made: Tensor = FakeQuantize(bits, True, None, outputs[name])(weights(model)[name].detach())
    return made


def thinned(weight: Tensor, sparsity: float) -> Tensor:
    """Return a weight without its smallest entries."""
    from snt_core.methods.compress.magnitude import smallest

    ((kept,),) = smallest([weight], [sparsity])
    return weight.detach() * kept


def check_prunable(scene: Scene, name: str) -> None:
    """Refuse a weight that would not stay pruned. ValueError names its layer."""
    from snt_core.methods.compress.prune import check_zeros_stay

    own = weights(scene.plain)[name]
    for module, weight in compressible.sites(scene.plain):
        if module._parameters.get(weight) is own:
            check_zeros_stay(module, name)


@contextmanager
def changed(model: nn.Module, others: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """Give some weights of a plain model other values within the block, without a copy of it."""
    known = weights(model)
    before = {name: known[name].detach().clone() for name in others}
    with torch.no_grad():
        try:
            for name, weight in others.items():
                known[name].copy_(weight)
            yield model
        finally:
            for name, weight in before.items():
                known[name].copy_(weight)


def mixed(scene: Scene, bits: Mapping[str, int]) -> nn.Module:
    """Return a copy of the net, each of `weights` rounded to its own bits."""
    from snt_core.methods.compress.quantize import freeze, round_weights

    model = copied(scene.plain)
    named = {id(p): name for name, p in weights(model).items()}
    found = compressible.sites(model)
    wanted = [bits[named[id(module._parameters[name])]] for module, name in found]
    round_weights(model, found, wanted, per_channel=True)
    return freeze(model)


def packed_bytes(model: nn.Module) -> int:
    """Return the bytes of the file that a compressed model packs into."""
    from snt_core.methods.export import packed

    return len(packed.packed_bytes(model))


def coverage(model: nn.Module) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return which parameters compression touches, and which it does not with the reason."""
    from snt_core.methods.models.coverage import coverage as methods_coverage

    said = methods_coverage(model)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    touched = [{"name": name, "weights": sizes.get(name, 0)} for name in said.touched]
    untouched = [
        {"name": name, "weights": sizes.get(name, 0), "why": why}
        for name, why in said.untouched.items()
    ]
    return touched, untouched


def latency(scene: Scene, n: int) -> dict[str, Any]:
    """Return forward times of the net and of its W8A8 form, by the first engine that runs both.

    `skipped` says why the engines before it do not.
    """
    from snt_core.methods.export.latency import latency as timed

    batch = scene.chunks(n)[0]
    inputs = batch if isinstance(batch, Tensor) else batch[0]
    small = quantized(scene, 8, 8, True, "minmax")
    plain = scene.plain
    if scene.device != "cpu":
        plain, small = (copied(model).cpu() for model in (plain, small))
    threads, skipped = torch.get_num_threads(), []
    for engine in ("onnxruntime", "torch", "simulated"):
        try:
            one = timed(plain, small, inputs.cpu(), engine=engine, threads=threads, repeats=9)
        except Exception as error:  # exporters and engines have kinds of their own
            skipped.append(f"{engine}: {in_a_line(error)[:200]}")
            continue
        return {**vars(one), "skipped": "; ".join(skipped)}
    raise ValueError("; ".join(skipped))


# curvature ------------------------------------------------------------------------------------


def lambda_max(scene: Scene, *, normalised: bool, max_products: int, tolerance: float) -> Any:
    """Return the largest eigenvalue of the Hessian, of D H D where `normalised`."""
    from snt_core.methods.curvature.lambda_max import lambda_max as found
    from snt_core.methods.curvature.scale_free import filter_scale

    scale = filter_scale(scene.model) if normalised else None
    return found(
        scene.model,
        _data(scene, scene.sizes.curve),
        task=scene.task,
        batch_size=8,
        max_products=max_products,
        tolerance=tolerance,
        scale=scale,
    )


def trace(scene: Scene, probes: int) -> Any:
    """Return Hutchinson's estimate of the trace."""
    from snt_core.methods.curvature.spectrum import hessian_trace

    data = _data(scene, scene.sizes.curve)
    return hessian_trace(scene.model, data, task=scene.task, probes=probes, batch_size=8)


def density(scene: Scene, probes: int, steps: int) -> Any:
    """Return nodes and weights of the spectrum."""
    from snt_core.methods.curvature.spectrum import spectral_density

    data = _data(scene, scene.sizes.curve)
    return spectral_density(
        scene.model, data, task=scene.task, probes=probes, steps=steps, batch_size=8
    )


def product(scene: Scene, n: int) -> None:
    """Carry out a Hessian-vector product on `n` samples: can it be, and what does it cost."""
    from snt_core.methods.curvature.lambda_max import hvp

    count = sum(p.numel() for p in scene.model.parameters() if p.requires_grad)
    ones = torch.ones(count, device=scene.device)
    hvp(scene.model, _data(scene, n), ones, task=scene.task)


# analysis -------------------------------------------------------------------------------------


def ranges(scene: Scene, names: list[str]) -> dict[str, Any]:
    """Return low, high and kurtosis of each channel that the named layers read."""
    from snt_core.methods.analysis.channels import channel_ranges

    return channel_ranges(
        scene.model, names, _inputs(scene), capture="input", batch_size=32, task=scene.task
    )


def entropies(scene: Scene, bits: int) -> tuple[Any, Any]:
    """Return the entropy of the codes of weights, and of activations."""
    from snt_core.methods.analysis.entropy import activation_entropy, weight_entropy

    activations = activation_entropy(
        scene.model, _inputs(scene), bits, batch_size=32, task=scene.task
    )
    return weight_entropy(scene.model, bits), activations


def rank(weight: Tensor) -> float:
    """Return the effective rank of a weight as a share of the most that it could have."""
    from snt_core.methods.analysis.weights import effective_rank

    return effective_rank(weight) / min(weight.flatten(1).shape)


def widest(ranges: Any) -> float:
    """Return the widest channel's range over the median one's."""
    from snt_core.methods.analysis.channels import widest_to_median

    return widest_to_median(ranges)
