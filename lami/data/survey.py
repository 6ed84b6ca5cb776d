"""What a data set holds, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from lami.configs.schema import DataConfig
from lami.data.shards import SETS
from lami.data.sources import ClipSource, find_clips
from lami.errors import DataError
from lami.progress import track


@dataclass(frozen=True)
class ClipFacts:
    """A clip that can be read. size: (height, width) of its first frame; rate: frames a second, None if unknown."""

    name: str
    identity: str
    frames: int
    size: tuple[int, int]
    rate: Fraction | None


@dataclass(frozen=True)
class SetSurvey:
    """The clips of a set, and what is wrong with those that cannot be read, by name."""

    clips: tuple[ClipFacts, ...]
    left_out: dict[str, str]


def survey(data: DataConfig) -> dict[str, SetSurvey]:
    """Open every clip of `data.root` as training does, and read its first and its last frame. Nothing is written.

    Args:
        data: as for training; of it `root`, `frame_shape` and `test_fraction` count.

    Returns:
        What was found for `train` and for `test`, those that are not empty.

    Raises:
        DataError: there are no clips, no way to tell where their frames are, or `synthetic` is set.
    """
    if data.synthetic is not None:
        raise DataError("data.synthetic figures are drawn, not read, and need no check; give data.root")
    clips = find_clips(data, (1, 1))
    return {name: _survey(getattr(clips, name), f"checking {name}") for name in SETS if getattr(clips, name)}


def _survey(sources: Sequence[ClipSource], purpose: str) -> SetSurvey:
    clips, left_out = [], {}
    for source in track(sources, len(sources), purpose):
        try:
            clips.append(_facts(source))
        except DataError as error:
            left_out[source.name] = str(error)
    return SetSurvey(tuple(clips), left_out)


def _facts(source: ClipSource) -> ClipFacts:
    clip = source.open()
    first, last = clip.frames([0, len(clip) - 1])
    if first.shape != last.shape:
        raise DataError(f"{source.name} has frames of different sizes, make them equal")
    height, width = first.shape[:2]
    return ClipFacts(source.name, source.identity, len(clip), (height, width), clip.rate)
