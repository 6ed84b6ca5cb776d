"""The packed form of a data set: tar files of encoded frames, and beside each an index of where the frames lie.

train/shard-00000.tar    <clip>/<frame:06d>.jpg, the frames of a clip together and in order
train/shard-00000.json   `ShardIndex`; written last, a shard without it does not count
test/...
report.json              `PackReport`; written when the last shard is there
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lami.data.clips import frame_files
from lami.errors import DataError

REPORT = "report.json"
SETS = ("train", "test")

FrameFormat = Literal["jpg", "png"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PackSettings(_Record):
    """What decides, together with the sources, what is in the shards."""

    size: tuple[int, int] | None
    """(height, width) of all frames; None keeps theirs."""
    format: FrameFormat
    shard_size: int
    """Bytes that a shard does not exceed, unless a single clip does."""
    frame_shape: tuple[int, int] | None
    """As `DataConfig.frame_shape`."""


class SourceState(_Record):
    """What tells that the files of a clip have changed."""

    files: int
    size: int
    """Bytes of all of them."""
    modified_ns: int
    """When the newest was written, in nanoseconds since 1970."""

    @classmethod
    def of(cls, path: Path) -> SourceState:
        files = frame_files(path) if path.is_dir() else [path]
        found = [file.stat() for file in files if file.exists()]
        newest = max((status.st_mtime_ns for status in found), default=0)
        return cls(files=len(found), size=sum(status.st_size for status in found), modified_ns=newest)


class ClipEntry(_Record):
    """A clip in a shard."""

    name: str
    rate: str | None
    """Frames a second as a fraction, `30000/1001`."""
    frames: list[tuple[int, int]]
    """Where the image file of each frame begins in the shard, and its size; in bytes."""


class ShardIndex(_Record):
    """Beside a shard."""

    version: Literal[1] = 1
    settings: PackSettings
    size: int
    """Bytes of the shard."""
    sha256: str
    sources: dict[str, SourceState]
    """By name, the stretch of the data set that this shard covers, in order."""
    clips: list[ClipEntry]
    left_out: dict[str, str]
    """Why clips of the stretch could not be read, by name."""


class SetReport(_Record):
    shards: int
    clips: int
    frames: int
    bytes: int
    left_out: dict[str, str]
    """Reasons by name of the clip."""


class PackReport(_Record):
    """What came of a packing."""

    version: Literal[1] = 1
    settings: PackSettings
    sets: dict[Literal["train", "test"], SetReport]
    seconds: float
    """Of the last run."""


Record = TypeVar("Record", ShardIndex, PackReport)


def read_record(kind: type[Record], path: Path) -> Record:
    """Read an index or a report. Raises `DataError`, naming the file, where it is missing or damaged."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}), copy or pack the data again") from error
    except ValidationError as error:
        raise DataError(f"{path} is damaged, delete it and run `lami data pack` again") from error


def shard_path(root: Path, name: str, number: int) -> Path:
    """Where shard `number` of the set `name` is; its index has the suffix json."""
    return root / name / f"shard-{number:05d}.tar"


def is_packed(root: Path) -> bool:
    return any(path.suffix in (".tar", ".json") for name in SETS for path in (root / name).glob("shard-*"))


def read_report(root: Path) -> PackReport:
    """The report of a packed folder. Raises `DataError` if it is none, or packing has not come to its end."""
    if not is_packed(root):
        raise DataError(f"{root} is not a packed data set, `lami data pack` makes one")
    if not (root / REPORT).exists():
        raise DataError(f"{root} is not packed to the end, run the same `lami data pack` again")
    return read_record(PackReport, root / REPORT)


def write_record(record: BaseModel, partial: Path, path: Path) -> None:
    """Write `partial` and publish it as `path`."""
    partial.write_text(record.model_dump_json() + "\n", encoding="utf-8")
    publish(partial, path)


def publish(partial: Path, path: Path) -> None:
    """Rename a complete file, so that `path` never appears without its content, even after a power cut."""
    _sync(partial)
    partial.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
