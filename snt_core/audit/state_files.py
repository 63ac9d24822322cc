"""Files of weights: safetensors, or torch's own read with `weights_only`. Never a free pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from snt_core.common.errors import UserError
from snt_core.common.files import place

if TYPE_CHECKING:
    from torch import Tensor, nn

WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema")
PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
)  # of DistributedDataParallel, torch.compile, Lightning


def state_of(weights: str) -> dict[str, Tensor]:
    """Return the tensors of a file by name, without the prefix that a wrapper gave them all.

    Raises UserError: no such file, damaged, or a pickle of more than tensors.
    """
    path = place("--weights", weights)
    if not path.is_file():
        raise UserError(f"--weights is '{weights}', but there is no such file")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return _bare(load_file(path))
        except SafetensorError as error:
            raise UserError(f"{path} is no safetensors file, or a damaged one ({error})") from error
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch have errors of their own
        raise UserError(
            f"{path} is refused: it is no file of tensors alone (read with weights_only); save "
            f"model.state_dict() with safetensors.torch.save_file"
        ) from error
    return _bare(_inner(found, str(path)))


def _inner(found: Any, path: str) -> dict[str, Tensor]:
    """Return the state dict in what was loaded, which may lie one level down."""
    import torch

    for key in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not found:
        raise UserError(f"{path} holds a {type(found).__name__}, not a state dict of tensors")
    tensors = {str(name): v for name, v in found.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no tensor; its keys: {', '.join(map(str, list(found)[:3]))}")
    return tensors


def _bare(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES[:2]:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def fit(model: nn.Module, state: dict[str, Tensor], weights: str) -> None:
    """Load a state into a model, whole. Raises UserError, which names the first keys, if not."""
    own = model.state_dict()
    prefix = PREFIXES[2]
    if set(own).isdisjoint(state) and all(name.startswith(prefix) for name in state):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    missing = [name for name in own if name not in state]
    more = [name for name in state if name not in own]
    other = [name for name in own if name in state and own[name].shape != state[name].shape]
    if not (missing or more or other):
        model.load_state_dict(state)
        return
    told = []
    if missing:
        told.append(f"lacks {_first(missing)}")
    if more:
        told.append(f"has {_first(more)}, which the net does not")
    if other:
        name = other[0]
        told.append(
            f"{name} is {tuple(state[name].shape)} in it and {tuple(own[name].shape)} in the net"
        )
    alike = [v.shape for v in own.values()] == [v.shape for v in state.values()]
    hint = "; the shapes agree in order, so rename its keys in a FILE.py:make" if alike else ""
    raise UserError(f"--weights {weights} does not fit: it {', and '.join(told)}{hint}")


def _first(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
