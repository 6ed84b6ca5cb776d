"""Figures and pictures of a run: JSON lines, trackers, and one line each time on the console."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import resource
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lami.data import write_image
from lami.errors import DataError, LamiError
from lami.processes import Processes
from lami.training.trackers import Tracker

logger = logging.getLogger(__name__)

_PATIENCE = 3
"""Steps in a row that may be skipped before the run ends."""


@dataclass(frozen=True)
class _Row:
    """One step, still on the device."""

    step: int
    losses: Mapping[str, Tensor]
    norms: Mapping[str, Tensor]
    times: Tensor | None


class RunLog:
    """Keeps figures on their device and reads them back only when it writes them.

    Args:
        folder: gets `log.jsonl`, `anomalies.jsonl` and `panels/`, from the first process.
        start_step: step at which the run begins or resumes; entries after it, from a run that was cut off, are dropped.
        processes: those whose losses are averaged; all of them call `add` and `write` together.
        trackers: of the first process; they are shown what is written.
    """

    def __init__(self, folder: Path, start_step: int, processes: Processes, trackers: Sequence[Tracker] = ()) -> None:
        self.folder = folder
        self._processes = processes
        self._trackers = trackers
        self._rows: list[_Row] = []
        self._samples = 0
        self._skipped_in_a_row = 0
        self._warned = False
        self._since = time.monotonic()
        if processes.first:
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("log.jsonl", "anomalies.jsonl"):
                _cut(folder / name, start_step)

    def add(
        self, step: int, losses: Mapping[str, Tensor], norms: Mapping[str, Tensor], times: Tensor | None, samples: int
    ) -> None:
        """One step; nothing is read back here.

        Args:
            losses: scalars on any device, weighted so that the mean over processes is that over the batch.
            norms: largest gradient of each network, before clipping.
            times: selected times of this process's samples, any shape; None before interpolation starts.
            samples: pairs of all processes.
        """
        self._rows.append(_Row(step, losses, norms, times))
        self._samples += samples

    def write(self, step: int, epoch: int, learning_rate: float) -> tuple[dict[str, float], int]:
        """Write the averages since the last call. Where they cannot be written a warning is enough: checkpoints matter.

        Returns:
            Mean losses of the steps that counted, the same in every process, and how many these were.

        Raises:
            LamiError: three steps in a row were skipped, because a loss or gradient was not finite.
        """
        if not self._rows:
            return {}, 0
        rows, values = self._rows, self._read()
        now = time.monotonic()
        rate = self._samples / max(now - self._since, 1e-9)
        self._rows, self._samples, self._since = [], 0, now

        losses: dict[str, list[float]] = {}
        norms: dict[str, list[float]] = {}
        skipped = 0
        for row in rows:
            of_losses = {name: next(values) for name in row.losses}
            of_norms = {name: next(values) for name in row.norms}
            wrong = [f"loss {name}" for name, value in of_losses.items() if not math.isfinite(value)]
            wrong += [f"gradient of {name}" for name, value in of_norms.items() if not math.isfinite(value)]
            if wrong:
                skipped += 1
                self._skipped(row.step, wrong, of_losses, of_norms, learning_rate)
                continue
            self._skipped_in_a_row = 0
            for name, value in of_losses.items():
                losses.setdefault(name, []).append(value)
            for name, value in of_norms.items():
                norms.setdefault(name, []).append(value)
        means = {name: sum(each) / len(each) for name, each in losses.items()}
        if self._processes.first:
            times = torch.cat([row.times.flatten() for row in rows if row.times is not None] or [torch.empty(0)])
            speed = {"samples_per_second": rate, "peak_memory_gb": _peak_memory(self._processes.device) / 1e9}
            self._show(step, epoch, learning_rate, means, norms, times.tolist(), speed, skipped)
        return means, len(rows) - skipped

    def _read(self) -> Iterator[float]:
        """All figures of all rows, in one transfer."""
        scalars = [value for row in self._rows for value in (*row.losses.values(), *row.norms.values())]
        return iter(self._processes.mean(torch.stack([value.detach().float() for value in scalars])).tolist())

    def _skipped(
        self, step: int, wrong: list[str], losses: dict[str, float], norms: dict[str, float], learning_rate: float
    ) -> None:
        self._skipped_in_a_row += 1
        what = ", ".join(wrong)
        if self._processes.first:
            logger.warning("step %d is left out: not finite: %s", step, what)
            entry = {"step": step, "not_finite": wrong, "learning_rate": learning_rate}
            # JSON has no NaN.
            entry |= {"losses": _as_text(losses), "gradient_norms": _as_text(norms)}
            with self._warning():
                _append(self.folder / "anomalies.jsonl", entry)
        if self._skipped_in_a_row == _PATIENCE:
            raise LamiError(
                f"{_PATIENCE} steps in a row, up to step {step}, were left out because these were not finite: {what}; "
                f"weights and checkpoints are as before them: see {self.folder / 'anomalies.jsonl'}, lower "
                "training.learning_rate or the weight of that loss, and go on with --resume"
            )

    def _show(
        self,
        step: int,
        epoch: int,
        learning_rate: float,
        losses: dict[str, float],
        norms: dict[str, list[float]],
        times: list[float],
        speed: dict[str, float],
        skipped: int,
    ) -> None:
        total = sum(losses.values())
        largest = {name: max(each) for name, each in norms.items()}
        entry: dict[str, Any] = {"step": step, "epoch": epoch, "learning_rate": learning_rate}
        entry |= {name: round(value, 3) for name, value in speed.items()}
        if losses:
            entry |= {"total": total, **losses, "gradient_norms": largest}
        if times:
            entry["selected_times"] = {f"{time:.4g}": count for time, count in sorted(Counter(times).items())}
        if skipped:
            entry["skipped"] = skipped
        with self._warning():
            _append(self.folder / "log.jsonl", entry)
            scalars = {f"loss/{name}": value for name, value in losses.items()}
            scalars |= {"loss/total": total} if losses else {}
            scalars |= {f"gradient/{name}": value for name, value in largest.items()}
            scalars |= {f"speed/{name}": value for name, value in speed.items()}
            scalars |= {"schedule/learning_rate": learning_rate, "schedule/skipped_steps": float(skipped)}
            for tracker in self._trackers:
                tracker.scalars(step, scalars)
                if times:
                    tracker.histogram(step, "selected_time", times)
        parts = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        logger.info(
            "step %d, epoch %d: total %.4f (%s), %.1f samples/s", step, epoch, total, parts, speed["samples_per_second"]
        )

    def picture(self, step: int, image: NDArray[np.uint8]) -> None:
        """A visual panel, (H, W, 3) RGB."""
        with self._warning():
            write_image(self.folder / "panels" / f"step-{step:08d}.png", image, generated=False)
            for tracker in self._trackers:
                tracker.picture(step, "panel", image)

    def close(self) -> None:
        with self._warning():
            for tracker in self._trackers:
                tracker.close()

    @contextlib.contextmanager
    def _warning(self) -> Iterator[None]:
        """Turns a full disk into a warning, the first time."""
        try:
            yield
        except (OSError, DataError) as error:
            if not self._warned:
                logger.warning("logs and panels cannot be written to %s (%s); training goes on", self.folder, error)
            self._warned = True


def _append(path: Path, entry: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")


def _cut(path: Path, last: int) -> None:
    """Drop entries after step `last`."""
    if not path.is_file():
        return
    lines = [line for line in path.read_text().splitlines() if _step(line) <= last]
    shorter = path.with_suffix(".part")
    shorter.write_text("".join(line + "\n" for line in lines))
    shorter.replace(path)


def _step(line: str) -> float:
    """Step of an entry; infinite for a line that was cut off while it was written."""
    try:
        return json.loads(line)["step"]
    except json.JSONDecodeError:
        return float("inf")


def _as_text(values: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.6g}" for name, value in values.items()}


def _peak_memory(device: torch.device) -> int:
    """Bytes: on a GPU the most that tensors took so far, on a CPU the most that the process took."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
