"""What reading and writing of every kind of file has in common."""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from os.path import samestat
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from uuid import uuid4

from lami.errors import DataError

logger = logging.getLogger(__name__)

_LFS_POINTER = b"version https://git-lfs.github.com"
_TAG = 8
"""Random digits in the names of files that are being written."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which `frame10` comes after `frame9`."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts)


def check_readable(path: Path) -> None:
    """Raise a `DataError` for causes that a decoder reports poorly: missing, not a file, empty, a git-lfs pointer."""
    try:
        mode = path.stat().st_mode
        if not S_ISREG(mode):  # a pipe would wait for somebody to write into it
            raise DataError(f"{path} is not a file, give the path of one image or video")
        with path.open("rb") as file:
            head = file.read(len(_LFS_POINTER))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{path} does not exist, check the path") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}), check its name and permissions") from error
    if not head:
        raise DataError(f"{path} is empty, copy or download it again")
    if head == _LFS_POINTER:
        raise DataError(f"{path} is a git-lfs pointer instead of the file itself, fetch it with `git lfs pull`")


def check_output(path: Path, inputs: Iterable[Path] = (), overwrite: bool = False) -> None:
    """Raise a `DataError` for a file that could be written only after all the work, or would destroy something.

    inputs: files, and folders of frames, that the file is made from, which not even `overwrite` gives up. The folder
    may be missing.
    """
    inputs = tuple(inputs)
    try:
        status = _status(path)
        _status(_partial(path))  # whose name is longer
        taken = status is not None and any(samestat(status, other) for other in map(_status, inputs) if other)
        among = _status(path.resolve().parent)
        mixed = among is not None and any(samestat(among, other) for other in map(_status, inputs) if other)
        folder = next(folder for folder in path.absolute().parents if _status(folder))
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}), choose another name") from error
    if taken:
        raise DataError(f"{path} is an input and will not be overwritten; choose another output")
    if mixed:
        raise DataError(f"{path} would be among the frames of an input folder; choose another output")
    if status is not None and S_ISDIR(status.st_mode):
        raise DataError(f"{path} is a folder; give the name of a file to write")
    if status is not None and not S_ISREG(status.st_mode):
        raise DataError(f"{path} is not a regular file; choose another output")
    if status is not None and not overwrite:
        raise DataError(f"{path} exists already; choose another output, or replace it with --overwrite")
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(f"{path} cannot be written, {folder} is not a folder with write access; choose another")


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a name beside `target` to write to; it becomes `target` on success and is removed on failure.

    The name keeps the suffix, by which writers choose their format. Missing folders are created. A disk that is full
    meanwhile is a `DataError`.
    """
    partial = _partial(target)
    try:  # also around the first step: an interruption may come as soon as the file is there
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.touch(exist_ok=False)
        except OSError as error:
            raise DataError(f"{target} cannot be written ({error.strerror}), choose another folder") from error
        yield partial
        partial.replace(target)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        cause = os.strerror(error.errno)
        raise DataError(f"{target} cannot be written ({cause}), make room or choose another folder") from error
    finally:
        with suppress(OSError):  # there is none where the folder is none
            partial.unlink()


def remove_partials(target: Path) -> None:
    """Remove what `atomic_path(target)` left where the process was killed; nobody may be writing `target` now."""
    for partial in target.parent.glob(f".{escape(target.stem)}.{'[0-9a-f]' * _TAG}{escape(target.suffix)}"):
        partial.unlink(missing_ok=True)


@contextmanager
def claimed(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a folder, made where it is missing, against other processes that would claim it too.

    The system lets go of it when the process ends, however it does; processes that it forked do not hold it.

    Args:
        wait: until the others let go of it, instead of an error.

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
            if not wait:
                raise DataError(f"another run is writing to {folder}; wait for it, or choose another folder") from error
            logger.info("waiting for another run, which is writing to %s", folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
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


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.stem}.{uuid4().hex[:_TAG]}{target.suffix}")


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
