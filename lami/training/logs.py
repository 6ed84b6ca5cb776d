"""Scalars and pictures of a run: JSON lines, TensorBoard, and one line each time on the console."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lami.data import write_image
from lami.errors import DataError, LamiError
from lami.processes import Processes

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)


class RunLog:
    """Averages losses on their device and reads them back only when it writes them.

    Args:
        folder: gets `log.jsonl`, `tensorboard/` and `panels/`, from the first process.
        start_step: step at which the run begins or resumes; entries after it, from a run that was cut off, are dropped.
        processes: those whose losses are averaged; all of them call `add` and `write` together.
    """

    def __init__(self, folder: Path, start_step: int, processes: Processes) -> None:
        self.folder = folder
        self._processes = processes
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._samples = 0
        self._warned = False
        self._since = time.monotonic()
        self._writer = self._open(start_step) if processes.first else None

    def _open(self, start_step: int) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "log.jsonl"
        if path.is_file():
            lines = [line for line in path.read_text().splitlines() if _step(line) <= start_step]
            shorter = path.with_suffix(".part")
            shorter.write_text("".join(line + "\n" for line in lines))
            shorter.replace(path)
        return SummaryWriter(str(folder / "tensorboard"), purge_step=start_step + 1)

    def add(self, losses: dict[str, Tensor], samples: int, weight: float = 1.0) -> None:
        """Losses of one batch of all processes, scalars on any device; nothing is read back here.

        weight: of this process in the mean over the batch, see `Processes.weight`.
        """
        for name, value in losses.items():
            value = value.detach() * weight
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._samples += samples

    def write(self, step: int, epoch: int, learning_rate: float) -> None:
        """Write the averages since the last call. Where they cannot be written a warning is enough: checkpoints matter.

        Raises:
            LamiError: a loss is not finite.
        """
        if not self._sums:
            return
        names = list(self._sums)
        means = torch.stack([self._sums[name].float() / self._counts[name] for name in names])
        losses = dict(zip(names, self._processes.mean(means).tolist(), strict=True))
        now = time.monotonic()
        rate = self._samples / max(now - self._since, 1e-9)
        self._sums, self._counts, self._samples, self._since = {}, {}, 0, now
        for name, value in losses.items():
            if not np.isfinite(value):
                raise LamiError(
                    f"the loss {name!r} is {value} before step {step}; lower training.learning_rate, or resume from "
                    "the last checkpoint"
                )
        if self._writer is None:
            return
        total = sum(losses.values())
        entry: dict[str, Any] = {
            "step": step,
            "epoch": epoch,
            "learning_rate": learning_rate,
            "samples_per_second": round(rate, 2),
            "total": total,
            **losses,
        }
        with self._warning():
            with (self.folder / "log.jsonl").open("a") as file:
                file.write(json.dumps(entry) + "\n")
            for name, value in {"total": total, **losses}.items():
                self._writer.add_scalar(f"loss/{name}", value, step)
            self._writer.add_scalar("schedule/learning_rate", learning_rate, step)
            self._writer.add_scalar("speed/samples_per_second", rate, step)
        parts = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        logger.info("step %d, epoch %d: total %.4f (%s), %.1f samples/s", step, epoch, total, parts, rate)

    def picture(self, step: int, image: NDArray[np.uint8]) -> None:
        """A visual panel, (H, W, 3) RGB."""
        with self._warning():
            write_image(self.folder / "panels" / f"step-{step:08d}.png", image)
            if self._writer is not None:
                self._writer.add_image("panel", image, step, dataformats="HWC")

    def close(self) -> None:
        with self._warning():
            if self._writer is not None:
                self._writer.close()

    @contextlib.contextmanager
    def _warning(self) -> Iterator[None]:
        """Turns a full disk into a warning, the first time."""
        try:
            yield
        except (OSError, DataError) as error:
            if not self._warned:
                logger.warning("logs and panels cannot be written to %s (%s); training goes on", self.folder, error)
            self._warned = True


def _step(line: str) -> float:
    """Step of an entry; infinite for a line that was cut off while it was written."""
    try:
        return json.loads(line)["step"]
    except json.JSONDecodeError:
        return float("inf")
