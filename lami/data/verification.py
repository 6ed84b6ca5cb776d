"""Checking a packed data set: every byte is what was packed."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

from lami.data.shards import SETS, ShardIndex, read_record, read_report, shard_path
from lami.errors import DataError
from lami.progress import track


def verify(folder: str | Path) -> dict[Path, str]:
    """Read all shards of a packed data set from front to back, and compare them with their checksums and indices.

    Returns:
        What is wrong, by shard; empty if nothing is.

    Raises:
        DataError: the folder is not a packed data set, or not packed to the end.
    """
    root = Path(folder)
    report = read_report(root)
    paths = [shard_path(root, name, n) for name in SETS if name in report.sets for n in range(report.sets[name].shards)]
    found = {path: _problem(path) for path in track(paths, description="verifying")}
    return {path: problem for path, problem in found.items() if problem}


def _problem(path: Path) -> str:
    try:
        index = read_record(ShardIndex, path.with_suffix(".json"))
        size = path.stat().st_size
        if size != index.size:
            return f"it has {size} bytes instead of {index.size}"
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != index.sha256:
                return "its bytes are not those that were packed"
            file.seek(0)
            with tarfile.open(fileobj=file) as tar:
                stored = [(member.name.rpartition("/")[0], member.offset_data, member.size) for member in tar]
    except DataError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if stored != [(clip.name, *span) for clip in index.clips for span in clip.frames]:
        return "its index belongs to another shard"
    return ""
