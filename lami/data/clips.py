"""A clip: numbered frames, wherever they are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from lami.data.files import check_readable, natural_key
from lami.data.images import IMAGE_SUFFIXES, read_image
from lami.data.video import VIDEO_SUFFIXES, VideoReader
from lami.errors import DataError


class Clip(Protocol):
    """Frames of one video."""

    @property
    def name(self) -> str:
        """What messages and results call it."""

    @property
    def rate(self) -> Fraction | None:
        """Frames a second; None where the storage does not tell."""

    def __len__(self) -> int: ...

    def frames(self, indices: Iterable[int]) -> list[np.ndarray]:
        """Only the frames asked for, in the order asked for; uint8 (H, W, 3) RGB."""


@runtime_checkable
class AnnotatedClip(Clip, Protocol):
    """A clip whose control points are known: (n, K, N, 2), (x, y) in [-1, 1], for n frames."""

    def control_points(self, indices: Iterable[int]) -> np.ndarray: ...


@runtime_checkable
class EncodedClip(Clip, Protocol):
    """A clip stored as one image file a frame, which packing can copy."""

    def encoded(self, index: int) -> bytes:
        """The bytes of the image file."""


def open_clip(path: str | Path, frame_shape: tuple[int, int] | None = None) -> Clip:
    """Open a folder of frames, a video file, or an image.

    frame_shape: (height, width) of the frames that stand side by side in a strip image; without it an image is a clip
    of one frame. It does not matter for other kinds. Frames of a folder are sorted naturally (`9.png` before `10.png`).
    Raises `DataError`, naming the path, for what is neither, is damaged or does not fit `frame_shape`.
    """
    path = Path(path)
    if path.is_dir():
        return FrameFolder(path)
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return StripImage(path, frame_shape)
    if suffix in VIDEO_SUFFIXES or not path.exists():
        return VideoFile(path)
    raise DataError(f"{path} is neither a video, an image nor a folder of frames, check its suffix")


def frame_files(folder: Path) -> list[Path]:
    """Images in a folder in natural order, hidden files left out."""
    files = [f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")]
    return sorted(files, key=lambda file: natural_key(file.name))


class FrameFolder:
    """Folder of image files, one a frame."""

    rate: Fraction | None = None

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._files = frame_files(path)
        if not self._files:
            raise DataError(f"{path} holds no images, put the frames there as png or jpg files")

    def __len__(self) -> int:
        return len(self._files)

    def frames(self, indices: Iterable[int]) -> list[np.ndarray]:
        return [read_image(self._files[i]) for i in checked(self, indices)]

    def encoded(self, index: int) -> bytes:
        path = self._files[index]
        check_readable(path)
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}), copy it again") from error


class VideoFile:
    """Video file, decoded on demand."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        # Data loaders run many clips side by side: a decoder with threads of its own would only be in their way.
        self._reader = VideoReader(path, threads=1)
        self.rate: Fraction | None = self._reader.rate

    def __len__(self) -> int:
        return len(self._reader)

    def frames(self, indices: Iterable[int]) -> list[np.ndarray]:
        return self._reader.frames(indices)


class StripImage:
    """Image whose frames stand side by side, the first at the left."""

    rate: Fraction | None = None

    def __init__(
        self, path: Path, frame_shape: tuple[int, int] | None, read: Callable[[Path], np.ndarray] = read_image
    ) -> None:
        self.name = path.name
        self._image = read(path)
        height, width = self._image.shape[:2]
        frame_height, frame_width = frame_shape or (height, width)
        if height != frame_height or width % frame_width:
            raise DataError(
                f"{path} is {height}x{width} and cannot be a row of {frame_height}x{frame_width} frames, correct "
                "frame_shape (height, width)"
            )
        self._width = frame_width

    def __len__(self) -> int:
        return self._image.shape[1] // self._width

    def frames(self, indices: Iterable[int]) -> list[np.ndarray]:
        return [self._image[:, i * self._width : (i + 1) * self._width].copy() for i in checked(self, indices)]


def checked(clip: Clip, indices: Iterable[int]) -> list[int]:
    """The indices as a list. Raises `IndexError` for one that the clip does not have."""
    wanted = list(indices)
    for index in wanted:
        if not 0 <= index < len(clip):
            raise IndexError(f"{clip.name} has {len(clip)} frames, frame {index} does not exist")
    return wanted
