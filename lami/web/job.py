"""One animation that somebody asked for: its files, how far it is, and its end."""

from __future__ import annotations

import copy
import logging
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from torch import Tensor

from lami.acceleration import Precision
from lami.animation import AnimatedFrame, Animator, Smoothing, animate_file
from lami.animation.animator import Granularity
from lami.animation.crop import Crop
from lami.animation.letterbox import OutputSize, resize
from lami.animation.modes import Mode
from lami.configs.schema import Selector
from lami.data import Resampled, VideoWriter, open_moving, parse_rate, read_image, to_uint8, write_image
from lami.errors import ConfigError, LamiError
from lami.model import LAMI
from lami.web.comparison import write_comparison

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
State = Literal["waiting", "running", "done", "failed", "cancelled"]

_OPEN = ("waiting", "running")
_SEEN_RATE = Fraction(25)
"""Of the video that keeps driving frames as the model saw them, and is looked up by their numbers."""
_LONGEST = 1920
"""Pixels of the longer side of results that are as large as the picture: more than that few browsers play well."""
_BATCH = 8
"""Frames between looks at whether the job was cancelled."""
FAULT = "something went wrong on the server, whose log says more; try other settings"


class JobCancelledError(LamiError):
    """Nobody wants the result any more."""


@dataclass(frozen=True)
class Settings:
    """What the visitor chose; see `lami.animation.animate_file`."""

    mode: Mode = "relative"
    times: tuple[float, ...] | None = None
    selector: Selector | None = None
    granularity: Granularity = "hysteresis"
    strength: float = 1.0
    smooth: bool = False
    fps: Fraction | float | Literal["keep"] = "keep"
    best_frame: bool = True
    size: OutputSize = "model"
    crop: Crop = "none"
    crop_driving: Crop = "none"
    label: bool = False

    @property
    def rate(self) -> float | None:
        """Frames a second of the result; None keeps those of the driving video."""
        return None if self.fps == "keep" else float(self.fps)


@dataclass(frozen=True)
class Progress:
    """How far a job is: steps done of total, in the words of `doing`, and seconds since they began."""

    state: State
    doing: str = ""
    done: int = 0
    total: int = 0
    seconds: float = 0.0


@dataclass
class Trace:
    """How each frame came about: what `lami.web.inside` needs to show it. Tensors on the CPU, one for each frame."""

    seen: Path
    """Video of the driving frames as the model saw them."""
    driving_keypoints: list[Tensor] = field(default_factory=list)
    """(K, N, 2)."""
    keypoints: list[Tensor] = field(default_factory=list)
    """(K, N, 2), that the source was moved to."""
    selected_times: list[float] = field(default_factory=list)


class Job:
    """An animation; one thread calls `run`, others `follow` and `cancel`.

    Args:
        owner: whose it is.
        source, driving: files, of which the job takes copies.
        settings: see `Settings`.
        folder: new folder for all files of the job.

    Raises:
        DataError: the picture is damaged. OSError: the files cannot be copied.
    """

    def __init__(self, owner: str, source: Path, driving: Path, settings: Settings, folder: Path) -> None:
        folder.mkdir()
        self.owner = owner
        self.settings = settings
        self.folder = folder
        try:
            self.source = _copy_picture(source, folder, settings)
            self._driving = Path(shutil.copyfile(driving, folder / f"driving{driving.suffix}"))
        except BaseException:
            self.remove()
            raise
        self._names = {self.source: source.name, self._driving: driving.name}
        self.video = folder / "lami-animation.mp4"
        self.comparison = folder / "lami-side-by-side.mp4"
        self.trace = Trace(folder / "seen.mp4")
        self.error = ""
        """Why it failed, in one sentence."""
        self.warnings: list[str] = []
        """What lami warned of meanwhile, a sentence each."""
        self.ended: float | None = None
        """`time.monotonic()` of its end."""
        self._cancelled = False
        self._progress = Progress("waiting")
        self._changed = threading.Condition()

    @property
    def progress(self) -> Progress:
        with self._changed:
            return self._progress

    def cancel(self) -> None:
        """End it soon: at the next frame, or at once if it has not begun."""
        with self._changed:
            self._cancelled = True
            if self._progress.state == "waiting":
                self._end("cancelled")

    def follow(self, pause: float = 0.25) -> Iterator[Progress]:
        """Progress every `pause` seconds, and last the end as soon as it comes.

        A job that nobody follows any more is cancelled.
        """
        try:
            while (progress := self.progress).state in _OPEN:
                yield progress
                with self._changed:
                    self._changed.wait_for(lambda: self._progress.state not in _OPEN, pause)
            yield progress
        finally:
            if self.progress.state in _OPEN:
                self.cancel()

    def run(self, model: LAMI, precision: Precision = "auto") -> None:
        """Animate. However it ends, the state says so; unless it is done, no file is left."""
        with self._changed:
            if self._progress.state != "waiting":
                return
            self._set(Progress("running", "preparing"))
        try:
            with _warnings() as warnings:
                self._animate(_with_selector(model, self.settings.selector), precision)
            self.warnings = [in_names(warning, self._names) for warning in dict.fromkeys(warnings)]
            state: State = "done"
        except JobCancelledError:
            state = "cancelled"
        except LamiError as error:
            self.error, state = in_names(str(error), self._names), "failed"
        except Exception:
            logger.exception("an animation failed")
            self.error, state = FAULT, "failed"
        with self._changed:
            self._end(state)

    def remove(self) -> None:
        """Remove all files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _animate(self, model: LAMI, precision: Precision) -> None:
        chosen = self.settings
        if chosen.selector == "fixed" and chosen.times is not None and len(chosen.times) != 1:
            raise ConfigError("a fixed choice takes exactly one time; tick one, or let the best match be chosen")
        if chosen.crop != "none":
            self._crop_picture(model, precision)
        with VideoWriter(self.trace.seen, _SEEN_RATE, generated=False) as seen:

            def watch(items: Iterable[Item], total: int, doing: str) -> Iterator[Item]:
                for item in self._count(items, total, doing):
                    if isinstance(item, AnimatedFrame):
                        self._record(item, seen)
                    yield item

            animate_file(
                model,
                self.source,
                self._driving,
                self.video,
                mode=chosen.mode,
                strength=chosen.strength,
                smoothing=Smoothing() if chosen.smooth else None,
                times=chosen.times,
                granularity=chosen.granularity,
                best_frame=chosen.best_frame and chosen.mode == "relative",
                fps=chosen.fps,
                size=chosen.size,
                crop_driving=chosen.crop_driving,
                label=chosen.label,
                batch_size=_BATCH,
                precision=precision,
                progress=watch,
            )
        with closing(open_moving(self._driving)) as video:
            shown = video if chosen.fps == "keep" else Resampled(video, parse_rate(chosen.fps))
            write_comparison(self.source, shown, self.video, self.comparison, self._count)
        self._driving.unlink()

    def _crop_picture(self, model: LAMI, precision: Precision) -> None:
        """Keep only the part that was asked for, which everything that is shown later begins with, too; made smaller
        where the result would get too large."""
        picture = read_image(self.source)
        box = Animator(model, picture, crop=self.settings.crop, precision=precision).box
        name = self._names.pop(self.source)
        self.source.unlink()
        self.source = self.source.with_suffix(".png")
        self._names[self.source] = name
        part = box.cut(picture)
        write_image(self.source, part if self.settings.size == "model" else _playable(part), generated=False)

    def _record(self, frame: AnimatedFrame, seen: VideoWriter) -> None:
        moved = frame.moved
        seen.write(to_uint8(moved.driving))
        self.trace.driving_keypoints.append(moved.driving_keypoints.cpu())
        self.trace.keypoints.append(moved.keypoints.cpu())
        self.trace.selected_times.append(moved.selected_time)

    def _count(self, items: Iterable[Item], total: int, doing: str) -> Iterator[Item]:
        """The same items, with their number in the progress, until the job is cancelled."""
        start = time.monotonic()
        for done, item in enumerate(items, start=1):
            with self._changed:
                if self._cancelled:
                    raise JobCancelledError("the job was cancelled")
                self._set(Progress("running", doing, done, total, time.monotonic() - start))
            yield item

    def _set(self, progress: Progress) -> None:
        self._progress = progress
        self._changed.notify_all()

    def _end(self, state: State) -> None:
        if state != "done":
            self.remove()
        self.ended = time.monotonic()
        self._set(Progress(state))


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collects the messages of warnings that lami logs in this thread."""
    found: list[str] = []
    thread = threading.get_ident()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                found.append(record.getMessage())

    collector, log = Collector(logging.WARNING), logging.getLogger("lami")
    log.addHandler(collector)
    try:
        yield found
    finally:
        log.removeHandler(collector)


def in_names(sentence: str, names: Mapping[Path, str]) -> str:
    """A message with names that the visitor knows in place of paths here."""
    for path, name in names.items():
        sentence = sentence.replace(str(path), name)
    return sentence


def _copy_picture(source: Path, folder: Path, settings: Settings) -> Path:
    """A copy of the picture, made smaller where the result would get too large; but whole for a crop, whose part may be
    small enough."""
    # Suffixes go along: they tell what is in files of which the content does not.
    target = folder / f"source{source.suffix}"
    if settings.size != "model" and settings.crop == "none":
        image = read_image(source)
        smaller = _playable(image)
        if smaller is not image:
            target = target.with_suffix(".png")
            write_image(target, smaller, generated=False)
            return target
    return Path(shutil.copyfile(source, target))


def _playable(image: np.ndarray) -> np.ndarray:
    """The image, made smaller if its longer side is above the limit."""
    scale = _LONGEST / max(image.shape[:2])
    return resize(image, *(max(1, round(side * scale)) for side in image.shape[:2])) if scale < 1 else image


def _with_selector(model: LAMI, selector: Selector | None) -> LAMI:
    """A model that shares all weights, with another selector."""
    if selector is None or selector == model.interpolation.selector:
        return model
    other = copy.copy(model)
    other.interpolation = model.interpolation.model_copy(update={"selector": selector})
    return other
