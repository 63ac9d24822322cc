"""What a compression touched, and what it left alone and why; beforehand, what it would touch.

::

    from snt_core.methods.compress.prune import prune_magnitude
    from snt_core.methods.models.coverage import coverage

    print(coverage(my_model))  # a preflight, where nothing was done yet
    found = coverage(prune_magnitude(my_model, 0.5))
    print(found.share)  # of all numbers in the model's parameters
    print(found.untouched["norm.weight"])  # of a normalisation
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from snt_core.methods.models.compressible import (
    LAYERS,
    sites,
    standardised,
    stored,
    weight_names,
    why_not,
)
from snt_core.methods.models.folding import hooks
from snt_core.methods.models.wrapping import unwrapped

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
TABLES = (nn.Embedding, nn.EmbeddingBag)
MARK = "_compression"  # the attribute of a layer that says what was done to its weights


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What compression touched of a model, or would touch.

    Attributes:
        done: whether something was done; if not, this is a preflight.
        touched: what was (would be) done, by the name of each weight.
        untouched: why each other parameter was (would be) left alone, by its name.
        share: of the numbers in all parameters, each counted once, those in ``touched``; in [0, 1].
        quantized_inputs: the bits of the layers whose inputs are quantized, 0 where they would be.
        float_inputs: why the inputs of each other layer with weights stay float.
    """

    done: bool
    touched: Mapping[str, str]
    untouched: Mapping[str, str]
    share: float
    quantized_inputs: Mapping[str, int]
    float_inputs: Mapping[str, str]

    def __str__(self) -> str:
        verb = "touched" if self.done else "would be touched"
        inputs = len(self.quantized_inputs) + len(self.float_inputs)
        quantized = "quantized" if self.done else "quantized once calibrated"
        lines = [f"weights {verb}: {len(self.touched)}, {self.share:.1%} of all parameters"]
        lines += _lines(self.touched)
        lines += [f"parameters not {verb.removeprefix('would be ')}: {len(self.untouched)}"]
        lines += _lines(self.untouched)
        lines += [f"layers whose inputs are {quantized}: {len(self.quantized_inputs)} of {inputs}"]
        return "\n".join(lines + _lines(self.float_inputs))


def coverage(model: nn.Module) -> Coverage:
    """Return what was done to a model's weights and inputs, or what would be if nothing was.

    What was done is read from the model itself: copies carry it, ``state_dict`` does not.

    Args:
        model: any model, also one that compression refuses; wrappers like ``torch.compile`` are
            looked through.
    """
    model = unwrapped(model)
    paths = {module: path for path, module in model.named_modules()}
    done = any(hasattr(m, MARK) or hasattr(m, "act_quantizer") for m in paths) or any(
        _bits(m, name) for m, name in sites(model)
    )
    hooked = {(m, name): type(hook).__name__ for m, name, hook in hooks(model)}
    what: dict[int, str] = {}
    why: dict[int, str] = {}
    for module, name in sites(model):
        tensors = stored(module, name)
        reason = next((r for t in tensors if (r := why_not(t))), None)
        if reason is None and done:
            said = _said(module, name)
            reason = None if said else "not asked for, or not there when the model was compressed"
        else:
            said = _plan(module, name, hooked.get((module, name)))
        for tensor in tensors:
            if reason is None:
                what.setdefault(id(tensor), said)
            else:
                why.setdefault(id(tensor), reason)
    for module in paths:  # what is tied to a weight shares its fate
        for name in getattr(module, MARK, {}):
            for tensor in stored(module, name):
                what.setdefault(id(tensor), _said(module, name))
    modules = dict(model.named_modules())
    touched, untouched = {}, {}
    sizes = {True: 0, False: 0}
    for name, p in model.named_parameters():
        # a learned clipping level belongs to the compression itself
        if name.endswith("act_quantizer.clip_alpha"):
            continue
        path, _, own = name.rpartition(".")
        if id(p) in what:
            touched[name] = what[id(p)]
        else:
            untouched[name] = why.get(id(p)) or _reason(modules[path], own, p)
        sizes[id(p) in what] += 0 if why_not(p) else p.numel()
    for path, module in modules.items():
        if type(module).__module__.startswith("torch.ao.nn.quantized") and hasattr(
            module, "weight"
        ):
            untouched[f"{path}.weight"] = "integers of torch's own quantization"
    quantized, floats = _inputs(model, done)
    return Coverage(
        done=done,
        touched=touched,
        untouched=untouched,
        share=sizes[True] / max(1, sum(sizes.values())),
        quantized_inputs=quantized,
        float_inputs=floats,
    )


def mark(module: nn.Module, name: str, **done: Any) -> None:
    """Leave on a layer what was done to one of its weights: ``sparsity`` or ``weight_bits``."""
    marks = {key: dict(value) for key, value in getattr(module, MARK, {}).items()}
    marks[name] = {**marks.get(name, {}), **done}
    setattr(module, MARK, marks)


def _said(module: nn.Module, name: str) -> str:
    marks = dict(getattr(module, MARK, {}).get(name, {}))
    if bits := _bits(module, name):
        marks["weight_bits"] = bits
    said = []
    if "sparsity" in marks:
        said.append(f"pruned to {marks['sparsity']:g} of all weights")
    if "weight_bits" in marks:
        said.append(f"rounded to {marks['weight_bits']} bits")
    return ", ".join(said)


def _bits(module: nn.Module, name: str) -> int | None:
    if not parametrize.is_parametrized(module, name):
        return None
    chain: Any = module.parametrizations[name]  # type: ignore[index]
    return next((p.weight_bits for p in chain if hasattr(p, "weight_bits")), None)


def _plan(module: nn.Module, name: str, hook: str | None) -> str:
    if hook is None and parametrize.is_parametrized(module, name):
        chain: Any = module.parametrizations[name]  # type: ignore[index]
        hook = " and ".join(type(p).__name__.strip("_") for p in chain)
    if kind := standardised(module):
        return f"rounded; refused by pruning, since {kind} standardises it in each pass"
    return "pruned, rounded" + (f" as the effective weight of {hook}" if hook else "")


def _reason(module: nn.Module, name: str, p: Tensor) -> str:
    """Return why a parameter is none of the weights that methods act on."""
    if "bias" in name:
        return "a bias"
    if isinstance(module, NORMS) or (p.ndim == 1 and "Norm" in type(module).__name__):
        return "of a normalisation"
    if isinstance(module, TABLES):
        return "a table that is looked up"
    if isinstance(module, nn.PReLU) or type(module).__name__ == "SNTActivation":
        return "of an activation"
    if why_not(p):
        return why_not(p) or ""
    return f"a parameter of {type(module).__name__} itself, used in a way that is not known"


def _inputs(model: nn.Module, done: bool) -> tuple[dict[str, int], dict[str, str]]:
    inside = {id(m.out_proj) for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    quantized, floats = {}, {}
    for path, module in model.named_modules():
        quantizer = getattr(module, "act_quantizer", None)
        if quantizer is not None and id(module) not in inside:
            quantized[path] = quantizer.act_bits
        elif id(module) in inside or isinstance(module, nn.MultiheadAttention):
            floats[path] = "nn.MultiheadAttention computes inside"
        elif isinstance(module, LAYERS):
            if done:
                floats[path] = "not asked for, or not reached by the calibration"
            else:
                quantized[path] = 0
        elif weight_names(module):
            floats[path] = f"{type(module).__name__} is no convolution or linear layer"
    return quantized, floats


def _lines(entries: Mapping[str, str]) -> list[str]:
    """Return a line for each reason, with the first names that it holds of."""
    names = defaultdict(list)
    for name, reason in entries.items():
        names[reason].append(name)
    return [
        f"  {reason}: {', '.join(found[:3])}" + (f" and {len(found) - 3} more" * (len(found) > 3))
        for reason, found in names.items()
    ]
