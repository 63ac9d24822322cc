"""A compressed model in a file of the size that it should have, and back to the last bit.

::

    from snt_core.methods.compress.activations import quantize_static
    from snt_core.methods.export.packed import load_packed, save_packed

    small = quantize_static(my_model, images, weight_bits=4, act_bits=8)
    size = save_packed(small, "small.safetensors")  # bytes: half a byte for each weight
    again = load_packed("small.safetensors", my_model)  # no calibration: the same outputs

The file is one of safetensors. Quantized weights are kept as codes of their bits with their scales,
pruned ones without their zeros, whichever is smallest and whole (see
:mod:`snt_core.methods.export.encoding`); all else is raw: biases, normalisation and its statistics,
what quantizers of activations hold. A tensor under several names is kept once. A checksum covers
all, and nothing in a file is executed. Needs ``pip install "snt-core[export]"``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snt_core.common.files import atomic_write
from snt_core.methods.compress.quantize import FakeQuantize
from snt_core.methods.compress.weight_codes import WeightCodes, keep_codes
from snt_core.methods.export.encoding import as_json, decode, encode, from_json
from snt_core.methods.export.extra import required
from snt_core.methods.export.quantizers import attach_all, check_values, described
from snt_core.methods.models.folding import plain
from snt_core.methods.models.wrapping import copied, unwrapped

KEY = "snt_packed"  # of the file's metadata
VERSION = 1


def save_packed(model: nn.Module, file: str | Path) -> int:
    """Write a compressed model to a file as small as its bits allow, and return its bytes.

    Args:
        model: on any device; pruned, quantized, both or neither. What it computes is not kept, only
            its parameters, buffers and quantizers: :func:`load_packed` needs the architecture.
        file: a path; what is there is replaced, whole or not at all.

    Raises:
        ImportError: safetensors is missing; how to get it is told.
        ValueError: the model still rounds its weights in each pass (``freeze`` it first), has no
            values yet (lazy or on the meta device), or holds what is no tensor.
        OSError: the file cannot be written.
    """
    content = packed_bytes(model)
    atomic_write(Path(file), content)
    return len(content)


def packed_bytes(model: nn.Module) -> bytes:
    """Return what :func:`save_packed` writes."""
    [to_file] = required("safetensors.torch")
    model = unwrapped(model)
    _check_savable(model)
    state = model.state_dict()
    first = _first_names(state)
    codes = _codes(model)
    tensors: dict[str, Tensor] = {}
    encoded: dict[str, Any] = {}
    for name, tensor in state.items():
        if first[name] != name:
            continue
        levels = [codes[other] for other in state if first[other] == name and other in codes]
        whole = tensor.detach().cpu().contiguous()
        found = encode(whole, levels[0] if levels else None)
        if found is None:
            tensors[name] = whole
        else:
            encoded[name] = as_json(found[0])
            tensors |= {f"{name}:{part}": value for part, value in found[1].items()}
    about = {
        "version": VERSION,
        "encoded": encoded,
        "tied": {name: other for name, other in first.items() if other != name},
        "quantizers": described(model),
        "sha256": _digest(tensors),
    }
    try:
        content: bytes = to_file.save(tensors, {KEY: json.dumps(about, separators=(",", ":"))})
    except KeyError as error:  # of a format that safetensors does not know
        odd = [f"'{name}' is {t.dtype}" for name, t in tensors.items() if t.dtype in error.args]
        raise ValueError(f"{', '.join(odd)}, which the file format cannot keep") from error
    return content


def load_packed(file: str | Path, model: nn.Module) -> nn.Module:
    """Return a copy of the model with the weights and quantizers of a file of :func:`save_packed`.

    Outputs are those of the model that was saved, to the last bit: the codes, scales and ranges are
    its own, and nothing is calibrated.

    Args:
        model: of the same architecture and dtype, compressed or not; it is left as it was. Where
            compression ended a weight or spectral normalisation, the copy has plain weights too.

    Raises:
        ImportError: as :func:`save_packed`.
        ValueError: the file is missing, damaged, not of :func:`save_packed`, or of another model.
    """
    model = copied(unwrapped(model))
    _check_savable(model)
    about, tensors = _read(Path(file))
    try:
        attach_all(model, about["quantizers"])
        values, codes = _decoded(about, tensors)
        if set(values) != set(model.state_dict()):
            model = plain(model)  # compression ends the normalisation of weights
        _fill(model, values)
        check_values(model)
    except ValueError as error:
        raise ValueError(f"file '{file}' does not fit: {error}") from error
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, levels in codes.items():
        owner, _, own = name.rpartition(".")
        keep_codes(modules[owner], own, levels.bits, levels.scale)
    return model


def _check_savable(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, FakeQuantize):
            owner = name.split(".parametrizations.")[0]
            raise ValueError(f"'{owner}' rounds its weights in each pass: call freeze(model) first")
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise ValueError(f"'{name}' is a {type(value).__name__}, and only tensors are kept")
        if nn.parameter.is_lazy(value):
            raise ValueError(f"'{name}' has no shape yet: run the model on one batch first")
        if value.is_meta:
            raise ValueError(f"'{name}' is on the meta device, without values: load weights first")
        if value.layout is not torch.strided or value.is_quantized:
            raise ValueError(f"'{name}' is not a dense tensor of plain numbers, as are kept")


def _first_names(state: dict[str, Tensor]) -> dict[str, str]:
    """Return for each name the first one of the same memory."""
    seen: dict[Any, str] = {}
    found = {}
    for name, t in state.items():
        memory = (t.device, t.data_ptr(), t.dtype, t.shape, t.stride()) if t.numel() else name
        found[name] = seen.setdefault(memory, name)
    return found


def _codes(model: nn.Module) -> dict[str, WeightCodes]:
    """Return what ``freeze`` left on the layers, by the weights' names."""
    return {
        f"{prefix}.{name}".lstrip("."): levels
        for prefix, module in model.named_modules(remove_duplicate=False)
        for name, levels in getattr(module, "weight_codes", {}).items()
    }


def _digest(tensors: dict[str, Tensor]) -> str:
    seen = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name].contiguous()
        seen.update(f"{name} {t.dtype} {tuple(t.shape)}\n".encode())
        seen.update(t.reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b"")
    return seen.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what a file says about itself, and its tensors."""
    [safetensors] = required("safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            text = (opened.metadata() or {}).get(KEY)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError, ValueError, RuntimeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"file '{path}' cannot be read: {said}") from error
    if text is None:
        raise ValueError(f"file '{path}' is not of save_packed: it says nothing about '{KEY}'")
    try:
        about = json.loads(text)
        version = about["version"]
        whole = all(isinstance(about[key], dict) for key in ("encoded", "tied", "quantizers"))
        digest = about["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"file '{path}' is damaged: its '{KEY}' cannot be understood") from error
    if version != VERSION:
        raise ValueError(f"file '{path}' has version {str(version)[:20]}; this is for {VERSION}")
    if not whole or digest != _digest(tensors):
        raise ValueError(f"file '{path}' is damaged: its checksum is another")
    return about, tensors


def _decoded(
    about: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, WeightCodes]]:
    """Return the whole tensors by their names, and the levels of those that are codes."""
    values: dict[str, Tensor] = {}
    codes: dict[str, WeightCodes] = {}
    left = dict(tensors)
    for name, found in about["encoded"].items():
        mine = [key for key in left if key.rpartition(":")[0] == name]
        try:
            values[name], levels = decode(
                from_json(found), {key.rpartition(":")[2]: left.pop(key) for key in mine}
            )
        except ValueError as error:
            raise ValueError(f"'{name}' is made of {error}") from error
        if levels is not None:
            codes[name] = levels
    values |= left
    for name, other in about["tied"].items():
        if not isinstance(other, str) or other not in values or name in values:
            raise ValueError(f"'{name}' is said to be '{str(other)[:80]}', which is not there")
    values |= {name: values[other] for name, other in about["tied"].items()}
    codes |= {name: codes[other] for name, other in about["tied"].items() if other in codes}
    return values, codes


@torch.no_grad()
def _fill(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Write all tensors into a model, in place, after looking at each name, shape and dtype."""
    state = model.state_dict()
    for names, where in ((set(state) - set(values), "file"), (set(values) - set(state), "model")):
        if names:
            raise ValueError(f"the {where} has no {_some(names)}: is it another architecture?")
    for name, tensor in state.items():
        if values[name].shape != tensor.shape:
            shapes = f"{tuple(values[name].shape)} in the file, {tuple(tensor.shape)} in the model"
            raise ValueError(f"'{name}' is of shape {shapes}")
        if values[name].dtype != tensor.dtype:
            said = f"{values[name].dtype} in the file, {tensor.dtype} in the model"
            raise ValueError(f"'{name}' is {said}: convert the model first, model.to(dtype)")
    first = _first_names(state)
    for name, tensor in state.items():
        if first[name] != name and not _same(values[name], values[first[name]]):
            raise ValueError(f"'{name}' and '{first[name]}' are one in the model, two in the file")
        tensor.copy_(values[name])


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or torch.equal(a, b)


def _some(names: set[str]) -> str:
    listed: Iterator[str] = iter(sorted(names))
    shown = ", ".join(f"'{name}'" for name, _ in zip(listed, range(3)))
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
