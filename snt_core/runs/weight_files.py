"""The weights that trainings left, each file with the SHA-256 of all of it.

weights/<id>.safetensors   the weights
weights/<id>.sha256        their digest, as `sha256sum --check` reads it

What counts is the digest in the training's record. The file beside the weights serves the first
records, which have none: it is taken when their weights are first used, and checked from then on.
A safetensors file has no checksum of its own, so that a flipped bit of it is another weight.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from snt_core.common.errors import UserError
from snt_core.common.files import atomic_write
from snt_core.common.quarantine import Stamp, is_file, set_aside, stamp
from snt_core.common.terminal import say, say_once

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 2**24  # bytes read at once; what large nets weigh does not have to fit twice


class WeightFiles:
    """The files of one store. An id is that of the training; `recorded` the digest in its record,
    empty where that has none."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._digests: dict[Path, tuple[Stamp, str]] = {}

    def path(self, net: str) -> Path:
        """Return where weights lie, whether they are there or not."""
        return self.store / "weights" / f"{net}.safetensors"

    def write(self, net: str, state: dict[str, Tensor]) -> None:
        """Write a net's state dict, and its digest beside it."""
        from safetensors.torch import save

        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        content = save(plain, metadata={"id": net})
        atomic_write(self.path(net), content)
        self.keep(net, hashlib.sha256(content).hexdigest())

    def kept(self, net: str) -> str:
        """Return the digest that lies beside weights; empty if there is none."""
        path = self.path(net).with_suffix(".sha256")
        if not is_file(path, self.store, "it is written anew when the weights are used"):
            return ""
        try:
            text = path.read_text(errors="replace")
        except FileNotFoundError:  # another process set it aside
            return ""
        found = re.match(r"[0-9a-f]{64}(?= )", text)
        return found[0] if found else ""

    def keep(self, net: str, digest: str) -> None:
        """Write the digest beside weights."""
        path = self.path(net)
        atomic_write(path.with_suffix(".sha256"), f"{digest}  {path.name}\n".encode())

    def sound(self, net: str, recorded: str) -> bool:
        """Whether weights are there, byte for byte as they were written.

        What is damaged is set aside and named.
        """
        path, seen = self.path(net), self._stamp(net)
        if seen is None:
            return False
        return self._accepted(net, recorded, self._digest(path, seen), seen)

    def read(self, net: str, recorded: str) -> dict[str, Tensor]:
        """Return a net's state dict, from the bytes that were checked.

        Raises UserError where `sound` is false; the same command then trains the net.
        """
        from safetensors.torch import load

        path = self.path(net)
        seen = self._stamp(net)
        if seen is not None:
            content = path.read_bytes()
            if self._accepted(net, recorded, hashlib.sha256(content).hexdigest(), seen):
                return load(content)
        raise UserError(
            f"the weights {path} are missing, or were damaged and set aside; start again, and "
            f"{net} is trained anew"
        )

    def _stamp(self, net: str) -> Stamp | None:
        path = self.path(net)
        return stamp(path) if is_file(path, self.store, _anew(net)) else None

    def _digest(self, path: Path, seen: Stamp) -> str:
        known = self._digests.get(path)
        if known is None or known[0] != seen:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while part := file.read(CHUNK):
                    digest.update(part)
            known = self._digests[path] = seen, digest.hexdigest()
        return known[1]

    def _accepted(self, net: str, recorded: str, found: str, seen: Stamp) -> bool:
        path, kept = self.path(net), self.kept(net)
        if found == (recorded or kept):
            return True
        then = _anew(net)
        if not (recorded or kept):
            if wrong := _foreign(path, net):
                set_aside(path, self.store, wrong, then, seen)
                return False
            self._adopt(net, found)
            return True
        if found == kept:  # whole, but written by a training whose record is not there (yet)
            say_once(f"{path} is not used: the training's record is of other weights; {then}")
        else:
            set_aside(path, self.store, "its content does not match its digest", then, seen)
        return False

    def _adopt(self, net: str, digest: str) -> None:
        about = f"{self.path(net)} is used for the first time, and its record has no digest"
        try:
            self.keep(net, digest)
            say(f"{about}: {digest[:12]}… is kept beside it and checked from now on")
        except OSError as error:
            reason = error.strerror or type(error).__name__
            say_once(f"{about}: {digest[:12]}… cannot be kept beside it ({reason.lower()})")


def _anew(net: str) -> str:
    return f"{net} is trained anew where its weights are needed"


def _foreign(path: Path, net: str) -> str:
    """Return why a file without a digest cannot be a net's weights; empty if it can."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), framework="np") as file:
            owner = (file.metadata() or {}).get("id")
    except (OSError, SafetensorError) as error:
        return f"it is damaged: {error}"
    return "" if owner == net else f"it belongs to run {owner}"
