"""`lami data`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lami.cli.options import parse
from lami.cli.subcommands import dispatch

_PACK = "turn a data set into a few large files, which training reads fast"
_VERIFY = "check that a packed data set is undamaged"

Folder = tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="DIR")]]
Size = Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="HEIGHT WIDTH")]


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
    dispatch("data", {"pack": (_PACK, _pack), "verify": (_VERIFY, _verify)}, arguments)


def _pack(arguments: list[str]) -> None:
    options = parse(PackOptions, arguments, "data pack", f"{_PACK.capitalize()}.")

    from lami.configs import load_config
    from lami.data import PackSettings, pack

    data = load_config(
        None,
        {
            "data.root": str(options.source),
            "data.frame_shape": options.frame_shape,
            "data.test_fraction": options.test_fraction,
        },
    ).data
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
