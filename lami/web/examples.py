"""Things to try: generated figures, which the packaged model was trained for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lami.data import VideoWriter, write_image
from lami.data.synthetic import SyntheticFigures

_UNSEEN = 2_000_000
"""Figures from this number on are used by no training."""
_SIDE = 256
_FRAMES = 50
_PREVIEWED = (15, 35)
"""Frames of the video in the small image."""


@dataclass(frozen=True)
class Example:
    """A picture, the video that moves it, and a small image of both."""

    picture: Path
    video: Path
    preview: Path


def write_examples(folder: Path) -> list[Example]:
    """Draw three examples into a new folder: a figure with its own movement, and two with another's."""
    folder.mkdir()
    figures = SyntheticFigures((_SIDE, _SIDE), num_clips=4, num_frames=_FRAMES, start=_UNSEEN)
    videos, movements = [], []
    for n in range(2):
        clip = figures.clip(n)
        frames = clip.frames(range(_FRAMES))
        videos.append(folder / f"movement-{n + 1}.mp4")
        with VideoWriter(videos[-1], clip.rate, generated=False) as writer:
            for frame in frames:
                writer.write(frame)
        movements.append(np.concatenate([frames[n] for n in _PREVIEWED], axis=1))
    examples = []
    for number, (figure, video) in enumerate(((0, 0), (2, 1), (3, 0)), start=1):
        picture, preview = folder / f"figure-{number}.png", folder / f"example-{number}.jpg"
        image = figures.clip(figure).frames([0])[0]
        write_image(picture, image, generated=False)
        write_image(preview, np.concatenate([image, movements[video]], axis=1), generated=False)
        examples.append(Example(picture, videos[video], preview))
    return examples
