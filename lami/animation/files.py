"""`animate_file`: from files to a file."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol, TypeVar, get_args

import torch
from torch import Tensor

from lami.acceleration import Precision
from lami.animation.animator import Animator, Granularity
from lami.animation.best_frame import find_best_frame
from lami.animation.chain import ChainWriter
from lami.animation.crop import Box, Crop, choose_box, fixed_box, parse_crop
from lami.animation.letterbox import OutputSize
from lami.animation.loading import load_with_options
from lami.animation.modes import Mode
from lami.animation.panel import draw_panel
from lami.animation.pipeline import read_ahead, write_behind
from lami.animation.pose import tell_farthest
from lami.animation.smoothing import Smoothing
from lami.configs.schema import Fusion, Selector
from lami.data import (
    WRITABLE_IMAGE_SUFFIXES,
    WRITABLE_SUFFIXES,
    Frame,
    Moving,
    Resampled,
    VideoReader,
    VideoWriter,
    check_output,
    is_still,
    open_moving,
    parse_rate,
    read_image,
    write_image,
)
from lami.errors import ConfigError, DataError
from lami.model import LAMI
from lami.progress import track

logger = logging.getLogger(__name__)

Audio = Literal["driving", "none"]
Rate = Fraction | float | str
"""`keep`, or frames a second as in `parse_rate`."""

Item = TypeVar("Item")

_PANEL_ROWS = 4


class Track(Protocol):
    """Passes on items, frames that are read or made, and may show how far they are, or raise to end the work."""

    def __call__(self, items: Iterable[Item], total: int, description: str, /) -> Iterable[Item]: ...


def animate_file(
    checkpoint: str | Path | LAMI,
    source: str | Path,
    driving: str | Path,
    output: str | Path,
    *,
    mode: Mode = "relative",
    strength: float = 1.0,
    smoothing: Smoothing | None = None,
    times: Sequence[float] | None = None,
    selector: Selector | None = None,
    granularity: Granularity = "frame",
    best_frame: bool = False,
    audio: Audio = "driving",
    fps: Rate = "keep",
    size: OutputSize = "model",
    crop: Crop = "none",
    crop_driving: Crop = "none",
    label: bool = False,
    batch_size: int = 8,
    device: str = "auto",
    precision: Precision = "auto",
    weights_vit: str | None = None,
    fusion: Fusion | None = None,
    save_panel: str | Path | None = None,
    save_chain: str | Path | None = None,
    overwrite: bool = False,
    progress: Track = track,
) -> Path:
    """Animate a source image with a driving video and write the result, whole or not at all.

    The result has the frames, frame times and sound of the driving video and the aspect of the source, or of its crop;
    `fps` changes the former two. A driving image gives an image, in absolute mode.

    Args:
        checkpoint: weight file of the model, or a loaded model, whose own the device, selector and transformer are.
        source: image of any size.
        driving: video, animated picture, folder of frames (25 a second), or an image.
        output: video to write, or an image if `driving` is one; missing folders are created.
        mode, strength, smoothing, granularity, size, crop, batch_size: see `Animator`.
        times: candidate times; None takes the checkpoint's. Selector `fixed` takes one.
        selector: None takes the checkpoint's.
        best_frame: refer to the driving frame whose pose is nearest to the source's instead of the first.
        audio: sound of the driving video, or none.
        fps: frames a second of the result, such as 25 or "30000/1001": driving frames are repeated or left out, and the
            sound stays in step. `keep` takes all of them when they come. A driving image has no rate.
        crop_driving: part of the driving frames to use, as `crop`: one box for all frames, which `keypoints` looks for
            in all of them, twice.
        label: write at the bottom edge of the frames that they are generated; the file's metadata always say so.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `auto`, `fp32` or `bf16`, see `Animator`.
        weights_vit: weights of the selector's transformer instead of the checkpoint's setting, see `ViTConfig.weights`.
        fusion: views of the second stage; None takes the checkpoint's, see `InterpolationConfig.fusion`.
        save_panel: picture to write that shows what is generated between source and driving pose, of a few frames.
        save_chain: the same of the frame that is moved farthest (a picture) or of all frames (a video).
        overwrite: replace outputs that exist.
        progress: passes on the frames as they are searched and made, given their number and a description; what it
            raises ends the work.

    Returns:
        The path of the output.

    Raises:
        ConfigError: options that do not go together or that the model cannot serve.
        DataError: a file cannot be read or written, or exists already, or a crop reaches outside of it.
        CheckpointError: the weight file cannot be used.
        WeightsUnavailableError: the selector's transformer cannot be had.
    """
    source, driving, output = Path(source), Path(driving), Path(output)
    panel, chain = (None if path is None else Path(path) for path in (save_panel, save_chain))
    still = is_still(driving)
    if audio not in get_args(Audio):
        raise ConfigError(f"unknown audio {audio!r}; use one of {', '.join(get_args(Audio))}")
    weights = () if isinstance(checkpoint, LAMI) else (Path(checkpoint),)
    rate = None if fps == "keep" else parse_rate(fps)
    crop, crop_driving = parse_crop(crop), parse_crop(crop_driving)
    if still and rate is not None:
        raise DataError(f"{driving} is an image, which has no frames a second; leave out fps, or give a video")
    _check_paths({"the result": output, "the panel": panel, "the chain": chain}, still)
    for path in (output, panel, chain):
        if path is not None:
            check_output(path, (*weights, source, driving), overwrite)
    if still and mode == "relative":
        logger.info("a single driving image has no motion of its own: using mode absolute instead of relative")
        mode = "absolute"
    elif best_frame and mode != "relative":
        raise ConfigError(f"best_frame chooses the reference of mode relative, mode {mode} has none; leave one out")

    if isinstance(checkpoint, LAMI) and (device, selector, weights_vit, fusion) != ("auto", None, None, None):
        raise ConfigError(
            "a loaded model has a device, a selector, a transformer and a fusion already; leave these options out"
        )

    def load_model() -> LAMI:
        if isinstance(checkpoint, LAMI):
            return checkpoint
        return load_with_options(checkpoint, device, times, selector, weights_vit, fusion, precision)

    def start_animator() -> Animator:
        return Animator(
            load_model(),
            image,
            mode,
            times,
            granularity,
            batch_size=batch_size,
            size=size,
            precision=precision,
            strength=strength,
            smoothing=smoothing,
            crop=crop,
        )

    image = read_image(source)
    fixed_box(crop, image.shape[:2], image.shape[:2], source)  # before the model is loaded, and with the file's name
    if still:
        target = read_image(driving)
        fixed_box(crop_driving, target.shape[:2], target.shape[:2], driving)
        animator = start_animator()
        model_size = animator.model.config.image_size
        box = choose_box(
            crop_driving, target.shape[:2], model_size, driving, lambda box: next(animator.detect([box.cut(target)]))
        )
        [result] = animator.animate([box.cut(target)])
        shown = {"": result.moved}
        if chain is not None:
            with ChainWriter(chain, animator.source, times) as strips:
                strips.add(result.moved)
        write_image(output, result.image, label=label)
    else:
        with closing(open_moving(driving)) as video:
            reader = video if rate is None else Resampled(video, rate)
            [first] = video.frames([0])
            fixed_box(crop_driving, first.shape[:2], first.shape[:2], driving)
            animator = start_animator()
            box, best = _look_through(video, first.shape[:2], animator, crop_driving, best_frame, driving, progress)
            if best is not None:
                animator.refer_to(box.cut(video.frames([best])[0]))
            sound = driving if audio == "driving" and isinstance(video, VideoReader) else None
            wanted = _evenly(len(reader), _PANEL_ROWS) if panel else set()
            shown = {}
            with (
                VideoWriter(output, reader.rate, audio_from=sound, label=label) as writer,
                write_behind(writer.write, batch_size) as write,
                ExitStack() as resources,
            ):
                strips = None
                if chain is not None:
                    strips = resources.enter_context(ChainWriter(chain, animator.source, times, reader.rate))

                def start() -> Iterable[Frame]:
                    frames = read_ahead((Frame(box.cut(frame.image), frame.time) for frame in reader), batch_size)
                    resources.callback(frames.close)
                    return frames

                results = progress(animator.animate(start), len(reader), "animating")
                for number, (time, result) in enumerate(zip(reader.times, results, strict=True)):
                    write(result.image, time)
                    if strips is not None:
                        strips.add(result.moved, f"frame {number}", time)
                    if number in wanted:
                        shown[f"frame {number}"] = result.moved
    tell_farthest(animator.farthest_distance, animator.model.seen_poses)
    if panel is not None:
        write_image(panel, draw_panel(animator.source, list(shown.values()), times, list(shown)))
    return output


def _look_through(
    video: Moving,
    frame_size: tuple[int, int],
    animator: Animator,
    crop: Crop,
    best_frame: bool,
    name: Path,
    progress: Track,
) -> tuple[Box, int | None]:
    """The part of all frames that is used, and the number of the one to refer to, None for the first.

    Poses are compared wherever and however large they are: the keypoints that the box was found by do for both.
    """
    keypoints: list[Tensor] = []

    def detect(box: Box, purpose: str = "searching the object") -> Tensor:
        searched = progress(video, len(video), purpose)
        keypoints[:] = animator.detect(box.cut(frame.image) for frame in searched)
        return torch.cat(keypoints)

    box = choose_box(crop, frame_size, animator.model.config.image_size, name, detect)
    if not best_frame:
        return box, None
    if not keypoints:
        detect(box, "searching the best frame")
    best = find_best_frame(animator.source.keypoints, keypoints)
    logger.info("the driving frame nearest to the source's pose is number %d of %d", best, len(video))
    return box, best


def _evenly(count: int, wanted: int) -> set[int]:
    """Numbers of about `wanted` frames spread over a video, the last included."""
    return {round((i + 1) * (count - 1) / wanted) for i in range(wanted)}


def _check_paths(outputs: Mapping[str, Path | None], still: bool) -> None:
    """Raises DataError for names that could only fail after all the work; the first output is the result."""
    pictures, videos = WRITABLE_IMAGE_SUFFIXES, WRITABLE_SUFFIXES
    allowed = {
        "the result": pictures if still else videos,
        "the panel": pictures,
        "the chain": pictures if still else pictures | videos,
    }
    named: dict[str, str] = {}
    for what, path in outputs.items():
        if path is None:
            continue
        if path.suffix.lower() not in allowed[what]:
            driver = "an image" if still else "a video"
            known = ", ".join(sorted(allowed[what]))
            raise DataError(f"{path} has no fitting suffix for {what} of {driver} as driver; use one of {known}")
        place = os.path.realpath(path)
        if place in named:
            raise DataError(f"{path} is {named[place]} already; choose another name for {what}")
        named[place] = what
