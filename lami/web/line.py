"""The line of jobs: one at a time, first come, first served."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from uuid import uuid4

from lami.acceleration import Precision
from lami.errors import DataError, LamiError
from lami.model import LAMI
from lami.web.job import Job, Settings, in_names
from lami.web.limits import Limits

logger = logging.getLogger(__name__)

_KEPT = 20
"""Animations that have ended and are kept on disk; the oldest go first."""
_SECONDS_BETWEEN_SWEEPS = 30.0


class Line:
    """Context manager that runs jobs with one model, and forgets them and their files when they are old or at its end.

    Args:
        model: used by one job at a time.
        limits: see `Limits`.
        folder: for the files of the jobs, a folder each; must exist. Gradio writes uploads straight into it while they
            come: those that broke off are removed when nobody has written to them for as long as results stay.
        precision: as the model was loaded.
    """

    def __init__(self, model: LAMI, limits: Limits, folder: Path, precision: Precision = "auto") -> None:
        self.model = model
        self.limits = limits
        self._folder = folder
        self._precision: Precision = precision
        self._jobs: dict[str, Job] = {}
        """By name, in the order in which they came."""
        self._lock = Lock()
        self._checking = Lock()
        """Held while files are judged and copied, which may take the memory of a large picture."""
        self._closing = Event()
        self._worker = ThreadPoolExecutor(1, "lami web")
        self._sweeper = Thread(target=self._sweep_now_and_then, name="lami web sweeper", daemon=True)

    def __enter__(self) -> Line:
        self._sweeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        self._worker.shutdown()
        self._sweeper.join()
        for job in jobs:
            job.remove()

    def join(self, owner: str, source: Path, driving: Path, settings: Settings) -> tuple[str, Job]:
        """A new job at the end of the line, and its name, which nobody can guess.

        Raises:
            DataError: the files are not what they should be, or beyond the limits.
            LamiError: the line is full, the owner is in it already, or the files cannot be copied.
        """
        self._check_room(owner)  # before work that would be in vain
        try:
            with self._checking:
                self.limits.check_source(source)
                self.limits.check_driving(driving, settings.rate)
                name = uuid4().hex
                job = Job(owner, source, driving, settings, self._folder / name)
        except DataError as error:
            raise DataError(in_names(str(error), {source: source.name, driving: driving.name})) from error
        except OSError as error:
            raise LamiError(f"the server cannot keep the files ({error.strerror}); try again later") from error
        try:
            with self._lock:
                self._check_room_locked(owner)
                self._jobs[name] = job
                self._worker.submit(job.run, self.model, self._precision)
                ended = [key for key, other in self._jobs.items() if other.ended is not None]
                dropped = [self._jobs.pop(key) for key in ended[: max(0, len(ended) - _KEPT)]]
        except LamiError:
            job.remove()
            raise
        for old in dropped:
            old.remove()
        return name, job

    def ahead(self, job: Job) -> int:
        """How many jobs come first."""
        with self._lock:
            before = list(self._jobs.values())
        return sum(other.ended is None for other in before[: before.index(job)]) if job in before else 0

    def find(self, name: str) -> Job:
        """A job that is done. Raises DataError where its files are gone."""
        with self._lock:
            job = self._jobs.get(name)
        if job is None or job.progress.state != "done":
            raise DataError("this animation is not there any more; animate again")
        return job

    def cancel(self, owner: str) -> None:
        """Cancel what the owner has in the line."""
        with self._lock:
            jobs = [job for job in self._jobs.values() if job.owner == owner and job.ended is None]
        for job in jobs:
            job.cancel()

    def sweep(self, now: float) -> None:
        """Forget what is as old, at that `time.monotonic()`, as the limits say, and what was cancelled, failed or
        broke off."""
        oldest = now - 60 * self.limits.minutes
        with self._lock:
            old = [
                name
                for name, job in self._jobs.items()
                if job.ended is not None and (job.ended < oldest or job.progress.state != "done")
            ]
            jobs = [self._jobs.pop(name) for name in old]
        for job in jobs:
            job.remove()
        try:
            for path in self._folder.iterdir():
                # A file that is gone meanwhile arrived whole: Gradio has moved it.
                with suppress(FileNotFoundError):
                    if path.is_file() and time.time() - path.stat().st_mtime > time.monotonic() - oldest:
                        path.unlink()
        except OSError as error:
            logger.warning("uploads that broke off cannot be removed: %s", error)

    def _check_room(self, owner: str) -> None:
        with self._lock:
            self._check_room_locked(owner)

    def _check_room_locked(self, owner: str) -> None:
        open_jobs = [job for job in self._jobs.values() if job.ended is None]
        if any(job.owner == owner for job in open_jobs):
            raise LamiError("you have an animation in the queue already; wait for it, or cancel it")
        if len(open_jobs) > self.limits.waiting:
            raise LamiError(f"the queue is full, {len(open_jobs)} animations come first; try again in a few minutes")

    def _sweep_now_and_then(self) -> None:
        while not self._closing.wait(_SECONDS_BETWEEN_SWEEPS):
            self.sweep(time.monotonic())
