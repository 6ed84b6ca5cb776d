"""Checkpoints of a run: `step-00001000.safetensors`, loadable by `lami.load`, and the training state beside it.

Everything random derives from the seed and the step, so a step number and the optimisers are all the state there is.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from lami import checkpoint
from lami.data.files import atomic_path
from lami.errors import CheckpointError, DataError
from lami.model import LAMI
from lami.training.optimizers import Optimizers

logger = logging.getLogger(__name__)

_STATE_SUFFIX = ".state.pt"
_LOSSES = "losses.json"


class UnreadableError(CheckpointError):
    """A checkpoint whose files are damaged."""


class RunCheckpoints:
    """The checkpoints in a folder; a checkpoint counts once both of its files are complete.

    Args:
        folder: created when first needed.
        keep: how many of the newest to keep.
        keep_best: how many to keep besides, those that were saved with the lowest losses (`losses.json`).
    """

    def __init__(self, folder: Path, keep: int, keep_best: int = 0) -> None:
        self.folder = folder
        self.keep = keep
        self.keep_best = keep_best

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        found = [path for path in self.folder.glob("step-*.safetensors") if self._state(path).is_file()]
        return sorted(int(path.stem.removeprefix("step-")) for path in found)

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.safetensors"

    @staticmethod
    def _state(path: Path) -> Path:
        return path.with_name(path.stem + _STATE_SUFFIX)

    def best(self) -> list[int]:
        """Steps of the `keep_best` complete checkpoints with the lowest losses, the best first."""
        losses = self._losses()
        known = [step for step in self.steps() if step in losses]
        return sorted(known, key=lambda step: (losses[step], step))[: self.keep_best]

    def _losses(self) -> dict[int, float]:
        try:
            return {int(step): float(loss) for step, loss in json.loads((self.folder / _LOSSES).read_text()).items()}
        except (OSError, ValueError, AttributeError):  # none yet, or damaged, which costs nothing but the choice
            return {}

    def save(self, step: int, model: LAMI, optimizers: Optimizers, loss: float | None = None) -> Path:
        """Write a checkpoint, whole or not at all, then delete the oldest beyond `keep` and `keep_best`.

        loss: by which it may be among the best.

        Raises:
            CheckpointError: there is no room, for instance. The checkpoints before are intact.
        """
        path = self.path(step)
        state = self._state(path)
        temporary = state.with_name(f".{state.name}.{os.getpid()}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write_state({"step": step, "optimizers": optimizers.state_dict()}, temporary)
            os.replace(temporary, state)
            if loss is not None:
                kept = {known: value for known, value in self._losses().items() if self.path(known).is_file()}
                with atomic_path(self.folder / _LOSSES) as losses:
                    losses.write_text(json.dumps(kept | {step: loss}))
            checkpoint.save(model, path)
        except (OSError, DataError, CheckpointError) as error:
            if not path.is_file():
                state.unlink(missing_ok=True)
            before = self.steps()
            intact = f"step {before[-1]} is intact" if before else "there is none yet"
            raise CheckpointError(
                f"the checkpoint of step {step} cannot be written to {self.folder} ({_first_line(error)}); {intact}: "
                "make room, then go on with --resume"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        best = self.best()
        for old in self.steps()[: -self.keep]:
            if old not in best:
                self.path(old).unlink()
                self._state(self.path(old)).unlink()
        return path

    def resume(self, model: LAMI, optimizers: Optimizers) -> int:
        """Load the newest checkpoint that can be read into model and optimisers; returns its step.

        Also removes what a process that was killed while it wrote has left, and puts checkpoints that cannot be read
        aside, as `unreadable-step-...`.

        Raises:
            CheckpointError: there is none, none can be read, or it belongs to another configuration.
        """
        for stray in self.folder.glob(".*"):
            stray.unlink(missing_ok=True)
        steps = self.steps()
        if not steps:
            raise CheckpointError(f"there is no checkpoint to resume in {self.folder}; start without --resume")
        while True:
            try:
                self.load(steps[-1], model, optimizers)
                return steps[-1]
            except UnreadableError as error:
                if len(steps) == 1:
                    raise
                logger.warning("%s; going back to the checkpoint before", error)
                path = self.path(steps.pop())
                for file in (path, self._state(path)):
                    file.replace(file.with_name(f"unreadable-{file.name}"))

    def load(self, step: int, model: LAMI, optimizers: Optimizers) -> None:
        """Load one checkpoint into model and optimisers.

        Raises:
            UnreadableError: it cannot be read.
            CheckpointError: it belongs to another configuration.
        """
        path = self.path(step)
        try:
            saved, state = checkpoint.load(path, device="cpu"), _read_state(self._state(path))
        except CheckpointError as error:
            raise UnreadableError(str(error)) from error
        if saved.config != model.config:
            raise CheckpointError(
                f"{path} has another model configuration than this run; use the configuration it was started with"
            )
        checkpoint.load_tensors(model, dict(saved.state_dict()), path)
        if saved.seen_poses is not None:
            model.seen_poses = saved.seen_poses.to(model.device)
        optimizers.load_state_dict(state["optimizers"])


def _write_state(state: dict[str, Any], path: Path) -> None:
    try:
        torch.save(state, path)
    except RuntimeError as error:  # what PyTorch makes of a full disk, in several wordings
        if "DataLoader worker" in str(error):  # not of the writing: raised wherever its signal arrives
            raise
        raise OSError(_first_line(error)) from error


def _read_state(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} cannot be read ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
