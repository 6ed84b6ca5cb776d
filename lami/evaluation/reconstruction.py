"""Rebuilding test videos from their first frames, and the L1 error of the result."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import lami
from lami.animation import Moved, PreparedSource, draw_panel
from lami.animation.loading import load_with_options
from lami.configs.schema import Config, Selector
from lami.data import TestClip, TestClips, find_clips, to_uint8, write_image
from lami.data.files import atomic_path
from lami.errors import ConfigError
from lami.model import LAMI
from lami.progress import track

_PANEL_ROWS = 4


@dataclass(frozen=True)
class ClipScore:
    """Mean absolute error over all pixels of a clip, for images in [0, 1]."""

    name: str
    frames: int
    l1: float
    """Of the reconstruction."""
    copy: float
    """Of showing the first frame all the time."""


@dataclass(frozen=True)
class Report:
    """Errors of each clip, and their mean over all frames, by which longer clips count more."""

    clips: tuple[ClipScore, ...]

    @property
    def frames(self) -> int:
        return sum(clip.frames for clip in self.clips)

    @property
    def l1(self) -> float:
        return sum(clip.l1 * clip.frames for clip in self.clips) / self.frames

    @property
    def copy(self) -> float:
        return sum(clip.copy * clip.frames for clip in self.clips) / self.frames

    def table(self) -> str:
        """The errors as lines of text."""
        rows = [*self.clips, ClipScore("mean over all frames", self.frames, self.l1, self.copy)]
        width = max(len(row.name) for row in rows)
        lines = [f"{'clip':<{width}}  frames      L1  L1 of copying the first frame"]
        lines += [f"{row.name:<{width}}  {row.frames:6d}  {row.l1:.4f}  {row.copy:.4f}" for row in rows]
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
    batch_size: int = 8,
    weights_vit: str | None = None,
) -> Report:
    """Rebuild each test clip from its first frame and the keypoints of all its frames, and score it.

    The background predictor is used if the model has one. Errors are those of the floating-point predictions. With an
    output folder, `png/NAME.png` holds the rebuilt frames side by side, `panels/NAME.png` shows what is generated
    between the poses, and `report.json` the errors. The table of errors is printed.

    Args:
        checkpoint: weight file of the model.
        config: says where the clips are (`config.data`); the networks are the checkpoint's.
        output: folder to write to; None writes nothing.
        limit: stop after this many clips.
        times: candidate times; None takes the checkpoint's.
        selector: None takes the checkpoint's.
        weights_vit: weights of the selector's transformer instead of the checkpoint's setting, see `ViTConfig.weights`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        batch_size: frames handled at once.

    Raises:
        ConfigError: `limit` or `batch_size` is less than 1.
        DataError: a clip cannot be read, naming it, or there is none.
        CheckpointError: the weight file cannot be used.
        WeightsUnavailableError: the selector's transformer cannot be had.
    """
    for name, value in (("limit", limit), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be 1 or more, got {value}")
    model = load_with_options(checkpoint, device, times, selector, weights_vit)
    clips = TestClips(find_clips(config.data, model.config.image_size).test, model.config.image_size)
    count = len(clips) if limit is None else min(limit, len(clips))
    folder = None if output is None else Path(output)
    scores = [
        _reconstruct_clip(model, clips[i], times, batch_size, folder)
        for i in track(range(count), description="reconstructing")
    ]
    report = Report(tuple(scores))
    if folder is not None:
        _write_report(folder / "report.json", report, model, checkpoint, times)
    print(report.table())
    return report


@torch.inference_mode()
def _reconstruct_clip(
    model: LAMI, clip: TestClip, times: Sequence[float] | None, batch_size: int, folder: Path | None
) -> ClipScore:
    source: PreparedSource | None = None
    l1 = copy = 0.0
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
        l1 += float((predictions - driving).abs().mean(dim=(1, 2, 3)).double().sum())
        copy += float((source.image - driving).abs().mean(dim=(1, 2, 3)).double().sum())
        if folder is not None:
            strip.extend(to_uint8(predictions))
            shown |= {f"frame {n}": frame for n, frame in enumerate(moved, start) if n in wanted}
    if folder is not None and source is not None:
        write_image(folder / "png" / f"{clip.name}.png", np.concatenate(strip, axis=1))
        panel = draw_panel(source, list(shown.values()), times, list(shown))
        write_image(folder / "panels" / f"{clip.name}.png", panel)
    return ClipScore(clip.name, len(clip), l1 / len(clip), copy / len(clip))


def _batches(frames: Iterable[Tensor], size: int) -> Iterator[tuple[int, Tensor]]:
    """Batches (B, 3, H, W), each with the number of its first frame."""
    iterator, start = iter(frames), 0
    while batch := list(islice(iterator, size)):
        yield start, torch.stack(batch)
        start += len(batch)


def _write_report(
    path: Path, report: Report, model: LAMI, checkpoint: str | Path, times: Sequence[float] | None
) -> None:
    content = {
        "lami": lami.__version__,
        "checkpoint": str(checkpoint),
        "image_size": model.config.image_size,
        "times": list(times or model.interpolation.times),
        "interpolation": model.interpolation.model_dump(),
        "vit": model.vit_config.model_dump(),
        "frames": report.frames,
        "l1": report.l1,
        "copy": report.copy,
        "clips": [asdict(clip) for clip in report.clips],
    }
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
