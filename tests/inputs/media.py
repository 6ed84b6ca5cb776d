"""Makes the files that people have: one picture, and videos of it, in every kind of file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from PIL import Image, ImageCms

RED, BLUE = (200, 40, 30), (20, 60, 220)
HEIGHT, WIDTH = 32, 48
GIF_MILLISECONDS = (100, 200, 50, 400)


def quarters(height: int = HEIGHT, width: int = WIDTH, level: int = 100) -> np.ndarray:
    """Red, with a blue quarter at the top left and a grey one, of a level that tells frames apart, at the bottom left:
    no turn or mirror image is like another."""
    image = np.full((height, width, 3), RED, np.uint8)
    image[: height // 2, : width // 2] = BLUE
    image[height // 2 :, : width // 2] = level
    return image


def level(number: int) -> int:
    """The grey of frame `number`."""
    return 20 * number % 240


def corners(image: np.ndarray) -> list[list[int]]:
    """Colours at the middles of the quarters: top left, top right, bottom left, bottom right."""
    height, width = image.shape[:2]
    rows, columns = (height // 4, height - 1 - height // 4), (width // 4, width - 1 - width // 4)
    return [image[y, x].tolist() for y in rows for x in columns]


def expected(number: int | None = None) -> list[tuple[int, int, int]]:
    grey = 100 if number is None else level(number)
    return [BLUE, RED, (grey, grey, grey), RED]


def write_video(
    path: Path,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    *,
    frames: int = 8,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    rate: Fraction = Fraction(25),
    milliseconds: Sequence[int] | None = None,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    format: str | None = None,
    sound: str | None = None,
    streams: int = 1,
    setup: Callable[[VideoStream], Any] | None = None,
) -> Path:
    """Frame n has `level(n)`, in every further stream as much again; `milliseconds` are the times of the frames."""
    with av.open(f"file:{path}", "w", format=format, options=dict(container_options or {})) as container:
        videos = [container.add_stream(codec, rate=rate, options=dict(options or {})) for _ in range(streams)]
        for video in videos:
            video.height, video.width, video.pix_fmt = *size, pixels
            if milliseconds is not None:
                video.codec_context.time_base = Fraction(1, 1000)
            if setup is not None:
                setup(video)
        audio = container.add_stream(sound, rate=48000, layout="mono") if sound else None
        for number in range(frames):
            for place, video in enumerate(videos):
                image = quarters(*size, (level(number) + 100 * place) % 256)
                frame = av.VideoFrame.from_ndarray(image).reformat(format=pixels)
                frame.pts = number if milliseconds is None else milliseconds[number]
                frame.time_base = 1 / rate if milliseconds is None else Fraction(1, 1000)
                container.mux(video.encode(frame))
        for video in videos:
            container.mux(video.encode(None))
        if audio is not None:
            _write_tone(container, audio, int(frames / rate * 48000))
    return path


def write_sound(path: Path, codec: str, seconds: int = 1) -> Path:
    with av.open(str(path), "w") as container:
        _write_tone(container, container.add_stream(codec, rate=48000, layout="mono"), seconds * 48000)
    return path


def write_animation(path: Path, **options: Any) -> Path:
    """An animated picture of four frames, shown for `GIF_MILLISECONDS` each."""
    frames = [Image.fromarray(quarters(level=level(n))) for n in range(4)]
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    duration = list(GIF_MILLISECONDS)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=duration, loop=0, **lossless, **options)
    return path


def write_colour(path: Path, image: np.ndarray) -> Path:
    """With OpenCV, which writes 16 bits in colour and floats; RGB as it comes."""
    path.write_bytes(cv2.imencode(path.suffix, np.ascontiguousarray(image[..., ::-1]))[1].tobytes())
    return path


def swapped_profile() -> bytes:
    """An ICC profile under which red and green are the other way round, as no screen is but a test can tell."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    table = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * profile[131], 12)}
    red, green = table[b"rXYZ"], table[b"gXYZ"]
    profile[red : red + 4], profile[green : green + 4] = profile[green : green + 4], profile[red : red + 4]
    name = bytes("sRGB", "utf-16-be")
    return bytes(profile.replace(name, bytes("test", "utf-16-be")))


def _write_tone(container: Any, stream: Any, samples: int) -> None:
    size = stream.codec_context.frame_size or 1024
    fifo = av.AudioFifo()
    tone = (9000 * np.sin(np.arange(samples) / 20)).astype(np.int16)[None]
    whole = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
    whole.sample_rate, whole.pts, whole.time_base = 48000, 0, Fraction(1, 48000)
    fifo.write(whole)
    while (piece := fifo.read(size)) is not None:
        container.mux(stream.encode(piece))
    container.mux(stream.encode(None))
