"""`animate_live`: a camera drives a source while it records."""

from __future__ import annotations

import contextlib
import logging
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from lami.acceleration import Precision
from lami.animation.animator import Animator, Granularity
from lami.animation.crop import Box, Crop, fixed_box, parse_crop
from lami.animation.letterbox import OutputSize
from lami.animation.loading import load_with_options
from lami.animation.modes import Mode
from lami.animation.pipeline import read_ahead
from lami.animation.pose import tell_farthest
from lami.animation.smoothing import Smoothing
from lami.configs.schema import Fusion, Selector
from lami.data import WRITABLE_SUFFIXES, Frame, VideoWriter, check_output, read_image
from lami.data.camera import Camera
from lami.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

_REMEMBERED = 1000
"""Frames whose latency is told at the end."""
_ESCAPE = 27


def animate_live(
    checkpoint: str | Path,
    source: str | Path,
    camera: Camera,
    output: str | Path,
    *,
    seconds: float | None = None,
    show: bool = False,
    mode: Mode = "relative",
    strength: float = 1.0,
    smoothing: Smoothing | None = None,
    times: Sequence[float] | None = None,
    selector: Selector | None = None,
    granularity: Granularity = "frame",
    size: OutputSize = "model",
    crop: Crop = "none",
    crop_driving: Crop = "none",
    device: str = "auto",
    precision: Precision = "auto",
    weights_vit: str | None = None,
    fusion: Fusion | None = None,
    label: bool = False,
    overwrite: bool = False,
) -> Path:
    """Animate a source image with a camera and record the result, frame by frame as they come.

    Frames that come while the model works are left out, so that the result never falls behind; those that are shown
    keep their times. Ctrl-C ends the recording and finishes the video.

    Args:
        checkpoint, source, output: as in `animate_file`.
        camera: `lami.data.Webcam`, or anything else that gives frames; it is closed at the end.
        seconds: end after this time; None goes on until Ctrl-C, or until the camera ends.
        show: also show the result in a window; Escape, q or closing it end the recording.
        mode, strength, smoothing, times, granularity, size, crop, precision: see `Animator`.
        crop_driving: part of the camera's frames to use, `none`, `centre` or LEFT,TOP,WIDTH,HEIGHT in pixels.
        selector, device, weights_vit, fusion, label, overwrite: see `animate_file`.

    Returns:
        The path of the output.

    Raises:
        ConfigError: options that do not go together, or a window where there can be none.
        DataError: a file cannot be read or written or exists already, the camera gives no frame, or a crop reaches
            outside of the source or the camera's frames.
        CheckpointError: the weight file cannot be used.
        WeightsUnavailableError: the selector's transformer cannot be had.
    """
    output = Path(output)
    with closing(camera):
        if granularity == "clip":
            raise ConfigError("granularity clip needs the whole video; use frame or hysteresis with a camera")
        crop, crop_driving = parse_crop(crop), parse_crop(crop_driving)
        if crop_driving == "keypoints":
            raise ConfigError(
                "crop_driving keypoints looks at all frames first, which a camera has not taken yet; use centre, or a "
                "box LEFT,TOP,WIDTH,HEIGHT"
            )
        if seconds is not None and not seconds > 0:
            raise ConfigError(f"seconds must be above 0, got {seconds}")
        if output.suffix.lower() not in WRITABLE_SUFFIXES:
            raise DataError(f"{output} is no name of a video; use one of {', '.join(sorted(WRITABLE_SUFFIXES))}")
        check_output(output, (Path(source), Path(checkpoint)), overwrite)
        if output.suffix.lower() == ".gif":
            raise DataError(f"{output}: gif has too few times for a recording; write an mp4, and convert that")
        window = _Window("lami") if show else None
        image = read_image(source)
        fixed_box(crop, image.shape[:2], image.shape[:2], source)  # before the model is loaded, with the file's name
        model = load_with_options(checkpoint, device, times, selector, weights_vit, fusion, precision)
        animator = Animator(
            model,
            image,
            mode,
            times,
            granularity,
            size=size,
            precision=precision,
            strength=strength,
            smoothing=smoothing,
            crop=crop,
        )
        latencies: deque[float] = deque(maxlen=_REMEMBERED)
        with (
            VideoWriter(output, camera.rate, label=label) as writer,
            closing(read_ahead(_frames(camera, crop_driving, model.config.image_size), 1, newest=True)) as frames,
        ):
            logger.info("recording to %s; %s", output, "Ctrl-C ends it" if seconds is None else f"{seconds:g} seconds")
            try:
                for frame in frames:
                    if seconds is not None and frame.time >= seconds:
                        break
                    started = time.perf_counter()
                    result = animator.step(frame)
                    latencies.append(time.perf_counter() - started)
                    writer.write(result.image, frame.time)
                    if window is not None and not window.show(result.image):
                        break
            except KeyboardInterrupt:
                logger.info("the recording was ended")
            finally:
                if window is not None:
                    window.close()
        tell_farthest(animator.farthest_distance, model.seen_poses)
        logger.info("%s: %.0f ms from a frame to its image (median)", output, 1000 * statistics.median(latencies))
    return output


def _frames(camera: Camera, crop: Crop, model_size: tuple[int, int]) -> Generator[Frame, None, None]:
    """The part of the frames that is used, with the time since the first one."""
    first = None
    box: Box | None = None
    while (image := camera.read()) is not None:
        now = time.monotonic_ns()
        first = now if first is None else first
        box = fixed_box(crop, image.shape[:2], model_size, "the camera's picture") if box is None else box
        yield Frame(box.cut(image), Fraction(now - first, 10**9))


class _Window:
    """Raises `ConfigError` where there can be none: OpenCV without windows, or a computer without a display."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._seen = False
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ConfigError("there is no display to show a window on; leave out --show, the video is written anyway")
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise ConfigError(
                "this OpenCV has no windows; leave out --show, or install opencv-python instead of "
                "opencv-python-headless"
            ) from error

    def show(self, image: np.ndarray) -> bool:
        """Whether to go on."""
        try:
            cv2.imshow(self._title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            pressed = cv2.waitKey(1) & 0xFF
            visible = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:  # some builds have it for a window that was closed
            return False
        closed = self._seen and not visible  # other builds never tell
        self._seen = self._seen or visible
        return pressed not in (_ESCAPE, ord("q")) and not closed

    def close(self) -> None:
        """Take it away, if it is still there."""
        with contextlib.suppress(cv2.error):
            cv2.destroyWindow(self._title)
