"""What the page accepts, so that no visitor keeps the computer busy for hours or fills its disk."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path

from lami.data import is_still, open_moving
from lami.data.images import open_picture
from lami.errors import ConfigError, DataError

_FASTEST = 60
"""Frames a second that make the longest video also the one of most frames."""
_PIXELS = 4096 * 2304
"""Of a frame, 4K in the largest of its formats."""


@dataclass(frozen=True)
class Limits:
    """seconds: of a driving video; megabytes: of a file; waiting: animations in the queue; minutes: that files stay.

    Raises:
        ConfigError: one of them is no positive number.
    """

    seconds: float = 60
    megabytes: float = 200
    waiting: int = 8
    minutes: float = 60

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < float("inf"):
                raise ConfigError(f"the limit of {field.name} must be a number above 0, got {value}; change it")

    def check_source(self, path: Path) -> None:
        """Raises DataError unless the file is a picture within the limits."""
        self._check_file(path, "picture")
        with open_picture(path) as picture:
            _check_pixels(path, *picture.size)
            picture.verify()

    def check_driving(self, path: Path, rate: float | None = None) -> None:
        """Raises DataError unless the file is a video within the limits.

        rate: frames a second of the result; None keeps those of the video.
        """
        self._check_file(path, "video")
        if is_still(path):
            raise DataError(f"{path} is a picture and does not move; choose a video for the movement")
        self._check_animated(path)
        with closing(open_moving(path)) as video:
            [first] = video.frames([0])
            seconds, own_frames = float(video.times[-1] + 1 / video.rate), len(video)
        height, width = first.shape[:2]
        if seconds > self.seconds:
            raise DataError(
                f"{path} lasts {seconds:.3g} seconds, and this page takes up to {self.seconds:g}; cut it shorter"
            )
        _check_pixels(path, width, height)
        frames = own_frames if rate is None else seconds * rate  # a declared rate may be far from the real one
        if frames > self.seconds * _FASTEST:
            raise DataError(
                f"{path} would give {frames:.0f} frames, and this page makes up to {self.seconds * _FASTEST:.0f}; "
                "choose fewer frames a second"
            )

    def _check_animated(self, path: Path) -> None:
        """Judges an animated picture before all of its frames are decoded; passes what is no picture."""
        try:
            with open_picture(path) as picture:
                size, frames = picture.size, getattr(picture, "n_frames", 1)
        except DataError:
            return
        _check_pixels(path, *size)
        if frames > self.seconds * _FASTEST:
            raise DataError(
                f"{path} has {frames} frames, and this page takes up to {self.seconds * _FASTEST:.0f}; cut it shorter"
            )

    def _check_file(self, path: Path, kind: str) -> None:
        if path.is_dir():
            raise DataError(f"{path} is a folder; choose a {kind}")
        if path.is_file() and path.stat().st_size > self.megabytes * 1e6:
            raise DataError(f"{path} is larger than {self.megabytes:g} MB; choose a smaller {kind}")


def _check_pixels(path: Path, width: int, height: int) -> None:
    if height * width > _PIXELS:
        raise DataError(f"{path} has {width}x{height} pixels, more than 4K; make it smaller")
