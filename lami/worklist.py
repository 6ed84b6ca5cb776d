"""A list of files to make: shared by processes, resumed after any end, one failure no reason to stop."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch

import lami
from lami.data.files import atomic_path, check_readable, remove_partials
from lami.errors import BackendUnavailableError, ConfigError, DataError, LamiError, WeightsUnavailableError
from lami.processes import Processes

logger = logging.getLogger(__name__)

PATIENCE = timedelta(days=30)
"""How long a process that has done its share may wait for the others."""

_REPORT = "report.json"

_MEETS_ALL = (ConfigError, WeightsUnavailableError, BackendUnavailableError)
"""Errors of the options, which every task would meet alike."""


@dataclass(frozen=True)
class Task:
    """Something to make."""

    name: str
    """Unique in the list; becomes the name of the record."""
    make: Callable[[], dict[str, Any]]
    """Writes the outputs, each whole or not at all, and returns what JSON can say of them."""
    inputs: tuple[Path, ...] = ()
    """Files and folders that it reads, besides what the settings tell."""
    outputs: tuple[Path, ...] = ()
    """Files that it writes, in the folder of the list."""


Status = Literal["made", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of a task."""

    name: str
    status: Status
    seconds: float
    """That making took, for `skipped` in the run that did it."""
    result: dict[str, Any]
    """What `Task.make` returned; empty for a failure."""
    error: str | None = None
    """One sentence."""


def work_through(
    tasks: Sequence[Task],
    folder: Path | None,
    settings: Mapping[str, Any],
    processes: Processes,
    progress: Callable[[Sequence[Task]], Iterable[Task]] = iter,
) -> list[Outcome]:
    """Do this process's share of the tasks, wait for the others, and tell what became of all.

    `folder/records/NAME.json` says of each task how it ended, with digests of its inputs, its outputs and the settings:
    as long as they are the same, a later run skips it. A record that is missing, as after SIGKILL, costs one task. The
    `report.json` of an earlier run is removed. A task that fails is logged, and tried again by the next run. SIGTERM
    and Ctrl-C end the run at once, and nothing is left of the task in hand.

    A task sees the same random numbers in whichever process and order it is done.

    Args:
        tasks: the same list in every process.
        folder: where the records are, seen by all processes; None keeps none and skips nothing.
        settings: what besides the inputs decides about results, as JSON.
        processes: who shares the list.
        progress: wraps the tasks of this process.

    Returns:
        The outcomes in the order of the tasks, in every process.

    Raises:
        ConfigError, WeightsUnavailableError, BackendUnavailableError: a task's, which the others would meet as well.
        DataError: a record cannot be written.
        KeyboardInterrupt: SIGTERM or SIGINT arrived.
    """
    if folder is not None and processes.first:
        _remove(folder / _REPORT)  # of an earlier run
    digest_once = functools.cache(digest)  # of inputs: a driving video may belong to a thousand tasks
    with _interruptible() as check:
        own = []
        for task in progress(tasks[processes.rank :: processes.size]):
            check()
            own.append(_do(task, folder, settings, processes.device, digest_once))
    outcomes = {outcome.name: outcome for share in processes.gather(own) for outcome in share}
    return [outcomes[task.name] for task in tasks]


def write_report(folder: Path, content: Mapping[str, Any], processes: Processes) -> None:
    """Let the first process write `folder/report.json`, with the version of lami before the content.

    Raises:
        DataError: it cannot be written.
    """
    if processes.first:
        _write_json(folder / _REPORT, {"lami": lami.__version__, **content})


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's files.

    Raises:
        DataError: it cannot be read.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file())
        return _digest_json([[file.name, digest(file)] for file in files])
    check_readable(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _do(
    task: Task,
    folder: Path | None,
    settings: Mapping[str, Any],
    device: torch.device,
    digest_once: Callable[[Path], str],
) -> Outcome:
    record = None if folder is None else folder / "records" / f"{task.name}.json"
    key: str | None = None
    start = time.monotonic()
    try:
        if record is not None:
            inputs = [digest_once(path) for path in task.inputs]
            key = _digest_json([lami.__version__, dict(settings), inputs])
            if (earlier := _finished(task, record, key)) is not None:
                return earlier
            for path in (record, *task.outputs):
                remove_partials(path)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(zlib.crc32(task.name.encode()))
            result = task.make()
        outcome = Outcome(task.name, "made", round(time.monotonic() - start, 3), result)
    except _MEETS_ALL:
        raise
    except Exception as error:  # whatever it is, the other tasks may do
        sentence = " ".join(str(error).split()) or "no reason given"
        if not isinstance(error, LamiError):
            sentence = f"{type(error).__name__}: {sentence}"
        logger.warning("%s failed: %s", task.name, sentence)
        logger.debug("%s failed", task.name, exc_info=True)
        outcome = Outcome(task.name, "failed", round(time.monotonic() - start, 3), {}, sentence)
    if record is not None:
        _write_record(record, task, key, outcome)
    return outcome


def _finished(task: Task, record: Path, key: str) -> Outcome | None:
    """What an earlier run made, if it is still what this one would make."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        if content["status"] != "made" or content["key"] != key:
            return None
        if content["outputs"] != [digest(path) for path in task.outputs]:
            return None
        return Outcome(task.name, "skipped", content["seconds"], content["result"])
    except (OSError, DataError, ValueError, KeyError, TypeError):
        return None  # missing, or not whole


def _write_record(record: Path, task: Task, key: str | None, outcome: Outcome) -> None:
    content: dict[str, Any] = {"status": outcome.status, "seconds": outcome.seconds}
    if outcome.error is not None:
        content |= {"error": outcome.error}
    else:
        content |= {"result": outcome.result, "key": key, "outputs": [digest(path) for path in task.outputs]}
    _write_json(record, content)


def _write_json(path: Path, content: object) -> None:
    with _writing(path), atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _remove(path: Path) -> None:
    with _writing(path):
        path.unlink(missing_ok=True)
        remove_partials(path)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}), make room or choose another folder") from error


def _digest_json(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Within the context SIGTERM interrupts as Ctrl-C does, and further signals do not disturb the clearing away.

    Yields a function that interrupts where a signal came before: code that calls back may have swallowed it.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main one can handle signals
        yield lambda: None
        return
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            raise KeyboardInterrupt

    def check() -> None:
        if interrupted:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
