"""Comparing generated frames with the real ones, clip by clip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch

from lami.data import TestClip, TestClips, to_tensor, to_uint8
from lami.data.sources import ClipSource
from lami.evaluation.estimators import Frame, IdentityEstimator, KeypointEstimator, Keypoints
from lami.evaluation.images import LPIPS, psnr, ssim
from lami.evaluation.metrics import FrameErrors, KeypointErrors, compare_keypoints
from lami.worklist import Task

_BATCH = 16
_NOT_MEASURED = KeypointErrors()
ERRORS = tuple(field.name for field in (*fields(FrameErrors), *fields(KeypointErrors)) if field.name != "keypoints")
"""Of a frame, by the names of `flatten`."""


@dataclass(frozen=True)
class Measures:
    """What is measured besides L1, PSNR and SSIM; None leaves a measure out."""

    keypoints: KeypointEstimator | None = None
    identity: IdentityEstimator | None = None
    lpips: LPIPS | None = None


def scoring_tasks(
    sources: Sequence[ClipSource],
    generated: Sequence[ClipSource],
    image_size: tuple[int, int],
    measures: Measures,
    device: torch.device,
) -> list[Task]:
    """Tasks whose results hold the errors of each frame of a clip, as `read_errors` takes them.

    Args:
        sources: real clips.
        generated: clips in the same order, with as many frames each.
        image_size: (height, width) that both are compared at.
    """
    real, made = TestClips(sources, image_size), TestClips(generated, image_size)
    return [
        Task(
            source.name,
            partial(_score_clip, real, made, number, measures, device),
            inputs=tuple(clip.path for clip in (source, generated[number]) if clip.path is not None),
        )
        for number, source in enumerate(sources)
    ]


def read_errors(result: dict[str, Any]) -> list[FrameErrors]:
    """The errors of each frame from the result of a task, which JSON may have held: null stands for nan.

    Raises:
        KeyError, TypeError, ValueError: it is not such a result.
    """
    rows = zip(*(result[name] for name in ERRORS), strict=True)
    frames = []
    for row in rows:
        values: dict[str, Any] = {name: _number(value) for name, value in zip(ERRORS, row, strict=True)}
        points = {name: values.pop(name) for name in asdict(_NOT_MEASURED)}
        frames.append(FrameErrors(keypoints=KeypointErrors(**points), **values))
    return frames


def _number(value: Any) -> float:
    if value is not None and not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return math.nan if value is None else value


def flatten(errors: FrameErrors) -> dict[str, float]:
    """The errors of a frame by name."""
    values = asdict(errors)
    return values | values.pop("keypoints")


@torch.inference_mode()
def _score_clip(real: TestClips, made: TestClips, number: int, measures: Measures, device: torch.device) -> dict:
    clip, other = real[number], made[number]
    rows: list[FrameErrors] = []
    first: Keypoints | None = None
    for start in range(0, len(clip), _BATCH):
        numbers = range(start, min(start + _BATCH, len(clip)))
        real_images, made_images = _frames(clip, numbers), _frames(other, numbers)
        image_errors = _compare_images(made_images, real_images, measures.lpips, device)
        for index, n in enumerate(numbers):
            pair = (
                Frame(real_images[index], clip.name, n, generated=False),
                Frame(made_images[index], clip.name, n, generated=True),
            )
            points = _NOT_MEASURED
            if measures.keypoints is not None:
                found, found_in_generated = (measures.keypoints.keypoints(frame) for frame in pair)
                first = found if n == 0 else first
                points = compare_keypoints(found, found_in_generated, first)
            distance, embeddings = _identity(measures, pair)
            rows.append(FrameErrors(**image_errors[index], keypoints=points, identity=distance, embeddings=embeddings))
    flat = [flatten(row) for row in rows]
    return {name: [None if _is_nan(row[name]) else row[name] for row in flat] for name in ERRORS}


def _frames(clip: TestClip, numbers: range) -> np.ndarray:
    """uint8 (n, H, W, 3)."""
    return to_uint8(torch.stack([clip.frame(n) for n in numbers]))


def _compare_images(
    made: np.ndarray, real: np.ndarray, lpips: LPIPS | None, device: torch.device
) -> list[dict[str, float]]:
    generated, wanted = to_tensor(made).to(device), to_tensor(real).to(device)
    columns = {
        "l1": (generated - wanted).abs().mean(dim=(1, 2, 3)),
        "psnr": psnr(generated, wanted),
        "ssim": ssim(generated, wanted),
        "lpips": torch.full((len(made),), math.nan) if lpips is None else lpips(generated, wanted),
    }
    values = {name: column.tolist() for name, column in columns.items()}
    return [{name: column[n] for name, column in values.items()} for n in range(len(made))]


def _identity(measures: Measures, pair: tuple[Frame, Frame]) -> tuple[float, int]:
    """Distance of the embeddings, and how many the real frame has."""
    if measures.identity is None:
        return math.nan, 0
    real, generated = (measures.identity.embedding(frame) for frame in pair)
    distance = math.nan if real is None or generated is None else float(np.linalg.norm(real - generated))
    return distance, int(real is not None)


def _is_nan(value: float) -> bool:
    return isinstance(value, float) and math.isnan(value)
