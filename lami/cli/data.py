"""`lami data`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from lami.cli.options import parse
from lami.cli.subcommands import dispatch

if TYPE_CHECKING:
    from lami.configs.schema import DataConfig
    from lami.data import SetSurvey

_CHECK = "tell what a data set holds, and which clips cannot be opened or lack their first or last frame"
_PACK = "turn a data set into a few large files, which training reads fast"
_VERIFY = "check that a packed data set is undamaged"

Folder = tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="DIR")]]
Size = Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="HEIGHT WIDTH")]


@dataclass
class CheckOptions:
    source: Folder
    """Folder of videos, frame folders or strips, with `train` and `test` inside or split automatically; or packed."""
    clips: bool = False
    """List every clip."""
    frame_shape: Size = None
    """Size of the frames that stand side by side in a strip image."""
    test_fraction: float = 0.2
    """Share of clips held out where the source has neither a train nor a test folder."""


@dataclass
class PackOptions:
    source: Folder
    """Folder of videos, frame folders or strips, with `train` and `test` inside or split automatically."""
    output: Folder
    """Folder to pack into, for data.root; a run that was cut off goes on there. One run at a time."""
    size: Size = None
    """Resize frames as training does; by default they keep their size. Take model.image_size."""
    format: Literal["jpg", "png"] = "jpg"
    """jpg: quality 95, colours in full resolution; png: without loss, several times larger and slower to read."""
    shard_size: Annotated[float, tyro.conf.arg(metavar="MB")] = 512
    """Size of a shard; a clip is never divided."""
    frame_shape: Size = None
    """Size of the frames that stand side by side in a strip image."""
    test_fraction: float = 0.2
    """Share of clips held out where the source has neither a train nor a test folder."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Processes that encode; by default one a core."""


@dataclass
class VerifyOptions:
    folder: Folder
    """Packed data set."""


def main(arguments: list[str]) -> None:
    dispatch("data", {"check": (_CHECK, _check), "pack": (_PACK, _pack), "verify": (_VERIFY, _verify)}, arguments)


def _check(arguments: list[str]) -> None:
    options = parse(CheckOptions, arguments, "data check", f"{_CHECK.capitalize()}.")

    from lami.data import survey
    from lami.errors import DataError

    sets = survey(_data(options))
    for name, found in sets.items():
        print(f"{name}: {_summary(found)}")
        for clip in found.clips if options.clips else ():
            rate = "" if clip.rate is None else f", {float(clip.rate):g} frames a second"
            print(f"  {clip.name}: {clip.frames} frames of {clip.size[0]} x {clip.size[1]}{rate}")
        for clip_name, reason in found.left_out.items():
            print(f"  {clip_name} is left out: {reason}")
    for name, found in sets.items():
        if not found.clips:
            raise DataError(f"none of the {len(found.left_out)} clips for {name} can be read, see above")


def _summary(found: SetSurvey) -> str:
    """Number of clips, identities and frames, and the ranges of sizes and rates."""
    left_out = f", {len(found.left_out)} left out" if found.left_out else ""
    if not found.clips:
        return f"0 clips{left_out}"
    frames = sum(clip.frames for clip in found.clips)
    parts = [f"{len(found.clips)} clips of {len({clip.identity for clip in found.clips})} identities{left_out}"]
    still = sum(clip.frames == 1 for clip in found.clips)
    parts.append(f"{frames} frames" + (f" ({still} clips have one only and show no motion)" if still else ""))
    by_area = sorted((clip.size for clip in found.clips), key=lambda size: size[0] * size[1])
    parts.append(_range(*(f"{height} x {width}" for height, width in (by_area[0], by_area[-1]))) + " (height x width)")
    rates = [float(clip.rate) for clip in found.clips if clip.rate is not None]
    if rates:
        parts.append(_range(f"{min(rates):g}", f"{max(rates):g}") + " frames a second")
    return ", ".join(parts)


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _data(options: CheckOptions | PackOptions) -> DataConfig:
    from lami.configs import load_config

    given = {"root": str(options.source), "frame_shape": options.frame_shape, "test_fraction": options.test_fraction}
    return load_config(None, {f"data.{key}": value for key, value in given.items()}).data


def _pack(arguments: list[str]) -> None:
    options = parse(PackOptions, arguments, "data pack", f"{_PACK.capitalize()}.")

    from lami.data import PackSettings, pack

    data = _data(options)
    settings = PackSettings(
        size=options.size,
        format=options.format,
        shard_size=round(options.shard_size * 1e6),
        frame_shape=data.frame_shape,
    )
    report = pack(data, options.output, settings, options.workers)
    for name, packed in report.sets.items():
        left_out = f", {len(packed.left_out)} left out" if packed.left_out else ""
        size = f"{packed.bytes / 1e6:.1f} MB in {packed.shards} shards"
        print(f"{name}: {packed.clips} clips{left_out}, {packed.frames} frames, {size}")


def _verify(arguments: list[str]) -> None:
    options = parse(VerifyOptions, arguments, "data verify", f"{_VERIFY.capitalize()}.")

    from lami.data import verify
    from lami.errors import DataError

    problems = verify(options.folder)
    for path, problem in problems.items():
        logging.getLogger(__name__).error("%s: %s", path, problem)
    if problems:
        raise DataError(
            f"{len(problems)} shards in {options.folder} are damaged or missing: copy them again, or delete them and "
            "run `lami data pack` again"
        )
    print(f"{options.folder} is as it was packed")
