"""Which clips are compared; what does not fit shows here, before hours of work and before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lami.configs.schema import ModelConfig
from lami.data import IMAGE_SUFFIXES, TestClips, list_clips, read_image
from lami.data.clips import frame_files
from lami.data.sources import ClipSource
from lami.errors import ConfigError, DataError

_LOSSLESS = frozenset({".png", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"})
_SAY_SIZE = "generate frames of that size, or say with --model.image-size at which both are compared"


def check_positive(**counts: int | None) -> None:
    """Raises ConfigError if one of these is given and less than 1."""
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be 1 or more, got {value}")


def check_fits(wanted: ModelConfig, given: ModelConfig, checkpoint: str | Path) -> None:
    """Raises ConfigError if a configuration has another size or other splines than the checkpoint."""
    for key in ("image_size", "num_splines", "points_per_spline"):
        if getattr(wanted, key) != getattr(given, key):
            raise ConfigError(
                f"{checkpoint} has model.{key} {getattr(given, key)} and the configuration {getattr(wanted, key)}; use "
                "the configuration that it was trained with, or name the folder of videos alone (--data)"
            )


def check_moving(sources: Sequence[ClipSource]) -> None:
    """Raises DataError if there are no test clips, or one is a single frame: the others are made from the first."""
    TestClips(sources, (1, 1))  # whose error tells where they belong
    for source in sources:
        facts = _facts(source)
        if facts is not None and facts.frames == 1:
            raise DataError(f"{_where(source)} has a single frame, in which nothing moves; take it out of the test set")


def common_size(sources: Sequence[ClipSource]) -> tuple[int, int]:
    """(height, width) of the clips' first frames.

    Raises:
        DataError: they have several sizes, or no clip can be read.
    """
    sizes: dict[tuple[int, int], ClipSource] = {}
    for source in sources:
        if (facts := _facts(source)) is not None:
            sizes.setdefault(facts.size, source)
    if not sizes:
        raise DataError(f"none of {len(sources)} test videos can be read; `lami data check` tells why")
    if len(sizes) > 1:
        (one, first), (other, second) = list(sizes.items())[:2]
        raise DataError(
            f"the frames of {first.name} are {_text(one)} and those of {second.name} {_text(other)}; say with "
            "--model.image-size at which size all are compared"
        )
    return next(iter(sizes))


def match_generated(
    tests: Sequence[ClipSource], limit: int | None, folder: Path, size: tuple[int, int], resized: bool
) -> list[ClipSource]:
    """The generated clip of each test clip, by the name up to the first dot.

    Args:
        tests: all test clips; nothing else may have been generated.
        limit: how many of them need a generated clip; None for all.
        size: (height, width) of the frames, also of generated strips.
        resized: whether generated frames of other sizes are resized to it.

    Raises:
        DataError: there is none, one too many, one that is damaged or has another number or size of frames, or two of
            one name.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder} of generated videos, check the path")
    generated, real = _by_name(list_clips(folder, size), folder), _by_name(tests, Path("the test set"))
    wanted = list(real)[:limit]
    if missing := [name for name in wanted if name not in generated]:
        raise DataError(
            f"{folder} has nothing for {len(missing)} of {len(wanted)} test videos, the first is {missing[0]}; "
            "generate a clip for each, named as the test video up to the first dot"
        )
    if extra := [clip.name for name, clip in generated.items() if name not in real]:
        raise DataError(
            f"{folder} has {len(extra)} clips that stand for no test video, the first is {extra[0]}; take them out, or "
            "name each as its test video up to the first dot"
        )
    for name in wanted:
        _check_alike(real[name], generated[name], size, resized)
    return [generated[name] for name in wanted]


def compressed(clips: Sequence[ClipSource]) -> list[str]:
    """Suffixes of the files of clips that are usually compressed with loss."""
    suffixes = set()
    for clip in clips:
        if clip.path is not None:
            files = frame_files(clip.path) if clip.path.is_dir() else [clip.path]
            suffixes |= {file.suffix.lower() for file in files}
    return sorted(suffixes - _LOSSLESS)


def _check_alike(real: ClipSource, generated: ClipSource, size: tuple[int, int], resized: bool) -> None:
    where = _where(generated)
    if generated.path is not None and generated.path.is_file() and generated.path.suffix.lower() in IMAGE_SUFFIXES:
        strip = read_image(generated.path).shape[:2]
        if strip[0] != size[0] or strip[1] % size[1]:
            raise DataError(f"{where} is {_text(strip)} and no row of frames of {_text(size)}; {_SAY_SIZE}")
    made, frames = _Facts.read(generated), _facts(real)
    if frames is not None and made.frames != frames.frames:
        raise DataError(
            f"{real.name} has {frames.frames} frames in the test set and {made.frames} in {where}; generate as many"
        )
    if not resized and made.size != size:
        raise DataError(f"the frames of {where} are {_text(made.size)} and the real ones {_text(size)}; {_SAY_SIZE}")


@dataclass(frozen=True)
class _Facts:
    frames: int
    size: tuple[int, int]
    """(height, width) of the first one."""

    @classmethod
    def read(cls, source: ClipSource) -> _Facts:
        """Raises DataError for a clip that is damaged."""
        clip = source.open()
        height, width = clip.frames([0])[0].shape[:2]
        return cls(len(clip), (height, width))


def _facts(source: ClipSource) -> _Facts | None:
    """None for a clip that is damaged: that is left to the work itself, which tells of each and goes on."""
    try:
        return _Facts.read(source)
    except DataError:
        return None


def _where(source: ClipSource) -> str:
    """The file, or what the clip is called where it has none of its own."""
    return str(source.path) if source.path is not None and source.path.name == source.name else source.name


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _by_name(clips: Sequence[ClipSource], where: Path) -> dict[str, ClipSource]:
    named: dict[str, ClipSource] = {}
    for clip in clips:
        name = clip.name.partition(".")[0]
        if name in named:
            raise DataError(
                f"{named[name].name} and {clip.name} of {where} are the same up to the first dot, rename one"
            )
        named[name] = clip
    return named
