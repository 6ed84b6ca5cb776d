"""Writing shards, in WebDataset's naming convention: `<clip>/<frame>.<suffix>`."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from types import TracebackType

from lami.data.encoding import ClipFile
from lami.data.shards import ClipEntry, PackSettings, ShardIndex, SourceState, publish, write_record


class ShardWriter:
    """Context manager that makes one shard under a temporary name in `folder`, until `finish`."""

    def __init__(self, folder: Path, settings: PackSettings) -> None:
        self._partial = folder / "shard.tar"
        self._settings = settings
        self._sources: dict[str, SourceState] = {}
        self._left_out: dict[str, str] = {}
        self.clips: list[ClipEntry] = []
        """Clips written so far."""

    def __enter__(self) -> ShardWriter:
        self._file = self._partial.open("wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def has_room(self, clip: ClipFile) -> bool:
        """Whether the clip fits; the first always does."""
        needed = sum(tarfile.BLOCKSIZE + _padded(size) for _, size in clip.frames)
        return not self.clips or self._file.tell() + needed <= self._settings.shard_size

    def add(self, name: str, source: SourceState, clip: ClipFile) -> None:
        frames = []
        with clip.path.open("rb") as file:
            for number, (suffix, size) in enumerate(clip.frames):
                member = tarfile.TarInfo(f"{name}/{number:06d}.{suffix}")  # no time, no owner: equal bytes in every run
                member.size = size
                self._tar.addfile(member, file)
                frames.append((self._file.tell() - _padded(size), size))
        self._sources[name] = source
        self.clips.append(ClipEntry(name=name, rate=None if clip.rate is None else str(clip.rate), frames=frames))

    def leave_out(self, name: str, source: SourceState, reason: str) -> None:
        self._sources[name] = source
        self._left_out[name] = reason

    def finish(self, path: Path) -> ShardIndex:
        """Put the shard at `path`, and then its index beside it; both survive a power cut."""
        self._tar.close()
        self._file.close()
        with self._partial.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        index = ShardIndex(
            settings=self._settings,
            size=self._partial.stat().st_size,
            sha256=digest,
            sources=self._sources,
            clips=self.clips,
            left_out=self._left_out,
        )
        publish(self._partial, path)
        write_record(index, self._partial.with_suffix(".json"), path.with_suffix(".json"))
        return index


def _padded(size: int) -> int:
    """Room of a file in a tar, without its header."""
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
