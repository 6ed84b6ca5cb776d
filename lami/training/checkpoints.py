"""Checkpoints of a run: `step-00001000.safetensors`, loadable by `lami.load`, and the training state beside it.

Everything random derives from the seed and the step, so a step number and the optimisers are all the state there is.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from lami import checkpoint
from lami.errors import CheckpointError
from lami.model import LAMI
from lami.training.optimizers import Optimizers

_STATE_SUFFIX = ".state.pt"


class RunCheckpoints:
    """The checkpoints in a folder; a checkpoint counts once both of its files are complete.

    Args:
        folder: created when first needed.
        keep: how many of the newest to keep.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        found = [path for path in self.folder.glob("step-*.safetensors") if self._state(path).is_file()]
        return sorted(int(path.stem.removeprefix("step-")) for path in found)

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.safetensors"

    @staticmethod
    def _state(path: Path) -> Path:
        return path.with_name(path.stem + _STATE_SUFFIX)

    def save(self, step: int, model: LAMI, optimizers: Optimizers) -> Path:
        """Write a checkpoint, whole or not at all, then delete the oldest beyond `keep`."""
        path = self.path(step)
        state = self._state(path)
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = state.with_name(f".{state.name}.{os.getpid()}")
        try:
            torch.save({"step": step, "optimizers": optimizers.state_dict()}, temporary)
            os.replace(temporary, state)
        finally:
            temporary.unlink(missing_ok=True)
        checkpoint.save(model, path)
        for old in self.steps()[: -self.keep]:
            self.path(old).unlink()
            self._state(self.path(old)).unlink()
        return path

    def resume(self, model: LAMI, optimizers: Optimizers) -> int:
        """Load the newest checkpoint into model and optimisers; returns its step.

        Raises:
            CheckpointError: there is none, it cannot be read, or it belongs to another configuration.
        """
        steps = self.steps()
        if not steps:
            raise CheckpointError(f"there is no checkpoint to resume in {self.folder}; start without --resume")
        path = self.path(steps[-1])
        saved = checkpoint.load(path, device="cpu")
        if saved.config != model.config:
            raise CheckpointError(
                f"{path} has another model configuration than this run; use the configuration it was started with"
            )
        checkpoint.load_tensors(model, dict(saved.state_dict()), path)
        state = _read_state(self._state(path))
        optimizers.load_state_dict(state["optimizers"])
        return steps[-1]


def _read_state(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}); delete it to resume from the checkpoint before"
        ) from error
