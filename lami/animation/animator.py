"""`Animator`: one source, moved by any number of driving frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lami.acceleration import Precision, accelerated
from lami.animation.crop import Box, Crop, choose_box, parse_crop
from lami.animation.detail import SourceDetail
from lami.animation.letterbox import Letterbox, OutputSize, check_image
from lami.animation.modes import KeypointTransfer, Mode
from lami.animation.prepared import Moved, PreparedSource
from lami.animation.smoothing import OneEuroFilter, Smoothing
from lami.data import Frame, read_image, to_tensor, to_uint8
from lami.errors import ConfigError
from lami.interpolation import Hysteresis, pick
from lami.model import LAMI, Candidates
from lami.pose import pose_distances

Granularity = Literal["frame", "clip", "hysteresis"]
Image = np.ndarray | Frame
"""uint8 (H, W, 3) of any size, alone or with its time in the video."""
Frames = Iterable[Image] | Callable[[], Iterable[Image]]
"""Frames in order, such as a `VideoReader`, or a function that starts them anew."""


@dataclass(frozen=True)
class AnimatedFrame:
    """The source in the pose of one driving frame: uint8 (H, W, 3) in the source's aspect, and how it came about."""

    image: np.ndarray
    moved: Moved

    @property
    def selected_time(self) -> float:
        """Candidate time that motion was transferred from, 0 for the source itself."""
        return self.moved.selected_time

    @property
    def keypoints(self) -> Tensor:
        """(K, N, 2) in the letterboxed image, that the source was moved to."""
        return self.moved.keypoints


class Animator:
    """Animates a source image; it is encoded once.

    Frames come one at a time (`step`) or in batches (`animate`); memory does not grow with their number.

    Args:
        model: put into eval mode; another Animator may use it too.
        source: image of any size, uint8 (H, W, 3), or its path.
        mode: `relative`, `absolute` or `avd`, see `KeypointTransfer`.
        times: candidate times; None takes the model's.
        granularity: choose the time for each `frame` (as published), once for the `clip`, or with `hysteresis`, which
            flickers less.
        reference: driving frame that shows the source's own pose, for relative mode; None takes the first one.
        batch_size: frames that `animate` handles at once.
        background: predict the camera's motion; only for driving frames of the source's own video.
        size: `model` gives images as large as the model's, `source` enlarges them to the source's size, `source-detail`
            also takes what stays visible of the source from the source at its full size, see `SourceDetail`.
        precision: `fp32` computes as the model does; `bf16` takes a copy of it with networks in bf16, see
            `lami.acceleration.accelerated`; `auto` does so where the hardware is made for it.
        compile: compile the networks, which takes minutes and pays for thousands of frames.
        strength: how far keypoints move from the source's: 0 stays, 1 moves as driven, 1.5 exaggerates.
        smoothing: smooth the driving keypoints in time, see `Smoothing`; None takes them as detected. Frames that are
            `Frame`s are where their times say, others 1/25 s apart.
        crop: part that is used as the source: `none` takes all of it, `centre` the largest part in the model's aspect,
            `keypoints` a box around the model's own keypoints; or LEFT,TOP,WIDTH,HEIGHT in pixels, text or numbers.

    Raises:
        ConfigError: an option that does not exist or that the model cannot serve.
        DataError: the source is no usable image, or the crop reaches outside of it.
    """

    def __init__(
        self,
        model: LAMI,
        source: np.ndarray | str | Path,
        mode: Mode = "relative",
        times: Sequence[float] | None = None,
        granularity: Granularity = "frame",
        reference: np.ndarray | None = None,
        batch_size: int = 8,
        background: bool = False,
        size: OutputSize = "model",
        precision: Precision = "auto",
        compile: bool = False,
        strength: float = 1.0,
        smoothing: Smoothing | None = None,
        crop: Crop = "none",
    ) -> None:
        for name, value, known in (("granularity", granularity, Granularity), ("size", size, OutputSize)):
            if value not in get_args(known):
                raise ConfigError(f"unknown {name} {value!r}; use one of {', '.join(get_args(known))}")
        if times is not None and not model.interpolation.enabled:
            raise ConfigError("this model has interpolation switched off and no use for times; leave them out")
        if times is not None and not (times and all(0 < t < 1 for t in times)):
            raise ConfigError(f"times must be one or more numbers strictly between 0 and 1, got {tuple(times)}")
        if batch_size < 1:
            raise ConfigError(f"batch_size must be 1 or more, got {batch_size}")
        crop = parse_crop(crop)
        self.model = model = accelerated(model, precision, compile)
        self.mode = mode
        self.granularity = granularity
        self.batch_size = batch_size
        self.size: OutputSize = size
        self._times = times
        self._use_background = background
        self._whole_batches = compile
        image = source if isinstance(source, np.ndarray) else read_image(source)
        check_image(image)
        self.box = self._find_box(image, crop, "the source" if isinstance(source, np.ndarray) else source)
        """The part of the source that is animated."""
        image = self.box.cut(image)
        self.letterbox = Letterbox(image.shape[:2], model.config.image_size)
        with torch.inference_mode():
            self.source = PreparedSource(model, self._to_model([image]))
            self._transfer = KeypointTransfer(model, self.source.keypoints, mode, strength)
        self._smooth = None if smoothing is None else OneEuroFilter(smoothing)
        self._detail = SourceDetail(image, self.letterbox, model.device) if size == "source-detail" else None
        self._has_reference = False
        self.reset()
        if reference is not None:
            self.refer_to(reference)

    @property
    def start_distance(self) -> float | None:
        """Pose distance between source and reference frame (relative mode), see `pose_distance`; None without one."""
        return self._transfer.start_distance

    @property
    def farthest_distance(self) -> float:
        """Largest pose distance that the source was moved by since the last `reset`, see `pose_distance`."""
        return float(self._farthest)

    def refer_to(self, frame: np.ndarray) -> None:
        """Take this driving frame, uint8 (H, W, 3), as the one that shows the source's own pose (relative mode)."""
        [keypoints] = self.detect([frame])
        self._transfer.refer_to(keypoints)
        self._has_reference = True

    def reset(self) -> None:
        """Forget earlier frames: the last choice of time, smoothed keypoints, and the reference unless it was given."""
        self._hysteresis = Hysteresis()
        self._farthest = torch.zeros((), device=self.model.device)
        if self._smooth is not None:
            self._smooth.reset()
        if not self._has_reference:
            self._transfer.forget_reference()

    def step(self, frame: Image) -> AnimatedFrame:
        """The source moved by the next driving frame, uint8 (H, W, 3) of any size, alone or with its time.

        Raises:
            ConfigError: granularity `clip`, which must see all frames first.
        """
        if self.granularity == "clip":
            raise ConfigError("granularity clip needs the whole video; use animate(), or granularity hysteresis")
        return self._batch([frame], self._times)[0]

    def animate(self, frames: Frames) -> Iterator[AnimatedFrame]:
        """The source moved by each frame of a video, after a `reset`.

        Args:
            frames: the frames in order. Granularity `clip` goes through them twice, and so takes a list or a function
                that returns them, not an iterator.

        Raises:
            ConfigError: an iterator with granularity `clip`.
        """
        if not callable(frames) and self.granularity == "clip" and iter(frames) is frames:
            raise ConfigError("granularity clip reads the frames twice; give a list or a function that returns them")
        self.reset()
        return self._animate(frames)

    def detect(self, frames: Iterable[Image]) -> Iterator[Tensor]:
        """Keypoints of driving frames, in batches (B, K, N, 2), as they are without smoothing."""
        for batch in _batches(frames, self.batch_size):
            with torch.inference_mode():
                keypoints = self.source.detect(self._to_model(batch))
            yield keypoints

    def _animate(self, frames: Frames) -> Iterator[AnimatedFrame]:
        times = self._times
        if self.granularity == "clip" and self.model.interpolation.enabled:
            times = self._times_of_clip(_start(frames))
            if self._smooth is not None:
                self._smooth.reset()
        for batch in _batches(_start(frames), self.batch_size):
            # Networks are compiled for one batch size: the last frame fills the last batch.
            missing = self.batch_size - len(batch) if self._whole_batches else 0
            yield from self._batch(batch + batch[-1:] * missing, times)[: len(batch)]

    @torch.inference_mode()
    def _batch(self, frames: Sequence[Image], times: Sequence[float] | None) -> list[AnimatedFrame]:
        driving, kp_driving, kp_target, background = self._target(frames)
        moved = self.source.move(driving, kp_driving, kp_target, times, background, self._choose)
        images = to_uint8(torch.stack([frame.prediction for frame in moved]))
        return [AnimatedFrame(self._finish(image, frame), frame) for image, frame in zip(images, moved, strict=True)]

    def _finish(self, image: np.ndarray, moved: Moved) -> np.ndarray:
        """The model's image, uint8 (H, W, 3), without its borders and at the size asked for."""
        cropped = self.letterbox.crop(image, self.size)
        return cropped if self._detail is None else self._detail.draw(moved, cropped)

    @torch.inference_mode()
    def _times_of_clip(self, frames: Iterable[Image]) -> Sequence[float] | None:
        """The one candidate time whose mean cost over all frames is lowest."""
        interpolation = self.model.interpolation
        times = interpolation.times if self._times is None else self._times
        if interpolation.selector == "random":
            return (times[int(torch.randint(len(times), ()))],)
        if interpolation.selector == "fixed" or len(times) == 1:
            return self._times
        costs = []
        for batch in _batches(frames, self.batch_size):
            _, _, kp_target, background = self._target(batch)
            cost = self.source.candidates(kp_target, times, background).cost
            assert cost is not None  # there are several times to choose from
            costs.append(cost)
        if not costs:
            return times
        return (times[int(pick(torch.cat(costs).cpu().double().mean(dim=0, keepdim=True)))],)

    def _target(self, frames: Sequence[Image]) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Driving images, their keypoints, the keypoints to move the source to, and the camera's motion."""
        driving = self._to_model(frames)
        kp_driving = self.source.detect(driving)
        background = self.source.background(driving) if self._use_background else None
        smooth = kp_driving
        if self._smooth is not None:
            smooth = self._smooth(kp_driving, [frame.time if isinstance(frame, Frame) else None for frame in frames])
        kp_target = self._transfer(smooth)
        farthest = pose_distances(self.source.keypoints, kp_target).max()
        self._farthest = torch.maximum(self._farthest, farthest)  # read by who wants to know: reading waits for a GPU
        return driving, kp_driving, kp_target, background

    @torch.inference_mode()
    def _find_box(self, image: np.ndarray, crop: Crop, name: str | Path) -> Box:
        """The part of the source, uint8 (H, W, 3), to animate."""

        def detect(box: Box) -> Tensor:
            return self.model.detect_keypoints(self._to_model([box.cut(image)]))

        return choose_box(crop, image.shape[:2], self.model.config.image_size, name, detect)

    def _choose(self, candidates: Candidates) -> Tensor:
        if self.granularity == "hysteresis" and candidates.cost is not None:
            return self._hysteresis.pick(candidates.cost)
        return candidates.best()

    def _to_model(self, frames: Sequence[Image]) -> Tensor:
        """Frames of any size, letterboxed: (B, 3, H, W) in [0, 1] on the model's device."""
        size = self.model.config.image_size
        images = [frame.image if isinstance(frame, Frame) else frame for frame in frames]
        for image in images:
            check_image(image)
        boxed = np.stack([Letterbox(image.shape[:2], size).apply(image) for image in images])
        return to_tensor(boxed).to(self.model.device)


def _start(frames: Frames) -> Iterable[Image]:
    return frames() if callable(frames) else frames


def _batches(frames: Iterable[Image], size: int) -> Iterator[list[Image]]:
    iterator = iter(frames)
    while batch := list(islice(iterator, size)):
        yield batch
