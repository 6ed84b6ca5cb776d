"""Rebuilding test videos from their first frames, and the L1 error of the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from lami.acceleration import Precision, pick_precision
from lami.animation import Moved, PreparedSource, draw_panel
from lami.animation.loading import identify, load_with_options
from lami.configs.schema import Config, DataConfig, Fusion, Selector
from lami.data import TestClips, find_clips, to_uint8, write_image
from lami.data.files import check_readable
from lami.data.sources import ClipSource
from lami.errors import DataError
from lami.evaluation.inputs import check_moving, check_positive
from lami.model import LAMI
from lami.processes import Processes, join_processes
from lami.progress import track
from lami.worklist import PATIENCE, Outcome, Task, work_through, write_report

_PANEL_ROWS = 4
_REPORTED = ("name", "frames", "l1", "copy")
"""Fields of `ClipScore` in `report.json`."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class ClipScore:
    """Mean absolute error over all pixels of a clip, for images in [0, 1]."""

    name: str
    frames: int
    l1: float
    """Of the reconstruction."""
    copy: float
    """Of showing the first frame all the time."""
    frame_l1: Sequence[float] = ()
    """Of the reconstruction of each frame, whose mean is `l1`."""


@dataclass(frozen=True)
class Report:
    """Errors of each clip, and their mean over all frames, by which longer clips count more."""

    clips: tuple[ClipScore, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    """Clips that are missing in the scores, and why."""

    @property
    def frames(self) -> int:
        """Number of all frames."""
        return sum(clip.frames for clip in self.clips)

    @property
    def l1(self) -> float:
        """Mean error of the reconstructions."""
        return sum(clip.l1 * clip.frames for clip in self.clips) / self.frames

    @property
    def copy(self) -> float:
        """Mean error of showing the first frames all the time."""
        return sum(clip.copy * clip.frames for clip in self.clips) / self.frames

    def table(self) -> str:
        """The errors as lines of text."""
        rows = [*self.clips, ClipScore("mean over all frames", self.frames, self.l1, self.copy)]
        width = max(len(row.name) for row in rows)
        lines = [f"{'clip':<{width}}  frames      L1  L1 of copying the first frame"]
        lines += [f"{row.name:<{width}}  {row.frames:6d}  {row.l1:.4f}  {row.copy:.4f}" for row in rows]
        lines += [f"{name:<{width}}  failed: {error}" for name, error in self.failed.items()]
        return "\n".join(lines)


def reconstruct(
    checkpoint: str | Path,
    config: Config,
    output: str | Path | None = None,
    *,
    limit: int | None = None,
    times: Sequence[float] | None = None,
    selector: Selector | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    batch_size: int = 8,
    weights_vit: str | None = None,
    fusion: Fusion | None = None,
) -> Report:
    """Rebuild each test clip from its first frame and the keypoints of all its frames, and score it.

    The background predictor is used if the model has one. Errors are those of the floating-point predictions. With an
    output folder, `png/NAME.png` holds the rebuilt frames side by side, `panels/NAME.png` shows what is generated
    between the poses, and `report.json` the errors. The table of errors is printed. A clip that fails is logged, and
    the others go on; `records/` holds what became of each, from which a later run with the same clips, checkpoint and
    options goes on (see `lami.worklist`; `batch_size` and `device` do not matter).

    Under torchrun the processes share the clips; all must see the output folder, and the first one prints and writes
    the report. Only one run at a time may write to a folder.

    Args:
        checkpoint: weight file of the model.
        config: says where the clips are (`config.data`); the networks are the checkpoint's.
        output: folder to write to; None writes nothing.
        limit: stop after this many clips.
        times: candidate times; None takes the checkpoint's.
        selector: None takes the checkpoint's.
        weights_vit: weights of the selector's transformer instead of the checkpoint's setting, see `ViTConfig.weights`.
        fusion: views of the second stage; None takes the checkpoint's, see `InterpolationConfig.fusion`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `auto`, `fp32` or `bf16`, see `lami.acceleration.accelerated`; the report says which.
        batch_size: frames handled at once.

    Returns:
        Scores of the clips of all processes, in the order of the clips.

    Raises:
        ConfigError: `limit` or `batch_size` is less than 1.
        DataError: there are no clips, one is a single frame, none can be rebuilt, or the output cannot be written.
        CheckpointError: the weight file cannot be used.
        WeightsUnavailableError: the selector's transformer cannot be had.
    """
    check_positive(limit=limit, batch_size=batch_size)
    with join_processes(device, PATIENCE) as processes:
        precision = pick_precision(precision, processes.device)
        model = load_with_options(checkpoint, str(processes.device), times, selector, weights_vit, fusion, precision)
        settings = {**identify(checkpoint, times, selector, weights_vit, fusion), "precision": precision}
        sources = find_clips(config.data, model.config.image_size).test[:limit]
        check_moving(sources)
        report = rebuild(model, settings, sources, config.data, output, processes, times, batch_size)
        if output is not None:
            write_report(Path(output), _content(report, model, checkpoint, times, precision), processes)
        if processes.first:
            print(report.table())
    return report


def rebuild(
    model: LAMI,
    identity: Mapping[str, Any],
    sources: Sequence[ClipSource],
    data: DataConfig,
    output: str | Path | None,
    processes: Processes,
    times: Sequence[float] | None = None,
    batch_size: int = 8,
    truncate: bool = False,
) -> Report:
    """As `reconstruct` for a model that is loaded and clips that are found, without the report and the printed table.

    Args:
        identity: what results depend on besides the clips, see `identify`.
        sources: clips to rebuild, and data: where they are from.
        truncate: round the images in `png/` down to whole levels, as TPSMM writes them, instead of to the nearest.
    """
    folder = None if output is None else Path(output)
    clips = TestClips(sources, model.config.image_size)
    settings = {**identity, "truncate": truncate, "fields": [field.name for field in fields(ClipScore)]}
    settings |= data.model_dump(mode="json", include={"frame_shape", "synthetic"})
    tasks = [
        Task(
            source.name,
            partial(_reconstruct_clip, model, clips, number, times, batch_size, folder, truncate),
            inputs=() if source.path is None else (source.path,),
            outputs=() if folder is None else (strip_path(folder, source.name), _panel(folder, source.name)),
        )
        for number, source in enumerate(sources)
    ]
    outcomes = work_through(tasks, folder, settings, processes, partial(track, description="reconstructing"))
    report = Report(
        clips=tuple(read_record(outcome, _score, folder) for outcome in outcomes if outcome.error is None),
        failed={outcome.name: outcome.error for outcome in outcomes if outcome.error is not None},
    )
    if not report.clips:
        raise DataError(f"none of {len(tasks)} test clips can be rebuilt: {next(iter(report.failed.values()))}")
    return report


def read_record(outcome: Outcome, read: Callable[[Outcome], Result], folder: Path | None) -> Result:
    """What `read` makes of the result of a task, which a record in the folder may hold.

    Raises:
        DataError: the record is damaged.
    """
    try:
        return read(outcome)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"the record of {outcome.name} in {folder}/records is damaged, delete it and run the same command again"
        ) from error


def _score(outcome: Outcome) -> ClipScore:
    score = ClipScore(outcome.name, **outcome.result)
    if len(score.frame_l1) != score.frames:
        raise ValueError("frames are missing")
    return score


@torch.inference_mode()
def _reconstruct_clip(
    model: LAMI,
    clips: TestClips,
    number: int,
    times: Sequence[float] | None,
    batch_size: int,
    folder: Path | None,
    truncate: bool,
) -> dict[str, Any]:
    """The fields of `ClipScore` besides the name."""
    clip = clips[number]
    source: PreparedSource | None = None
    l1: list[float] = []
    copy = 0.0
    strip: list[np.ndarray] = []
    shown: dict[str, Moved] = {}
    wanted = {round((i + 1) * (len(clip) - 1) / _PANEL_ROWS) for i in range(_PANEL_ROWS)}
    for start, driving in _batches(clip, batch_size):
        driving = driving.to(model.device)
        if source is None:
            source = PreparedSource(model, driving[:1])
        keypoints = source.detect(driving)
        moved = source.move(driving, keypoints, keypoints, times, source.background(driving))
        predictions = torch.stack([frame.prediction for frame in moved])
        l1 += (predictions - driving).abs().mean(dim=(1, 2, 3)).tolist()
        copy += float((source.image - driving).abs().mean(dim=(1, 2, 3)).cpu().double().sum())
        if folder is not None:
            strip.extend(to_uint8(predictions, truncate))
            shown |= {f"frame {n}": frame for n, frame in enumerate(moved, start) if n in wanted}
    if folder is not None and source is not None:
        write_image(strip_path(folder, clip.name), np.concatenate(strip, axis=1))
        panel = draw_panel(source, list(shown.values()), times, list(shown))
        write_image(_panel(folder, clip.name), panel)
    return {"frames": len(clip), "l1": math.fsum(l1) / len(clip), "copy": copy / len(clip), "frame_l1": l1}


def strip_path(folder: Path, name: str) -> Path:
    """Where `rebuild` writes the frames of a clip, side by side."""
    return folder / "png" / f"{name}.png"


def read_strip(path: Path) -> np.ndarray:
    """A strip that `rebuild` wrote, uint8 (H, W, 3): of any length, where `read_image` refuses what may be a bomb.

    Raises:
        DataError: it cannot be read.
    """
    check_readable(path)
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path} is damaged, delete it and run the same command again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _panel(folder: Path, name: str) -> Path:
    return folder / "panels" / f"{name}.png"


def _batches(frames: Iterable[Tensor], size: int) -> Iterator[tuple[int, Tensor]]:
    """Batches (B, 3, H, W), each with the number of its first frame."""
    iterator, start = iter(frames), 0
    while batch := list(islice(iterator, size)):
        yield start, torch.stack(batch)
        start += len(batch)


def _content(
    report: Report, model: LAMI, checkpoint: str | Path, times: Sequence[float] | None, precision: Precision
) -> dict[str, Any]:
    return {
        "checkpoint": str(checkpoint),
        "image_size": model.config.image_size,
        "times": list(times or model.interpolation.times),
        "interpolation": model.interpolation.model_dump(),
        "vit": model.vit_config.model_dump(),
        "precision": precision,
        "frames": report.frames,
        "l1": report.l1,
        "copy": report.copy,
        "clips": [{name: getattr(clip, name) for name in _REPORTED} for clip in report.clips],
        "failed": [{"name": name, "error": error} for name, error in report.failed.items()],
    }
