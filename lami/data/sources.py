"""Which clips a data set has, and which of them are for training and for testing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lami.configs.schema import DataConfig, SyntheticConfig
from lami.data.clips import Clip, frame_files, open_clip
from lami.data.files import natural_key
from lami.data.images import IMAGE_SUFFIXES
from lami.data.packed import read_packed
from lami.data.shards import SETS, is_packed
from lami.data.video import VIDEO_SUFFIXES
from lami.errors import DataError

_SPLIT_SEED = 0
"""The automatic split is part of the data set: it must not change with the seed of a training run."""


@dataclass(frozen=True)
class ClipSource:
    """A clip that is opened when it is needed, in whichever process needs it."""

    name: str
    open: Callable[[], Clip]
    """Raises `DataError`, naming the clip, if it is damaged."""
    path: Path | None = None
    """File or folder that holds it; None for generated clips."""

    @property
    def identity(self) -> str:
        """Who is seen: the part of the name before `#`, or the whole name without suffix."""
        return self.name.split("#")[0] if "#" in self.name else Path(self.name).stem


@dataclass(frozen=True)
class ClipSets:
    """Clips in natural order of their names. A data set with a `train` or a `test` folder only has one set empty."""

    train: tuple[ClipSource, ...]
    test: tuple[ClipSource, ...]


def find_clips(config: DataConfig, image_size: tuple[int, int]) -> ClipSets:
    """Clips of the folder `config.root`, or generated ones if `config.synthetic` is set.

    image_size: (height, width) that generated figures are drawn at; files are not touched.
    A packed root gives the clips that were packed, one with `train` and `test` inside is taken as it is. Otherwise
    `config.test_fraction` of the identities is held out at random, always the same, so that nobody is in both sets.
    Raises `DataError` if there is nothing to read, saying what was looked for.
    """
    if config.synthetic is not None:
        return _synthetic_clips(config.synthetic, image_size)
    if config.root is None:
        raise DataError("no data set is given, set data.root to a folder of videos or configure data.synthetic")
    root = Path(config.root)
    if not root.is_dir():
        raise DataError(f"the data set folder {root} does not exist, correct data.root")
    if is_packed(root):
        train, test = (tuple(ClipSource(c.name, c.open, c.path) for c in read_packed(root, name)) for name in SETS)
        return ClipSets(train, test)
    folders = [root / name for name in SETS]
    if any(folder.is_dir() for folder in folders):
        train, test = (list_clips(f, config.frame_shape) if f.is_dir() else () for f in folders)
        return ClipSets(train, test)
    return _split(root, list_clips(root, config.frame_shape), config.test_fraction)


def group_by_identity(clips: tuple[ClipSource, ...]) -> list[tuple[ClipSource, ...]]:
    """Clips of each identity, in the order in which identities first appear."""
    groups: dict[str, list[ClipSource]] = {}
    for clip in clips:
        groups.setdefault(clip.identity, []).append(clip)
    return [tuple(group) for group in groups.values()]


def list_clips(folder: Path, frame_shape: tuple[int, int] | None) -> tuple[ClipSource, ...]:
    """All clips of a folder, in natural order; see `open_clip` for `frame_shape`.

    Raises:
        DataError: there are none, or images that may be strips and no `frame_shape`.
    """
    clips = []
    for path in sorted(folder.iterdir(), key=lambda entry: natural_key(entry.name)):
        suffix = path.suffix.lower()
        if path.name.startswith("."):
            continue
        if path.is_dir():
            wanted = bool(frame_files(path))
        elif suffix in IMAGE_SUFFIXES and frame_shape is None:
            raise DataError(
                f"{path} is an image among clips: set data.frame_shape to the (height, width) of the frames that stand "
                "side by side in it, or put each clip's frames into a folder of its own"
            )
        else:
            wanted = suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES
        if wanted:
            clips.append(ClipSource(path.name, partial(open_clip, path, frame_shape), path))
    if not clips:
        raise DataError(
            f"{folder} holds no clips, put videos ({', '.join(sorted(VIDEO_SUFFIXES))}), folders of frames or strip "
            "images there"
        )
    return tuple(clips)


def _split(root: Path, clips: tuple[ClipSource, ...], test_fraction: float) -> ClipSets:
    groups = group_by_identity(clips)
    if len(groups) < 2:
        raise DataError(
            f"{root} shows one identity only and cannot be split, sort the clips into {root}/train and /test"
        )
    num_test = min(max(1, round(test_fraction * len(groups))), len(groups) - 1)
    chosen = np.random.default_rng(_SPLIT_SEED).permutation(len(groups))[:num_test]
    held_out = {groups[i][0].identity for i in chosen}
    return ClipSets(
        train=tuple(clip for clip in clips if clip.identity not in held_out),
        test=tuple(clip for clip in clips if clip.identity in held_out),
    )


def _synthetic_clips(config: SyntheticConfig, image_size: tuple[int, int]) -> ClipSets:
    from lami.data.synthetic import SyntheticFigures

    def sources(start: int, count: int) -> tuple[ClipSource, ...]:
        figures = SyntheticFigures(image_size, count, config.num_frames, start, config.camera_motion)
        return tuple(ClipSource(figures.name(i), partial(figures.clip, i)) for i in range(count))

    return ClipSets(sources(0, config.num_clips), sources(config.num_clips, config.num_test_clips))
