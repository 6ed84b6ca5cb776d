"""What reading and writing of every kind of file has in common."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from uuid import uuid4

from lami.errors import DataError

_LFS_POINTER = b"version https://git-lfs.github.com"
_TAG = 8
"""Random digits in the names of files that are being written."""


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which `frame10` comes after `frame9`."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts)


def check_readable(path: Path) -> None:
    """Raise a `DataError` for causes that a decoder reports poorly: missing, not a file, empty, a git-lfs pointer."""
    if not path.exists():
        raise DataError(f"{path} does not exist, check the path")
    if not path.is_file():
        raise DataError(f"{path} is not a file, give the path of one image or video")
    try:
        with path.open("rb") as file:
            head = file.read(len(_LFS_POINTER))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}), check its permissions") from error
    if not head:
        raise DataError(f"{path} is empty, copy or download it again")
    if head == _LFS_POINTER:
        raise DataError(f"{path} is a git-lfs pointer instead of the file itself, fetch it with `git lfs pull`")


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a name beside `target` to write to; it becomes `target` on success and is removed on failure.

    The name keeps the suffix, by which writers choose their format. Missing folders are created.
    """
    partial = target.with_name(f".{target.stem}.{uuid4().hex[:_TAG]}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.touch(exist_ok=False)
    except OSError as error:
        raise DataError(f"{target} cannot be written ({error.strerror}), choose another folder") from error
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def remove_partials(target: Path) -> None:
    """Remove what `atomic_path(target)` left where the process was killed; nobody may be writing `target` now."""
    for partial in target.parent.glob(f".{escape(target.stem)}.{'[0-9a-f]' * _TAG}{escape(target.suffix)}"):
        partial.unlink(missing_ok=True)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder, made where it is missing, against other processes that would claim it too.

    The system lets go of it when the process ends, however it does; processes that it forked do not hold it.

    Raises:
        DataError: another process holds the folder, or it cannot be made.
    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}), choose another folder") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f"another run is writing to {folder}; wait for it, or choose another folder") from error
        _claims.add(descriptor)
        yield
    finally:
        _claims.discard(descriptor)
        os.close(descriptor)


_claims: set[int] = set()
"""Descriptors of this process's folders."""


def _let_go() -> None:
    for descriptor in _claims:
        os.close(descriptor)
    _claims.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
