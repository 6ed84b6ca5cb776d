"""Ending a run at the end of a step when it is asked to end: Ctrl-C, SIGTERM of a scheduler."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether the run was asked to end."""

    requested = False


_active: Interruption | None = None


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Within the context SIGINT and SIGTERM set `requested`; a second SIGINT ends the process at once.

    Inside another such context it is that one's. Schedulers may send SIGTERM several times, to a process and to the one
    that started it. Only the main thread can handle signals; elsewhere nothing changes.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    global _active
    if _active is not None:
        yield _active
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in _SIGNALS}

    def request(number: int, frame: FrameType | None) -> None:
        if not interruption.requested:
            os.write(2, b"stopping after this step\n")  # a log may be in the middle of a line, and holds locks
        interruption.requested = True
        if number == signal.SIGINT:
            signal.signal(number, before[signal.SIGINT])

    for number in _SIGNALS:
        signal.signal(number, request)
    _active = interruption
    try:
        yield interruption
    finally:
        _active = None
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_group(worker: int) -> None:
    """For processes that load data: signals to the group, such as Ctrl-C, pass them by. The step still needs them."""
    os.setsid()
