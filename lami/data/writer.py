"""Writing video: exact frame rate, sound carried over, complete or not there at all."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from PIL import Image

from lami.data.audio import AudioTrack, carry_audio
from lami.data.files import atomic_path
from lami.data.provenance import draw_label, gif_comment, video_tags
from lami.errors import DataError

WRITABLE_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".gif"})

_GIF_TIME_BASE = Fraction(1, 100)
_FINE_ENOUGH = 90_000
"""Time steps a second that place frames of uneven spacing well within a millisecond."""


class VideoWriter:
    """Context manager that writes frames as H.264 (yuv420p, BT.709), or as an animated picture if `path` ends in .gif.

    rate: frames a second; `Fraction(30000, 1001)` stays exact in mp4 and mov. mkv keeps times to 1 ms, gif to 10 ms.
    audio_from: file whose sound goes along, cut to the length of the video; ignored if it has none, and for gif.
    metadata: container tags, for instance `{"title": "..."}`; mp4 and mov keep only the usual keys, gif the comment.
    crf: quality of H.264, lower is better.
    generated: add tags that say so, see `lami.data.provenance`; False for videos that no model made.
    label: write it into the frames too, readable at their bottom edge.

    yuv420p needs even sides: an odd side is extended by repeating its last row or column. The file is written under a
    temporary name beside `path`, which it takes at a successful end; an exception inside the `with` leaves nothing.
    Raises `DataError` for an unknown suffix, frames of varying shape, times that do not increase, and no frames at all.
    """

    def __init__(
        self,
        path: str | Path,
        rate: Fraction | int,
        audio_from: str | Path | None = None,
        metadata: Mapping[str, str] | None = None,
        crf: int = 18,
        generated: bool = True,
        label: bool = False,
    ) -> None:
        self.path = Path(path)
        self.rate = Fraction(rate)
        self._audio_from = None if audio_from is None else Path(audio_from)
        self._metadata = (video_tags() if generated else {}) | dict(metadata or {})
        self._crf = crf
        self._label = label
        self._gif = self.path.suffix.lower() == ".gif"
        if self.path.suffix.lower() not in WRITABLE_SUFFIXES:
            raise DataError(f"{self.path} cannot be written, use one of {', '.join(sorted(WRITABLE_SUFFIXES))}")
        if self.rate <= 0:
            raise DataError(f"frame rate must be positive, got {self.rate}")
        steps = self.rate.numerator
        self._time_base = _GIF_TIME_BASE if self._gif else Fraction(1, steps * -(-_FINE_ENOUGH // steps))
        self._shape: tuple[int, ...] | None = None
        self._count = 0
        self._last = Fraction(-1)

    def __enter__(self) -> VideoWriter:
        with ExitStack() as stack:  # undoes what was begun if a later step fails
            partial = stack.enter_context(atomic_path(self.path))
            if self._gif and "comment" in self._metadata:
                stack.enter_context(gif_comment(partial, self._metadata["comment"]))
            options = {"movflags": "+faststart"} if self.path.suffix.lower() in (".mp4", ".mov") else {}
            self._container = stack.enter_context(av.open(f"file:{partial}", "w", options=options))
            self._container.metadata.update(self._metadata)
            self._stream: VideoStream = self._container.add_stream("gif" if self._gif else "libx264", rate=self.rate)
            self._audio: AudioTrack | None = None
            if self._audio_from is not None and not self._gif:
                self._audio = carry_audio(self._audio_from, self._container)
            if self._audio is not None:
                stack.callback(self._audio.close)
            self._resources = stack.pop_all()
        return self

    def write(self, image: np.ndarray, time: Fraction | None = None) -> None:
        """Append a frame, uint8 (H, W, 3) RGB.

        time: seconds since the start of the video, for uneven spacing; by default frame n is at n / rate.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise DataError(f"a frame must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
        if self._shape is None:
            self._shape = image.shape
            self._configure(image.shape[0], image.shape[1])
        if image.shape != self._shape:
            raise DataError(f"frame {self._count} of {self.path} is {image.shape}, the first was {self._shape}")
        time = self._count / self.rate if time is None else time
        if self._gif and self._count > 0 and 0 < time - self._last < _GIF_TIME_BASE:
            raise DataError(f"{self.path} would need more than the 100 frames a second that gif can hold, write an mp4")
        if time <= self._last:
            raise DataError(f"frame {self._count} of {self.path} is at {time} s, not after the one before it")

        image = draw_label(image) if self._label else image
        frame = _gif_frame(image) if self._gif else _h264_frame(image)
        frame.time_base = self._time_base
        frame.pts = round(time / self._time_base)
        frame.duration = round(1 / (self.rate * self._time_base))
        self._container.mux(self._stream.encode(frame))
        self._count += 1
        self._last = time
        if self._audio is not None:
            self._audio.advance(time + 1 / self.rate)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._resources.__exit__(kind, error, trace)
            return
        with self._resources:
            if not self._count:
                raise DataError(f"{self.path} was given no frames, write at least one")
            self._container.mux(self._stream.encode(None))
            if self._audio is not None:
                self._audio.finish()

    def _configure(self, height: int, width: int) -> None:
        stream, context = self._stream, self._stream.codec_context
        context.time_base = self._time_base
        if self._gif:
            stream.height, stream.width, stream.pix_fmt = height, width, "pal8"
            return
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        context.options = {"crf": str(self._crf)}
        context.colorspace = Colorspace.ITU709
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        context.color_range = ColorRange.MPEG


def _h264_frame(image: np.ndarray) -> av.VideoFrame:
    height, width = image.shape[:2]
    even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = av.VideoFrame.from_ndarray(even)
    return frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)


def _gif_frame(image: np.ndarray) -> av.VideoFrame:
    """A palette of its own for each frame: 256 colours go much further than a fixed palette."""
    picture = Image.fromarray(image).quantize(256)
    colors = np.zeros((256, 4), np.uint8)
    palette = np.asarray(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    colors[:, 0] = 255  # alpha first
    colors[: len(palette), 1:] = palette
    # PyAV takes the pair for pal8, though its annotations leave it out.
    return av.VideoFrame.from_ndarray((np.asarray(picture), colors), format="pal8")  # type: ignore[arg-type]
