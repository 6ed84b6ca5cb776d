"""Pictures of how one frame of an animation came about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lami import ops
from lami.animation import Letterbox, Moved, PreparedSource, draw_panel
from lami.animation.letterbox import resize
from lami.data import VideoReader, read_image, to_tensor, to_uint8
from lami.errors import DataError
from lami.model import LAMI
from lami.models import EncodedImage, Motion
from lami.visualize import flow_to_color, grid
from lami.web.job import Job

_CELL = 160
"""Pixels that cells are wide at least."""
_COLUMNS = 6


@dataclass(frozen=True)
class Inside:
    """Pictures of one frame, uint8 (H, W, 3) each.

    strip: source, interpolated images with the selected one framed, driving frame and result, with keypoints.
    motion: flow, warped image and occlusion of each stage. contributions: weight of each spline's motion.
    """

    strip: np.ndarray
    motion: np.ndarray
    contributions: np.ndarray


@dataclass(frozen=True)
class _Stage:
    """From one image to the next: `start` and `result` (1, 3, H, W), `deformed` the warped start."""

    title: str
    start: Tensor
    motion: Motion
    deformed: Tensor
    result: Tensor


@torch.inference_mode()
def look_inside(model: LAMI, job: Job, number: int) -> Inside:
    """Frame `number` of a job that is done; everything is computed again.

    Raises:
        DataError: there is no such frame.
    """
    source, moved = _recall(model, job, number)
    stages = _stages(source, moved)
    times = _columns(model, job, moved.selected_time)
    return Inside(draw_panel(source, [moved], times), _draw_motion(stages), _draw_contributions(stages))


@torch.inference_mode()
def _recall(model: LAMI, job: Job, number: int) -> tuple[PreparedSource, Moved]:
    """The source, and the frame as it was made."""
    trace = job.trace
    if not 0 <= number < len(trace.keypoints):
        raise DataError(f"the animation has {len(trace.keypoints)} frames; choose one of them")
    with VideoReader(trace.seen, threads=1) as seen:
        [frame] = seen.frames([number])
    image = read_image(job.source)
    source = PreparedSource(model, _batch(Letterbox(image.shape[:2], model.config.image_size).apply(image), model))
    time = trace.selected_times[number]
    [moved] = source.move(
        _batch(frame, model),
        trace.driving_keypoints[number][None].to(model.device),
        trace.keypoints[number][None].to(model.device),
        (time,) if time else None,
    )
    return source, moved


def _batch(image: np.ndarray, model: LAMI) -> Tensor:
    return to_tensor(image[None]).to(model.device)


def _columns(model: LAMI, job: Job, selected: float) -> tuple[float, ...]:
    """Times to show: those that there were to choose from."""
    chosen = job.settings
    if (chosen.selector or model.interpolation.selector) == "fixed":
        return (selected,)
    return chosen.times or model.interpolation.times


def _stages(source: PreparedSource, moved: Moved) -> list[_Stage]:
    """Source to interpolated image to result; a single stage where there is no interpolated image."""
    model, time, kp_target = source.model, moved.selected_time, moved.keypoints[None]
    if not time:
        return [_stage("source to result", model, source.encoded, source.keypoints, kp_target)]
    times = torch.tensor([time], device=kp_target.device)
    kp_between = ops.anytime_keypoints(source.keypoints, kp_target, times)[:, 0]
    first = _stage(f"source to t = {time:.2g}", model, source.encoded, source.keypoints, kp_between)
    redetect = model.interpolation.keypoints == "redetect"
    kp_start = model.detect_keypoints(first.result) if redetect else kp_between
    return [first, _stage(f"t = {time:.2g} to result", model, model.encode(first.result), kp_start, kp_target)]


def _stage(title: str, model: LAMI, start: EncodedImage, kp_start: Tensor, kp_target: Tensor) -> _Stage:
    motion = model.predict_motion(start, kp_target, kp_start)
    made = model.generate(start, motion)
    return _Stage(title, start.image, motion, made.deformed, made.prediction)


def _draw_motion(stages: list[_Stage]) -> np.ndarray:
    flows = [stage.motion.flow[0].float().cpu().numpy() for stage in stages]
    rows = []
    for stage, flow in zip(stages, flows, strict=True):
        occlusion = _grey(stage.motion.occlusions[-1][0, 0])
        images = [to_uint8(image[0]) for image in (stage.start, stage.deformed, stage.result)]
        rows.append([_enlarged(image) for image in (images[0], flow_to_color(flow), images[1], occlusion, images[2])])
    captions = ["from", "flow", "warped", "kept (white)", "to"]
    return grid(rows, [stage.title for stage in stages], captions)


def _draw_contributions(stages: list[_Stage]) -> np.ndarray:
    rows: list[list[np.ndarray | None]] = []
    titles = []
    for stage in stages:
        maps = [_enlarged(_grey(weights)) for weights in stage.motion.contributions[0]]
        for first in range(0, len(maps), _COLUMNS):
            rows.append([*maps[first : first + _COLUMNS]])
            titles.append(stage.title)
    return grid(rows, titles)


def _grey(values: Tensor) -> np.ndarray:
    """Values (h, w) in [0, 1] as a picture."""
    return to_uint8(values.float().expand(3, *values.shape))


def _enlarged(image: np.ndarray) -> np.ndarray:
    scale = _CELL / min(image.shape[:2])
    return resize(image, *(round(side * scale) for side in image.shape[:2]))
