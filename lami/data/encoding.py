"""Encoding clips into one file each, in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from lami.data.augmentation import resize
from lami.data.clips import Clip, EncodedClip
from lami.data.images import decode_image, encode_image, to_tensor, to_uint8
from lami.data.shards import PackSettings
from lami.data.sources import ClipSource
from lami.errors import DataError, LamiError

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"
_AHEAD = 2
"""Clips a process that may wait, encoded, for one that takes longer: they need room on the disk."""


@dataclass(frozen=True)
class ClipFile:
    """Image files of all frames of a clip, one after the other in one file."""

    path: Path
    rate: Fraction | None
    frames: list[tuple[str, int]]
    """Suffix and size in bytes of each."""


@dataclass(frozen=True)
class Unreadable:
    """What is wrong with a clip, in a sentence."""

    reason: str


def encode_clips(
    sources: Sequence[ClipSource], settings: PackSettings, folder: Path, workers: int
) -> Generator[ClipFile | Unreadable, None, None]:
    """Encode clips into files in `folder`, and yield them in order; whoever takes one deletes it.

    workers: number of processes; 1 stands for this one alone.
    Raises `OSError` where `folder` cannot be written, `LamiError` where a process dies.
    """
    jobs = ((source, settings, folder / f"{number:08d}") for number, source in enumerate(sources))
    if workers == 1:
        yield from (_encode(*job) for job in jobs)
        return
    # Not forked: this process may have threads, of PyTorch for instance, whose locks a fork would copy.
    context = multiprocessing.get_context("spawn")
    alive, leash = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(min(workers, len(sources)), context, initializer=_begin, initargs=(alive,))
    with pool, leash:  # left in reverse order: where an error ends this, nobody waits for clips half encoded
        waiting: deque[Future[ClipFile | Unreadable]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(_encode, *job))
                if len(waiting) > _AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise LamiError(
                "a process that encodes clips died, often for lack of memory; fewer of them (--workers) need less, and "
                "the same command goes on after the last finished shard"
            ) from error


def _begin(alive: Connection) -> None:
    """Work on one core, and end when the other end of `alive` closes, even if by SIGKILL of its process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the other end decides
    torch.set_num_threads(1)

    def wait() -> None:
        alive.poll(None)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _encode(source: ClipSource, settings: PackSettings, path: Path) -> ClipFile | Unreadable:
    frames = []
    with path.open("wb") as file:
        try:
            clip = source.open()
            for index in range(len(clip)):
                data = _frame(clip, index, settings)
                frames.append(("jpg" if data.startswith(_JPEG) else "png", file.write(data)))
        except DataError as error:
            path.unlink()
            return Unreadable(str(error))
    return ClipFile(path, clip.rate, frames)


def _frame(clip: Clip, index: int, settings: PackSettings) -> bytes:
    image = clip.frames([index])[0]
    size = settings.size or image.shape[:2]
    if isinstance(clip, EncodedClip) and size == image.shape[:2]:
        data = clip.encoded(index)
        # Encoding again would only lose quality, or room. Files that the two decoders see differently, for instance
        # with transparency or 16 bits, are encoded as what training from the original sees.
        if data.startswith((_JPEG, _PNG) if settings.format == "png" else _JPEG) and _shows(data, image):
            return data
    return encode_image(to_uint8(resize(to_tensor(image[None]), size))[0], settings.format)


def _shows(data: bytes, image: np.ndarray) -> bool:
    try:
        return np.array_equal(decode_image(data), image)
    except DataError:
        return False
