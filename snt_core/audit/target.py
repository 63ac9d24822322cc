"""The net that the words mean: `timm:NAME`, `torchvision:NAME`, `FILE.py:NAME` or `example`."""

from __future__ import annotations

import difflib
import hashlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from snt_core.audit import user_files
from snt_core.audit.state_files import fit, state_of
from snt_core.audit.user_files import in_a_line, named
from snt_core.common.errors import UserError
from snt_core.common.vision import torchvision

if TYPE_CHECKING:
    from torch import nn

EXAMPLE = "example"
WORDS = "timm:NAME, torchvision:NAME, FILE.py:NAME or example"


@dataclass(frozen=True, kw_only=True)
class Network:
    """A net ready to be audited.

    Attributes:
        words: as the user named it.
        model: in eval mode, on the CPU.
        transform: from a PIL image to what the net takes; None where nobody says.
        wants: `transform` in words.
        code: digest of the user's file, empty without one.
        notes: what the reader of a report must know, such as that the weights are random.
        trained: whether the weights come from a training, as far as is known.
    """

    words: str
    model: nn.Module
    transform: Callable[[Any], Any] | None = None
    wants: str = ""
    code: str = ""
    notes: tuple[str, ...] = ()
    trained: bool = True

    @property
    def weights(self) -> str:
        """SHA-256 of the state dict: names, shapes, number formats and bytes."""
        digest = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            if not hasattr(value, "detach"):  # a module's extra state
                continue
            plain = value.detach().cpu().contiguous()
            digest.update(f"{name} {tuple(plain.shape)} {plain.dtype}\n".encode())
            digest.update(memoryview(plain.flatten().view(_bytes()).numpy()))
        return digest.hexdigest()


def _bytes() -> Any:
    import torch

    return torch.uint8


def kind_of(words: str) -> str:
    """Return which sort of target words mean. Raises UserError for none, before torch is loaded."""
    if words == EXAMPLE:
        return EXAMPLE
    if user_files.is_file_word(words):
        return "file"
    source, _, name = words.partition(":")
    if source in ("timm", "torchvision") and name:
        return source
    near = difflib.get_close_matches(source, ("timm", "torchvision", EXAMPLE), n=1)
    hint = ""
    if near:
        rest = "" if near[0] == EXAMPLE else f":{name or 'NAME'}"
        hint = f"; did you mean '{near[0]}{rest}'?"
    elif source and not name:
        hint = f"; write timm:{source} for a net of timm"
    raise UserError(f"target is '{words}'{hint} (allowed: {WORDS})")


def network(words: str, weights: str = "", classes: int | None = None) -> Network:
    """Return the net that `words` mean, with the weights of the file `weights` if one is named.

    Args:
        classes: of the pictures; a net for which no trained weights are had gets as many.

    Raises:
        UserError: no such net, or the weights do not fit or cannot be read safely.
    """
    kind = kind_of(words)
    state = state_of(weights) if weights else None
    if kind == EXAMPLE:
        from snt_core.audit.example import trained

        return Network(words=words, model=_with(trained(), state, weights), wants="as they are")
    if kind == "file":
        return _of_file(words, state, weights)
    make = _timm if kind == "timm" else _torchvision
    return make(words.partition(":")[2], state, weights, classes)


def _with(model: nn.Module, state: Any, weights: str) -> nn.Module:
    if state is not None:
        fit(model, state, weights)
    return model.eval()


def _of_file(words: str, state: Any, weights: str) -> Network:
    from torch import nn

    from snt_core.methods.models.wrapping import unwrapped

    torchvision()  # the user's file may import it, or timm
    found = named("target", words)
    model = found.made()
    if not isinstance(model, nn.Module):
        raise UserError(
            f"{words} gives a {type(model).__name__}; it must be a torch.nn.Module, or a function "
            f"without arguments that returns one"
        )
    model = unwrapped(model)
    own = getattr(model, "pretrained_cfg", None)
    network = Network(words=found.words, model=_with(model, state, weights), code=found.digest)
    transform = getattr(_modules_of(found), "transform", None)
    if callable(transform):
        return replace(network, transform=transform, wants=f"`transform` of {found.file.name}")
    return _as_timm_says(network) if own else network


def _modules_of(found: user_files.Named) -> Any:
    return user_files._modules[found.file]


def _timm(name: str, state: Any, weights: str, classes: int | None) -> Network:
    torchvision()  # timm imports it
    import timm

    if not timm.is_model(name.partition(".")[0]):
        raise _no_such("timm", name, timm.list_models())

    def make(pretrained: bool, **head: Any) -> nn.Module:
        if pretrained:
            _offline_at_once()
        try:
            made: nn.Module = timm.create_model(name, pretrained=pretrained, **head)
        except RuntimeError as error:  # "Invalid pretrained tag"
            if "pretrained" not in str(error):
                raise
            raise UserError(f"timm:{name}: {in_a_line(error)}") from error
        return made

    return _as_timm_says(_made(f"timm:{name}", make, state, weights, classes))


def _torchvision(name: str, state: Any, weights: str, classes: int | None) -> Network:
    models: Any = torchvision().models
    known = models.list_models(module=models)
    if name not in known:
        raise _no_such("torchvision", name, known)
    chosen = models.get_model_weights(name).DEFAULT

    def make(pretrained: bool, **head: Any) -> nn.Module:
        made: nn.Module = models.get_model(name, weights=chosen if pretrained else None, **head)
        return made

    found = _made(f"torchvision:{name}", make, state, weights, classes)
    return replace(found, transform=chosen.transforms(), wants=f"the transforms of {chosen}")


def _made(
    words: str, make: Callable[..., nn.Module], state: Any, weights: str, classes: int | None
) -> Network:
    """Return a net of a library: with the user's weights, else its own, else random ones."""
    if state is not None:
        model = make(False)
        if head := _other_head(model, state):
            model = make(False, num_classes=head)
        return Network(words=words, model=_with(model, state, weights))
    try:
        return Network(words=words, model=make(True).eval())
    except UserError:
        raise
    except Exception as error:  # whatever a library does without a network, or without weights
        import torch

        note = (
            f"The weights of {words} are random: trained ones could not be fetched "
            f"({in_a_line(error)[:160]}). Accuracies say nothing; give --weights FILE.safetensors."
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = make(False, **({} if classes is None else {"num_classes": classes}))
        return Network(words=words, model=model.eval(), notes=(note,), trained=False)


def _other_head(model: nn.Module, state: Any) -> int:
    """Return how many classes the last layer of a state has, if that is not the model's; else 0."""
    last = list(model.state_dict())[-1]
    if last not in state or not state[last].ndim:
        return 0
    theirs = int(state[last].shape[0])
    return 0 if theirs == model.state_dict()[last].shape[0] else theirs


def _offline_at_once() -> None:
    """Let the hub use its cache alone where it cannot be reached: it would try for a minute."""
    from huggingface_hub import constants

    proxied = any(os.environ.get(f"{s}_proxy") for s in ("https", "HTTPS", "http", "all", "ALL"))
    host = urlsplit(constants.ENDPOINT).hostname
    if proxied or host is None:
        return
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True


def _as_timm_says(network: Network) -> Network:
    torchvision()
    from timm.data import create_transform, resolve_model_data_config

    config = resolve_model_data_config(network.model)
    wants = f"{config['input_size'][-1]} pixels, crop {config['crop_pct']}, mean {config['mean']}"
    return replace(
        network, transform=create_transform(**config, is_training=False), wants=f"timm's: {wants}"
    )


def _no_such(library: str, name: str, known: list[str]) -> UserError:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"; close: {', '.join(near)}" if near else ""
    return UserError(f"{library} has no model '{name}'{hint} ({len(known)} are there)")
