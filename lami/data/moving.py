"""Whatever shows motion, behind one interface: videos, animated pictures, folders of frames."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageSequence

from lami.data.clips import frame_files
from lami.data.files import check_readable
from lami.data.images import IMAGE_SUFFIXES, is_animated, is_heif, open_picture, read_image, to_rgb
from lami.data.video import Frame, VideoReader, checked_numbers, is_video
from lami.errors import DataError

FOLDER_RATE = Fraction(25)
"""Frames a second of a folder of frames, which does not tell."""

_SHORTEST = Fraction(1, 100)
_DEFAULT = Fraction(1, 10)


class Moving(Protocol):
    """What `VideoReader` is, too; iterable over its frames in order."""

    rate: Fraction
    """Frames a second, an average where they are unevenly spaced."""

    @property
    def times(self) -> tuple[Fraction, ...]:
        """When each frame is shown, in seconds since the first."""

    @property
    def duration(self) -> Fraction:
        """Seconds from the start of the first frame to the end of the last."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Frame]: ...

    def frames(self, indices: Iterable[int]) -> list[np.ndarray]:
        """Frames by number; uint8 (H, W, 3) each. Raises `IndexError` for one that does not exist."""

    def close(self) -> None:
        """Close the file, if one is open."""


def open_moving(path: str | Path) -> Moving:
    """Open a video, an animated picture or a folder of frames.

    Raises:
        DataError: it is none of them, or damaged.
    """
    path = Path(path)
    if os.path.isdir(path):  # which takes any name
        return FrameFiles(path)
    check_readable(path)
    return VideoReader(path) if _frames_of_picture(path) is None else AnimatedPicture(path)


def is_still(path: str | Path) -> bool:
    """Whether a file is a picture of one frame; its content tells, or its suffix where the content is unknown."""
    path = Path(path)
    named_so = path.suffix.lower() in IMAGE_SUFFIXES
    if not os.path.isfile(path):
        return named_so and not os.path.isdir(path)
    frames = _frames_of_picture(path)
    return named_so and not is_video(path) if frames is None else frames == 1


def _frames_of_picture(path: Path) -> int | None:
    """None for what is not a picture."""
    try:
        with open_picture(path) as picture:
            return getattr(picture, "n_frames", 1) if is_animated(picture) else 1
    except DataError:
        return 1 if is_heif(path) else None


class _Pictures:
    """Frames that pictures hold, in one file or in many."""

    def __init__(self, path: Path, times: tuple[Fraction, ...], rate: Fraction) -> None:
        self._path = path
        self.times = times
        self.rate = rate

    def __len__(self) -> int:
        return len(self.times)

    @property
    def duration(self) -> Fraction:
        return len(self) / self.rate

    def close(self) -> None:
        """Nothing is left open between frames."""


class AnimatedPicture(_Pictures):
    """GIF, WebP, AVIF or animated PNG, each frame shown as long as the file says, transparency laid on white.

    As in browsers, durations up to 10 ms, by which such files mean "as fast as possible", are 100 ms. All frames are
    decoded once at the start: the file tells their durations nowhere else.
    """

    def __init__(self, path: Path) -> None:
        times = [Fraction(0)]
        with open_picture(path) as picture:
            for shown in _sequence(picture):
                shown.load()
                duration = Fraction(shown.info.get("duration", 0)).limit_denominator(10_000) / 1000
                times.append(times[-1] + (duration if duration > _SHORTEST else _DEFAULT))
        super().__init__(path, tuple(times[:-1]), (len(times) - 1) / times[-1])

    def __iter__(self) -> Iterator[Frame]:
        with open_picture(self._path) as picture:
            for shown, time in zip(_sequence(picture), self.times, strict=True):
                yield Frame(to_rgb(shown), time)

    def frames(self, indices: Iterable[int]) -> list[np.ndarray]:
        wanted = checked_numbers(indices, len(self), self._path)
        images = {number: frame.image for number, frame in enumerate(self) if number in wanted}
        return [images[number] for number in wanted]


class FrameFiles(_Pictures):
    """Folder of image files, one a frame, in natural order of their names (`9.png` before `10.png`)."""

    def __init__(self, path: Path) -> None:
        self._files = frame_files(path)
        if not self._files:
            raise DataError(f"{path} holds no images, put the frames there as png or jpg files")
        super().__init__(path, tuple(n / FOLDER_RATE for n in range(len(self._files))), FOLDER_RATE)

    def __iter__(self) -> Iterator[Frame]:
        for file, time in zip(self._files, self.times, strict=True):
            yield Frame(read_image(file), time)

    def frames(self, indices: Iterable[int]) -> list[np.ndarray]:
        return [read_image(self._files[number]) for number in checked_numbers(indices, len(self), self._path)]


def _sequence(picture: Image.Image) -> Iterator[Image.Image]:
    """The frames of a picture; without the one that an animated PNG has for programs that know no animation."""
    for number, shown in enumerate(ImageSequence.Iterator(picture)):
        if number or not getattr(picture, "default_image", False):
            yield shown
