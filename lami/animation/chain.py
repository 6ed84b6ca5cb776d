"""The way from source to driving pose made visible: the images between, of the farthest frame or of a whole video."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from lami.animation.panel import draw_panel
from lami.animation.prepared import Moved, PreparedSource
from lami.data import WRITABLE_SUFFIXES, VideoWriter, write_image


class ChainWriter:
    """Context manager that writes strips of source, images between, the selected one framed, driving image and result.

    A video gets the strip of every frame; an image that of the frame whose keypoints move farthest, when the `with`
    ends well. The images between are generated again for every strip that is drawn.

    Args:
        path: where to, a video or an image by its suffix.
        source: of all frames.
        times: candidate times; None takes the model's.
        rate: of a video, frames a second.
    """

    def __init__(
        self,
        path: Path,
        source: PreparedSource,
        times: Sequence[float] | None,
        rate: Fraction | int = 25,
    ) -> None:
        self._path = path
        self._source = source
        interpolation = source.model.interpolation
        self._times = (interpolation.fixed_time,) if times is None and interpolation.selector == "fixed" else times
        self._video = VideoWriter(path, rate) if path.suffix.lower() in WRITABLE_SUFFIXES else None
        self._farthest: tuple[float, str, Moved] | None = None

    def __enter__(self) -> ChainWriter:
        self._resources = ExitStack()
        if self._video is not None:
            self._resources.enter_context(self._video)
        return self

    def add(self, moved: Moved, name: str = "", time: Fraction | None = None) -> None:
        """The next frame, its name for the picture and its time for the video."""
        if self._video is not None:
            self._video.write(draw_panel(self._source, [moved], self._times), time)
            return
        displacement = float((moved.keypoints - self._source.keypoints[0]).norm(dim=-1).mean())
        if self._farthest is None or displacement > self._farthest[0]:
            self._farthest = displacement, name, moved

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.__exit__(kind, error, trace)
        if error is None and self._farthest is not None:
            _, name, moved = self._farthest
            write_image(self._path, draw_panel(self._source, [moved], self._times, [name]))
