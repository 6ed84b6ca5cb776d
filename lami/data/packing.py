"""Packing a data set into shards, see `lami.data.shards` for what these are.

Several processes encode clips into temporary files, one writes these into shards in order. A shard is closed where the
next clip would make it too large: what it holds follows from sources and settings alone, so that a run that was killed
is gone on with at the first shard that is missing.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from fnmatch import fnmatch
from itertools import chain, zip_longest
from pathlib import Path

from lami.configs.schema import DataConfig
from lami.data.encoding import ClipFile, Unreadable, encode_clips
from lami.data.files import claimed
from lami.data.shards import (
    REPORT,
    SETS,
    PackReport,
    PackSettings,
    SetReport,
    ShardIndex,
    SourceState,
    read_record,
    shard_path,
    write_record,
)
from lami.data.sources import ClipSets, ClipSource, find_clips
from lami.data.tar import ShardWriter
from lami.errors import ConfigError, DataError
from lami.progress import track

logger = logging.getLogger(__name__)

_TEMPORARY = ".packing-"

_EncodedSource = tuple[ClipSource, ClipFile | Unreadable]


def pack(data: DataConfig, output: str | Path, settings: PackSettings, workers: int | None = None) -> PackReport:
    """Pack the clips of `data.root` into `output`, or go on where a run with the same sources and settings ended.

    Frames of jpg files, and of png files where png is wanted, are copied byte by byte where they have the wanted size.
    Clips that cannot be read are left out, with a warning. `report.json` in `output` says what came of it.

    Args:
        data: as for training; of it `root`, `frame_shape` and `test_fraction` count.
        output: folder; made where it is missing. One run at a time works there, another is refused.
        settings: size and format of the frames, size of the shards.
        workers: processes that encode; None takes one a core, 1 works in this process.

    Raises:
        ConfigError: a setting cannot work.
        DataError: there are no clips or none of them can be read, `output` holds something else, or shards of other
            sources or settings, or there is no room. Shards that are finished stay, for the next run.
        LamiError: a process died.
    """
    start = time.monotonic()
    root = Path(output)
    if min(settings.shard_size, *(settings.size or (1, 1)), 1 if workers is None else workers) < 1:
        raise ConfigError("size, shard size and workers must be positive")
    clips = find_clips(data, settings.size or (1, 1))
    _check_output(root)
    with claimed(root):
        return _pack(root, clips, settings, workers or os.cpu_count() or 1, start)


def _pack(root: Path, clips: ClipSets, settings: PackSettings, workers: int, start: float) -> PackReport:
    both = [_PackedSet(root, name, getattr(clips, name), settings) for name in SETS]
    sets = [packed for packed in both if packed.sources]
    try:
        if any(packed.gaps() for packed in sets):
            (root / REPORT).unlink(missing_ok=True)
            with _temporary_folder(root) as temporary:
                for packed in sets:
                    packed.complete(temporary, workers)
        report = PackReport(
            settings=settings,
            sets={packed.name: packed.report() for packed in sets},
            seconds=round(time.monotonic() - start, 1),
        )
        write_record(report, root / f".{REPORT}", root / REPORT)
    except OSError as error:
        finished = sum(len(packed.shards) for packed in sets)
        raise DataError(
            f"{root} cannot be written ({error.strerror}); {finished} shards are finished and stay: make room, then "
            "run the same command again"
        ) from error
    return report


class _PackedSet:
    """The shards of a set: those that are finished, and those to come."""

    def __init__(self, root: Path, name: str, sources: Sequence[ClipSource], settings: PackSettings) -> None:
        self.name = name
        self.sources = sources
        self.shards: dict[int, ShardIndex] = {}
        """Finished ones by number."""
        self._root = root
        self._settings = settings
        # Before anything is read: what changes while it is read is then noticed by the next run.
        self._states = {source.name: _state(source) for source in sources}
        for path in sorted((root / name).glob("shard-*.json")):
            index = read_record(ShardIndex, path)
            self._check(path, index)
            tar = path.with_suffix(".tar")
            if tar.exists() and tar.stat().st_size == index.size:
                self.shards[int(path.stem.removeprefix("shard-"))] = index

    def gaps(self) -> list[tuple[int, Sequence[ClipSource]]]:
        """Stretches of clips that no shard covers, and the number of the first shard of each."""
        found: list[tuple[int, Sequence[ClipSource]]] = []
        position, number = 0, 0
        for existing in sorted(self.shards):
            first = self._position(self.shards[existing])
            if first > position:
                found.append((number, self.sources[position:first]))
            position, number = first + len(self.shards[existing].sources), existing + 1
        if position < len(self.sources):
            found.append((number, self.sources[position:]))
        return found

    def complete(self, temporary: Path, workers: int) -> None:
        """Make the shards that are missing."""
        (self._root / self.name).mkdir(exist_ok=True)
        for number, sources in self.gaps():
            with closing(encode_clips(sources, self._settings, temporary, workers)) as encoded:
                clips = zip(sources, track(encoded, len(sources), f"packing {self.name}"), strict=True)
                next_clip = next(clips, None)
                while next_clip is not None:
                    next_clip = self._write_shard(number, chain([next_clip], clips), temporary)
                    number += 1

    def report(self) -> SetReport:
        indices = [self.shards[number] for number in sorted(self.shards)]
        return SetReport(
            shards=len(indices),
            clips=sum(len(index.clips) for index in indices),
            frames=sum(len(clip.frames) for index in indices for clip in index.clips),
            bytes=sum(index.size for index in indices),
            left_out={name: reason for index in indices for name, reason in index.left_out.items()},
        )

    def _write_shard(self, number: int, clips: Iterable[_EncodedSource], temporary: Path) -> _EncodedSource | None:
        """Returns the first clip of the next shard."""
        path = shard_path(self._root, self.name, number)
        if number in self.shards:
            raise DataError(f"{path} does not follow the shard before it, delete {self._root} and pack again")
        next_clip = None
        with ShardWriter(temporary, self._settings) as writer:
            for source, clip in clips:
                state = self._states[source.name]
                if isinstance(clip, Unreadable):
                    logger.warning("clip %s is left out: %s", source.name, clip.reason)
                    writer.leave_out(source.name, state, clip.reason)
                elif writer.has_room(clip):
                    writer.add(source.name, state, clip)
                    clip.path.unlink()
                else:
                    next_clip = source, clip
                    break
            if not writer.clips and not self.shards:
                raise DataError(f"none of the {len(self.sources)} clips for {self.name} can be read, see the warnings")
            self.shards[number] = writer.finish(path)
        return next_clip

    def _check(self, path: Path, index: ShardIndex) -> None:
        before, now = index.settings.model_dump(), self._settings.model_dump()
        for key in before:
            if before[key] != now[key]:
                raise DataError(
                    f"{path} was packed with {key} {before[key]} instead of {now[key]}, use the same settings or "
                    "another output folder"
                )
        first = self._position(index)
        expected = list(self._states.items())[first : first + len(index.sources)]
        for (name, state), found in zip_longest(index.sources.items(), expected):
            if (name, state) != found:
                raise DataError(
                    f"{path} was packed from other clips: {name} has changed, moved or gone since; pack into another "
                    "folder"
                )

    def _position(self, index: ShardIndex) -> int:
        """Where the stretch of a shard begins."""
        first = next(iter(index.sources))
        return next((i for i, name in enumerate(self._states) if name == first), len(self._states))


def _state(source: ClipSource) -> SourceState:
    assert source.path is not None
    try:
        source.name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the name of {source.path!r} is not UTF-8, rename it") from error
    return SourceState.of(source.path)


def _check_output(root: Path) -> None:
    """Nothing in the folder but what a packing makes: other clips there would never be read again."""
    kinds = {root: (*SETS, REPORT, f".{REPORT}", f"{_TEMPORARY}*"), **{root / name: ("shard-*",) for name in SETS}}
    for folder, patterns in kinds.items():
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{folder} is not a folder, choose another output folder")
        for entry in folder.iterdir() if folder.exists() else ():
            if not any(fnmatch(entry.name, pattern) for pattern in patterns):
                raise DataError(f"{entry} is not part of a packed data set, choose an empty output folder")


@contextmanager
def _temporary_folder(root: Path) -> Iterator[Path]:
    """In `root`, so that files can be renamed; those of runs that were killed are removed first."""
    root.mkdir(parents=True, exist_ok=True)
    for stray in root.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(stray)
    with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=root, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
