"""Reading video: exact frame rate and times, frame-exact random access, rotation applied."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.reformatter import ColorTrc
from av.video.stream import VideoStream
from PIL import Image

from lami.data.files import check_readable
from lami.errors import DataError

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".gif", ".avi", ".webm", ".mkv", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv"})

_SEEKABLE_FORMATS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,av1,obu,ivf,gif,apng,flv,ogg,asf,nut,"
    "mxf,dv,yuv4mpegpipe"
)
"""FFmpeg also "plays" pictures and texts, and lists of other files and addresses, which nobody asked it to open."""
_HDR = frozenset({ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67})


@dataclass(frozen=True)
class Frame:
    """One decoded frame."""

    image: np.ndarray
    """uint8 (H, W, 3), RGB, upright."""
    time: Fraction
    """Seconds since the first frame."""


@dataclass(frozen=True)
class _Index:
    """When each frame is shown, and where decoding can start; found from packets, without decoding."""

    times: tuple[int, ...]
    """Presentation times in units of the stream's time base, ascending; empty where the file's times are no use."""
    length: int
    keyframes: tuple[int, ...]
    """Numbers of frames at which decoding can start, ascending; empty where the format cannot be seeked."""

    @classmethod
    def scan(cls, container: InputContainer, stream: VideoStream) -> _Index:
        packets = [p for p in container.demux(stream) if p.size]
        # A recording may begin in the middle: what comes before the first keyframe cannot be decoded.
        first = next((number for number, p in enumerate(packets) if p.is_keyframe), 0)
        start = packets[first].pts if packets else None
        packets = [p for p in packets[first:] if not p.is_discard]
        if start is not None:  # nor can B-frames that are shown before it, which need the keyframe that was cut off
            packets = [p for p in packets if p.pts is None or p.pts >= start]
        times = sorted(p.pts for p in packets if p.pts is not None)
        # AVI stores no presentation times: those that FFmpeg makes up are wrong with B-frames.
        if container.format.name == "avi" or len(set(times)) < len(packets):
            return cls((), len(packets), ())
        keyframes: tuple[int, ...] = ()
        if container.format.name in _SEEKABLE_FORMATS:
            starts = {p.pts for p in packets if p.is_keyframe}
            keyframes = tuple(number for number, time in enumerate(times) if time in starts)
        return cls(tuple(times), len(packets), keyframes)


class VideoReader:
    """A video file; a context manager, and iterable over its frames in order.

    `width` and `height` are those of the upright image, `rate` is exact (30000/1001, not 29.97) and an average where
    frames are unevenly spaced. `threads` limits decoding threads, 0 leaves it to FFmpeg.
    Raises `DataError`, naming the file, for what is not a video or is damaged.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        self.path = Path(path)
        self._threads = threads
        check_readable(self.path)
        container, stream = self._open()
        try:
            with container:
                self._index = _Index.scan(container, stream)
        except av.FFmpegError as error:
            raise self._damaged(error) from error
        if not self._index.length:
            raise DataError(f"{self.path} holds no video frames, copy or convert it again")
        self._numbers = {time: i for i, time in enumerate(self._index.times)}

        self._restart()
        self.rate: Fraction = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self.has_audio = bool(self._container.streams.audio)
        try:
            self._current = next(self._decoder)
        except (StopIteration, av.FFmpegError) as error:
            self.close()
            raise self._damaged(error) from error
        self._position = self._number(self._current, 0)
        self.height, self.width = self._upright(self._current).shape[:2]
        if self._current.color_trc in _HDR:
            logger.warning(
                "%s is an HDR video, its colours will look pale; convert it to SDR for better ones", self.path
            )

    def __len__(self) -> int:
        """Number of frames."""
        return self._index.length

    @property
    def times(self) -> tuple[Fraction, ...]:
        """When each frame is shown, in seconds since the first."""
        if not self._index.times:
            return tuple(i / self.rate for i in range(len(self)))
        return tuple((time - self._index.times[0]) * self._time_base for time in self._index.times)

    @property
    def duration(self) -> Fraction:
        """Seconds from the start of the first frame to the end of the last."""
        return self.times[-1] + 1 / self.rate

    def __iter__(self) -> Iterator[Frame]:
        """All frames in order, decoded one at a time; does not disturb `frames`."""
        container, stream = self._open()
        count = 0
        with container:
            try:
                for count, frame in enumerate(container.decode(stream), start=1):
                    if self._index.times and frame.pts is not None:
                        time = (frame.pts - self._index.times[0]) * self._time_base
                    else:
                        time = (count - 1) / self.rate
                    if count <= len(self):
                        yield Frame(self._upright(frame), time)
            except av.FFmpegError as error:
                raise self._damaged(error) from error
        if count != len(self):
            raise self._damaged(f"it should have {len(self)} frames, {count} can be decoded")

    def frames(self, indices: Iterable[int]) -> list[np.ndarray]:
        """Frames by number, in the order asked for, repeats allowed; uint8 (H, W, 3) each.

        Decodes only from the nearest keyframe before each frame (gif and avi: from the start), and goes on from the
        previous call where that is shorter.
        """
        wanted = checked_numbers(indices, len(self), self.path)
        images = {index: self._frame(index) for index in sorted(set(wanted))}
        return [images[index] for index in wanted]

    def close(self) -> None:
        """Let go of the file; `with` does it by itself."""
        self._container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _time_base(self) -> Fraction:
        assert self._stream.time_base is not None
        return self._stream.time_base

    def _open(self) -> tuple[InputContainer, VideoStream]:
        try:
            # The prefix keeps FFmpeg from taking the start of names like `12:30.mp4` for a protocol.
            container = av.open(f"file:{self.path}", options={"format_whitelist": _FORMATS})
        except (av.FFmpegError, OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or error
            raise DataError(f"{self.path} is not a video that can be read ({cause}), convert it to mp4") from error
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            found = "sound alone" if container.streams.audio else "no description of its pictures"
            container.close()
            raise DataError(f"{self.path} is not a video or is cut short (it holds {found}), copy or convert it again")
        streams[0].thread_type = "AUTO"
        streams[0].codec_context.thread_count = self._threads
        return container, streams[0]

    def _restart(self) -> None:
        self._container, self._stream = self._open()
        self._decoder = self._container.decode(self._stream)
        self._position = -1

    def _frame(self, index: int) -> np.ndarray:
        try:
            if index != self._position:
                self._approach(index)
                self._advance(index)
        except av.FFmpegError as error:
            raise self._damaged(error) from error
        return self._upright(self._current)

    def _approach(self, index: int) -> None:
        """Put the decoder at or before frame `index`, going on from where it is if no keyframe is nearer."""
        place = bisect_right(self._index.keyframes, index) - 1
        keyframe = self._index.keyframes[place] if place >= 0 else 0
        if keyframe <= self._position < index:
            return
        if place < 0:
            self.close()
            self._restart()
            return
        self._container.seek(self._index.times[keyframe], stream=self._stream)
        self._decoder = self._container.decode(self._stream)
        self._position = -1

    def _advance(self, index: int) -> None:
        for frame in self._decoder:
            self._current, self._position = frame, self._number(frame, self._position + 1)
            if self._position >= index:
                break
        if self._position != index:
            self._position = len(self)  # nothing to go on from: the next call starts anew
            raise self._damaged(f"frame {index} of {len(self)} is missing")

    def _number(self, frame: av.VideoFrame, counted: int) -> int:
        if not self._index.keyframes or frame.pts is None:
            return counted
        return self._numbers.get(frame.pts, -1)

    def _damaged(self, cause: object) -> DataError:
        reason = getattr(cause, "strerror", None) or str(cause) or "no frame can be decoded"
        return DataError(f"{self.path} is damaged ({reason}), copy or convert it again")

    def _upright(self, frame: av.VideoFrame) -> np.ndarray:
        """The frame as it is meant to be seen: square pixels, transparency on white, turned."""
        transparent = any(component.is_alpha for component in frame.format.components)
        width = round(frame.width * (self._stream.sample_aspect_ratio or 1))
        image = frame.to_ndarray(format="rgba" if transparent else "rgb24", width=width)
        if transparent:
            white = Image.new("RGBA", (width, frame.height), "white")
            image = np.array(Image.alpha_composite(white, Image.fromarray(image)).convert("RGB"))
        quarter_turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image


def checked_numbers(numbers: Iterable[int], count: int, path: Path) -> list[int]:
    """Numbers of frames as a list. Raises `IndexError` for one that is not among the `count` frames of `path`."""
    wanted = list(numbers)
    for number in wanted:
        if not 0 <= number < count:
            raise IndexError(f"{path} has {count} frames, frame {number} does not exist")
    return wanted


def is_video(path: Path) -> bool:
    """Whether FFmpeg finds moving pictures in a file, which may be damaged all the same."""
    try:
        with VideoReader(path, threads=1):
            return True
    except DataError:
        return False
