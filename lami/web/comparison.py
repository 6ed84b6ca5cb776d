"""A video of picture, movement and result side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from lami.animation.letterbox import resize
from lami.data import Frame, Moving, Resampled, VideoReader, VideoWriter, read_image
from lami.visualize import grid

_SMALLEST, _LARGEST = 256, 480
"""Pixels that the three are high."""
_CAPTIONS = ("picture", "movement", "result")

Count = Callable[[Iterable[tuple[Frame, Frame]], int, str], Iterable[tuple[Frame, Frame]]]


def write_comparison(source: Path, driving: Moving | Resampled, result: Path, output: Path, count: Count) -> None:
    """Write source picture, driving frames and result side by side, with the times and the sound of the result.

    Args:
        source: the picture.
        driving: one frame for each of the result.
        result: video.
        output: video to write.
        count: passes on the frames as they are written, given their number and a description.
    """
    with VideoReader(result) as made:
        height = min(max(made.height, _SMALLEST), _LARGEST)
        picture = _fit(read_image(source), height)
        with VideoWriter(output, made.rate, audio_from=result) as writer:
            pairs = zip(driving, made, strict=True)
            for movement, frame in count(pairs, len(made), "putting them side by side"):
                row = [picture, _fit(movement.image, height), _fit(frame.image, height)]
                writer.write(grid([row], column_captions=_CAPTIONS), frame.time)


def _fit(image: np.ndarray, height: int) -> np.ndarray:
    """The image as high as that, or less if it is more than twice as wide as high."""
    scale = min(height / image.shape[0], 2 * height / image.shape[1])
    return resize(image, *(max(1, round(side * scale)) for side in image.shape[:2]))
