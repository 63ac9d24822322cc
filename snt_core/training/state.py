"""The state of a training under way, saved whole or not at all."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snt_core.common.errors import UserError
from snt_core.common.sealed import Damaged, read_sealed, write_sealed

ODD = (ValueError, TypeError, AttributeError, EOFError)  # what foreign content leads to


@dataclass
class State:
    """The place of a training, its sums since the last reading, and its history.

    It is what a resumed run needs beside the weights and the optimizer's state.
    """

    loss: Tensor
    numerics: str
    step: int = 0
    since: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def save(self, path: Path, model: nn.Module, optimizer: Any, seconds: float) -> None:
        """Write it with the weights and the optimizer's state; `seconds` are added to its own."""
        buffer = io.BytesIO()
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "loss": self.loss,
            "step": self.step,
            "since": self.since,
            "seconds": self.seconds + seconds,
            "history": self.history,
            "numerics": self.numerics,
        }
        torch.save(state, buffer)
        write_sealed(path, buffer.getvalue())

    def restore(self, path: Path, model: nn.Module, optimizer: Any) -> None:
        """Take over what `save` wrote, every byte of it.

        Raises UserError if it is damaged or of another training.
        """
        try:
            content = io.BytesIO(read_sealed(path))
            saved = torch.load(content, map_location=self.loss.device, weights_only=True)
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            numerics = saved["numerics"]
        except (RuntimeError, pickle.UnpicklingError, LookupError, Damaged, *ODD) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"{path} does not fit ({reason}); remove it to start anew") from error
        if numerics != self.numerics:
            raise UserError(
                f"{path} was begun in {numerics}, not {self.numerics}: go on with the "
                f"options and the machine that it was begun with, or remove the file to start anew"
            )
        self.loss.copy_(saved["loss"])
        self.step, self.since = saved["step"], saved["since"]
        self.seconds, self.history = saved["seconds"], saved["history"]
