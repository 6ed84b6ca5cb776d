"""Reading packed clips: one read at a known place a frame, no search and nothing to open."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np

from lami.data.clips import checked
from lami.data.images import decode_image
from lami.data.shards import ShardIndex, read_record, read_report, shard_path
from lami.errors import DataError

_MAX_OPEN_SHARDS = 128
"""In a process. At the usual size of a shard these are 64 GB; a data set of more opens files anew now and then."""


@dataclass(frozen=True)
class Shard:
    """A tar file and what it must be."""

    path: Path
    size: int
    """Bytes."""
    sha256: str

    def check(self) -> None:
        """Raise `DataError`, naming the file, where it is missing or has another size than when it was packed."""
        try:
            found = self.path.stat().st_size
        except OSError as error:
            raise self.unreadable(error.strerror) from error
        if found != self.size:
            raise self.unreadable(f"{found} bytes instead of {self.size}")

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file; safe in forked processes, which share the position in open files, and in threads."""
        try:
            data = os.pread(_open(self).descriptor, size, offset)
        except OSError as error:
            raise self.unreadable(error.strerror) from error
        if len(data) != size:
            raise self.unreadable("it ends too early")
        return data

    def unreadable(self, reason: object) -> DataError:
        return DataError(
            f"the shard {self.path} cannot be read ({reason}), copy it again, or delete it and run `lami data pack`"
        )


class _OpenShard:
    """Closed with the last reference, so that no thread loses a file that it is reading from."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


@lru_cache(maxsize=_MAX_OPEN_SHARDS)
def _open(shard: Shard) -> _OpenShard:
    return _OpenShard(shard.path)


class PackedClip:
    """A clip in a shard.

    spans: int64 (frames, 2), offset and size in bytes of each frame's image file.
    """

    def __init__(self, name: str, rate: Fraction | None, shard: Shard, spans: np.ndarray) -> None:
        self.name = name
        self.rate = rate
        self.path = shard.path
        self._shard = shard
        self._spans = spans

    def __len__(self) -> int:
        return len(self._spans)

    def open(self) -> PackedClip:
        """The clip itself: what it needs of the index is here, and shards are opened when they are read."""
        return self

    def frames(self, indices: Iterable[int]) -> list[np.ndarray]:
        return [self._decode(i) for i in checked(self, indices)]

    def encoded(self, index: int) -> bytes:
        offset, size = self._spans[index].tolist()
        return self._shard.read(offset, size)

    def _decode(self, index: int) -> np.ndarray:
        data = self.encoded(index)
        try:
            return decode_image(data)
        except DataError as error:
            raise self._shard.unreadable(f"frame {index} of {self.name}: {error}") from error


def read_packed(root: Path, name: str) -> list[PackedClip]:
    """Clips of the set `name`, `train` or `test`, of a packed folder, in natural order.

    Raises `DataError`, naming the file, where the folder is not packed to the end, or a shard is missing or truncated.
    """
    report = read_report(root)
    clips = []
    for number in range(report.sets[name].shards if name in report.sets else 0):
        path = shard_path(root, name, number)
        index = read_record(ShardIndex, path.with_suffix(".json"))
        shard = Shard(path, index.size, index.sha256)
        shard.check()
        for entry in index.clips:
            rate = None if entry.rate is None else Fraction(entry.rate)
            # An array is one object to a forked process, which does not copy it by counting references to numbers.
            clips.append(PackedClip(entry.name, rate, shard, np.array(entry.frames, np.int64)))
    return clips
