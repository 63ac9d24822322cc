"""What `--data` means: a folder of images, `FILE.py:NAME`, or the example's own digits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from snt_core.audit import pictures, user_files
from snt_core.audit.pictures import Listing
from snt_core.audit.scene import count_of
from snt_core.audit.target import Network
from snt_core.audit.user_files import Named
from snt_core.common.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

MOST = 1000  # samples that are held in memory
INPUTS = ("pixel_values", "image", "images", "inputs", "input", "x")  # of batches that are dicts
TARGETS = ("labels", "label", "targets", "target", "y")


@dataclass(frozen=True)
class Data:
    """Samples as the net takes them.

    Attributes:
        words: as the user named them.
        inputs: N ....
        targets: N ..., None where there are no labels.
        classes: the names of the classes, where folders name them.
        raw: batches as a task takes them; inputs and targets hold nothing then.
        how: how labels were read.
    """

    words: str
    inputs: Tensor
    targets: Tensor | None
    raw: tuple[Any, ...] = ()
    classes: tuple[str, ...] = ()
    how: str = ""
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the tensors."""
        import torch

        from snt_core.methods.tasks.feed import leaves

        digest = hashlib.sha256()
        for one in leaves(self.raw or (self.inputs, self.targets)):
            plain = one.detach().cpu().contiguous()
            digest.update(f"{tuple(plain.shape)} {plain.dtype}\n".encode())
            digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())  # bfloat16 too
        return digest.hexdigest()


def source_of(data: str, target: str) -> Listing | Named | None:
    """Return where samples come from, looked at but not read; None for the example's digits.

    Raises UserError for what is neither a folder of images nor an object of a file.
    """
    if not data:
        if target == "example":
            return None
        raise UserError("--data is missing; name a folder of images, or FILE.py:NAME of a loader")
    if user_files.is_file_word(data):
        return user_files.named("--data", data)
    return pictures.listing(data)


def read(source: Listing | Named | None, network: Network, outputs: int | None, words: str) -> Data:
    """Return the samples of a source for a net of `outputs` classes.

    Raises UserError where labels and net do not fit, or a sample cannot be read.
    """
    if source is None:
        from snt_core.audit.example import digits

        return Data("example", *digits(), how="scikit-learn's digits")
    if isinstance(source, Named):
        return _of_file(source, words)
    if outputs is None:
        raise UserError(
            "images of a folder need a net that answers B x classes; give --data FILE.py:NAME"
        )
    found = source.drawn(MOST)
    labels, how = pictures.labels_of(found, outputs)  # before any image is decoded
    notes = found.notes
    transform = network.transform
    if transform is None:
        transform = pictures.usual()
        notes += (
            "Nobody says what the net wants, so images have 224 pixels and ImageNet's mean; "
            "define transform(image) in the net's file if that is wrong.",
        )
    inputs = pictures.tensors(found, transform)
    import torch

    targets = None if labels is None else torch.tensor(labels)
    return Data(words, inputs, targets, classes=found.classes, how=how, notes=notes)


def _of_file(source: Named, words: str) -> Data:
    import torch

    made = source.made()
    if isinstance(made, torch.utils.data.Dataset) and hasattr(made, "__getitem__"):
        made = torch.utils.data.DataLoader(made, batch_size=32)
    pair = isinstance(made, tuple) and len(made) == 2 and all(map(_is_tensor, made))
    batches = [made] if pair or _is_tensor(made) or isinstance(made, Mapping) else made
    if not isinstance(batches, Iterable):
        raise UserError(
            f"{source.words} gives a {type(made).__name__}; give batches, or a DataLoader"
        )
    read = _batches(source, (_parts(batch, source.words) for batch in batches))
    inputs = [one for one, _ in read]
    targets = [target for _, target in read if target is not None]
    count = sum(map(len, inputs))
    if targets and len(targets) != len(inputs):
        raise UserError(f"{source.words} gives targets in some batches and none in others")
    try:
        x = torch.cat(inputs)[:MOST]
        y = torch.cat(targets)[:MOST] if targets else None
    except RuntimeError as error:
        raise UserError(f"batches of {source.words} differ in shape: {error}") from error
    if y is not None and len(y) != len(x):
        raise UserError(f"{source.words} gives {len(x)} inputs and {len(y)} targets")
    notes = (f"The first {MOST:,} samples serve.",) if count > MOST else ()
    how = "targets of the loader" if targets else "no targets: agreement with the float net"
    return Data(words, x, y, how=how, notes=notes)


def counted(data: Data) -> Data:
    """Return the samples that count: those with the label -100 are left out, as by the loss.

    Raises UserError where none is left.
    """
    from snt_core.methods.tasks.task import IGNORED

    y = data.targets
    if y is None or y.ndim != 1 or y.is_floating_point() or not (y == IGNORED).any():
        return data
    keep = y != IGNORED
    left = int((~keep).sum())
    if left == len(y):
        raise UserError(
            f"all {left} labels are {IGNORED}, which does not count; give class indices"
        )
    notes = (*data.notes, f"{left:,} samples with the label {IGNORED} do not count.")
    return replace(data, inputs=data.inputs[keep], targets=y[keep], notes=notes)


def batches_of(source: Named, words: str) -> Data:
    """Return the batches of a loader as they are, for a task that knows what to make of them."""
    import torch

    made = source.made()
    single = isinstance(made, (torch.Tensor, Mapping)) or (
        isinstance(made, tuple) and all(map(_is_tensor, made))
    )
    found = _batches(source, [made] if single else made)
    count = sum(map(count_of, found))
    nothing = torch.zeros(count, 0)
    return Data(words, nothing, nothing, tuple(found), how="as the task takes them")


def _batches(source: Named, batches: Iterable[Any]) -> list[Any]:
    """Return the batches of a user's file until there are `MOST` samples. UserError: there is none.

    What the file raises while it makes them is told with its line.
    """

    def read_all() -> list[Any]:
        found, count = [], 0
        for batch in batches:
            found.append(batch)
            count += count_of(batch)
            if count >= MOST:
                break
        return found

    found: list[Any] = user_files.blaming(source.file, read_all)
    if not sum(map(count_of, found)):
        raise UserError(f"{source.words} gives no batch; a generator that was used up, perhaps")
    return found


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _parts(batch: Any, words: str) -> tuple[Tensor, Tensor | None]:
    """Return inputs and targets of a batch: a tensor, a pair, or a dict as Hugging Face has it."""
    if _is_tensor(batch):
        return batch, None
    if isinstance(batch, Mapping):
        x = next((batch[k] for k in INPUTS if k in batch), None)
        y = next((batch[k] for k in TARGETS if k in batch), None)
        if x is None:
            raise UserError(
                f"{words} gives batches with the keys {', '.join(map(str, batch))}; one of "
                f"{', '.join(INPUTS)} is needed: make pairs (inputs, targets) of them"
            )
        batch = (x, y)
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and _is_tensor(batch[0]):
        return batch[0], batch[1] if _is_tensor(batch[1]) else None
    raise UserError(
        f"{words} gives a batch of {type(batch).__name__}; give pairs of tensors (inputs, targets)"
    )
