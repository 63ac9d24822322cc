"""Net, samples and task as they were asked for, checked against each other before any measuring."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from snt_core.audit import data_words, first_look, target, user_files
from snt_core.audit.first_look import FirstLook
from snt_core.audit.scene import BATCH, Scene
from snt_core.common.errors import UserError
from snt_core.methods.tasks.feed import leaves
from snt_core.methods.tasks.task import Task
from snt_core.runs.kinds.brought import BroughtSpec


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an audit is asked for, in the user's words."""

    target: str
    data: str = ""
    weights: str = ""
    task: str = ""
    lose: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A net and its samples, looked at."""

    scene: Scene
    net: BroughtSpec
    look: FirstLook
    notes: tuple[str, ...]
    facts: dict[str, str]
    classes: tuple[str, ...]


def prepare(asked: Asked, seconds: float) -> Prepared:
    """Return net and samples as they are measured. Raises UserError for what cannot be."""
    target.kind_of(asked.target)
    source = data_words.source_of(asked.data, asked.target)
    task = _task(asked.task)
    folders = len(source.classes) if isinstance(source, data_words.Listing) else 0
    network = target.network(asked.target, asked.weights, folders or None)
    model = network.model.to(device()).eval()
    if task is None:
        data = _samples(source, network, model, asked.data, seconds)
        data = data_words.counted(replace(data, inputs=_as_taken(data.inputs, model)))
    elif isinstance(source, user_files.Named):
        data = data_words.batches_of(source, asked.data)
    else:
        raise UserError("--task needs batches with targets; give --data FILE.py:NAME")
    _require_numbers(model, data)
    output = None
    if task is None:
        first_look.speak_in_logits(model)
        output = first_look.outputs_of(model, data.inputs[:1].to(device()))
    classes = first_look.classes_of(output) if task is None else None
    _require_labels(data, classes, task)
    notes = (*network.notes, *data.notes)
    scene = Scene(
        model=model,
        inputs=data.inputs,
        targets=data.inputs[:, :0] if data.targets is None else data.targets,
        raw=data.raw,
        task=task,
        labelled=data.targets is not None,
        classes=classes,
        device=device(),
    )
    if data.targets is None:
        notes += ("No labels: agreement with the float net's own answers stands for accuracy.",)
        scene = replace(scene, targets=answers(scene, first_look.FEW))  # for the look
    look = first_look.look(scene, seconds)
    code = network.code + (user_files.named("--task", asked.task).digest if asked.task else "")
    net = BroughtSpec(
        data=f"samples-{data.digest}", model=network.words, weights=network.weights, code=code
    )
    facts = {
        "net": network.words,
        "weights": "random" if not network.trained else asked.weights or "the net's own",
        "samples": f"{len(data.inputs):,} of {data.words or 'the example'}",
        "labels": data.how,
        "number format": _format(model),
        "input": network.wants or "as the loader gives it",
    }
    return Prepared(scene=scene, net=net, look=look, notes=notes, facts=facts, classes=data.classes)


def _require_numbers(model: nn.Module, data: data_words.Data) -> None:
    """Raise UserError where a weight of the net or a sample is not finite."""
    statistics = [(k, v) for k, v in model.named_buffers() if "running_" in k]
    for name, value in [*model.named_parameters(), *statistics]:
        if is_lazy(value):  # made by the first forward pass
            continue
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(f"'{name}' of the net is not finite: has its training diverged?")
    for place, batch in enumerate(data.raw or [data.inputs]):
        for values in leaves(batch):
            # in a batch of one's own infinities may be meant, as in the masks of attention
            wrong = values.isnan() if data.raw else ~values.isfinite()
            if wrong.any():
                row = int(wrong.nonzero()[0, 0]) if values.ndim else 0
                where = f"sample {row}" + (f" of batch {place}" if data.raw else "")
                raise UserError(f"{where} of the data is not finite: mend it or leave it out")


def _samples(
    source: Any, network: target.Network, model: Any, words: str, seconds: float
) -> data_words.Data:
    """Return the samples; of a folder an image for each second of the budget, 64 at least."""
    outputs = None
    if isinstance(source, data_words.Listing):
        source = source.drawn(max(64, min(data_words.MOST, int(seconds))))
        one = replace(source, files=source.files[:1])
        image = data_words.pictures.tensors(one, network.transform or data_words.pictures.usual())
        outputs = first_look.classes_of(
            first_look.logits_of(first_look.outputs_of(model, _as_taken(image, model).to(device())))
        )
    return data_words.read(source, network, outputs, words)


def labelled(scene: Scene) -> Scene:
    """Return the scene with targets: its own, or what the float net answers."""
    if scene.labelled:
        return scene
    n = scene.sizes.evaluate
    return replace(scene, inputs=scene.inputs[:n], targets=answers(scene, n))


def answers(scene: Scene, n: int) -> Any:
    """Return the class that the float net gives each of the first `n` samples."""
    import torch

    with torch.no_grad():
        parts = scene.inputs[:n].split(BATCH)
        return torch.cat([scene.model(x.to(scene.device)).argmax(1).cpu() for x in parts])


def _require_labels(data: data_words.Data, classes: int | None, task: Any) -> None:
    y = data.targets
    if task is not None:  # it knows what its targets are
        return
    if y is None:
        return
    if y.is_floating_point() or y.ndim != 1:
        raise UserError(
            f"targets are {y.dtype} of the shape {tuple(y.shape)}, not a class index each; give "
            f"--task FILE.py:NAME that says what the loss is"
        )
    if classes is not None and not 0 <= int(y.min()) <= int(y.max()) < classes:
        raise UserError(
            f"labels run from {int(y.min())} to {int(y.max())}, and the net has {classes} classes"
        )


def _task(words: str) -> Any:
    if not words:
        return None
    found = user_files.named("--task", words).made()
    if not isinstance(found, Task):
        raise UserError(
            f"--task {words} is a {type(found).__name__}; give a Task(loss_fn=...) of snt_core"
        )
    return None if found == Task() else found  # which is what is done without a task


def _as_taken(inputs: Any, model: Any) -> Any:
    """Return inputs in the number format of the net, if that is one alone and both are floats."""
    formats = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if len(formats) != 1 or not inputs.is_floating_point():
        return inputs
    return inputs.to(*formats)


def _format(model: Any) -> str:
    """Return the format of the net's numbers: of its weights, several where they differ."""
    names = {str(p.dtype).removeprefix("torch.") for p in model.parameters()}
    return " and ".join(sorted(names)) or "none"


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
