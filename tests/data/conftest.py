"""Small videos made on the spot, in every container that lami reads."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

MakeVideo = Callable[..., Path]

_CODECS = {
    ".mp4": ("libx264", "yuv420p"),
    ".mov": ("libx264", "yuv420p"),
    ".mkv": ("libx264", "yuv420p"),
    ".webm": ("libvpx-vp9", "yuv420p"),
    ".avi": ("mpeg4", "yuv420p"),
    ".gif": ("gif", "rgb8"),
}


def numbered_frame(number: int, height: int, width: int) -> np.ndarray:
    """A grey level that tells the number, and a bright left edge that tells up from down."""
    image = np.full((height, width, 3), 4 * number, np.uint8)
    image[: height // 2, : width // 4] = 255
    return image


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """`make_video("a.mp4", frames=30, size=(48, 64), ...)`: frame n has grey level 4 n, keyframes every 10 frames."""

    def make(
        name: str,
        frames: int = 30,
        size: tuple[int, int] = (48, 64),
        rate: Fraction = Fraction(25),
        rotation: int = 0,
        sound: str | None = None,
    ) -> Path:
        path = tmp_path / name
        codec, pixels = _CODECS[path.suffix]
        options = {"g": "10", "bf": "2"} if codec in ("libx264", "mpeg4") else {"g": "10"}
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=rate, options=options)
            stream.height, stream.width, stream.pix_fmt = *size, pixels
            if rotation:
                stream.set_display_rotation(rotation)
            audio = container.add_stream(sound, rate=44100, layout="mono") if sound else None
            for number in range(frames):
                frame = av.VideoFrame.from_ndarray(numbered_frame(number, *size))
                frame.pts, frame.time_base = number, 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            if audio is not None:
                for start in range(0, int(frames / rate * 44100), 1024):
                    tone = 9000 * np.sin(np.arange(start, start + 1024) / 20)[None]
                    samples = av.AudioFrame.from_ndarray(tone.astype(np.int16), format="s16", layout="mono")
                    samples.rate, samples.pts = 44100, start
                    container.mux(audio.encode(samples))
                container.mux(audio.encode(None))
        return path

    return make
