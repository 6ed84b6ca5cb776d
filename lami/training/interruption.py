"""Ending a run at the end of a step when it is asked to end: Ctrl-C, SIGTERM of a scheduler."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether the run was asked to end."""

    requested = False


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Within the context SIGINT and SIGTERM set `requested`; a second one ends the process as usual.

    Only the main thread can handle signals; elsewhere nothing changes.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, frame: FrameType | None) -> None:
        interruption.requested = True
        restore()

    for number in _SIGNALS:
        signal.signal(number, request)
    try:
        yield interruption
    finally:
        restore()


def ignore_interruptions(worker: int) -> None:
    """For processes that load data: the terminal sends Ctrl-C to them too, and the main process still needs them."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
