"""Showing how far a long loop is: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from datetime import timedelta
from typing import TypeVar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 15.0


def track(items: Iterable[Item], total: int | None = None, description: str = "working") -> Iterator[Item]:
    """The same items, reporting rate and remaining time as they go by.

    On a terminal this is a progress bar on stderr; elsewhere a message to the log every 15 seconds and at the end.
    Processes of torchrun other than the first stay silent.

    Args:
        items: what to loop over.
        total: their number; None takes their length, if they have one.
        description: what the loop does, for instance "animating".
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if os.environ.get("RANK", "0") != "0":
        yield from items
    elif sys.stderr.isatty():
        yield from _bar(items, total, description)
    else:
        yield from _lines(items, total, description)


def _bar(items: Iterable[Item], total: int | None, description: str) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total, rate="")
        for item in items:
            yield item
            speed = progress.tasks[0].speed
            progress.update(task, advance=1, rate=f"{speed:.1f}/s" if speed else "")


def _lines(items: Iterable[Item], total: int | None, description: str) -> Iterator[Item]:
    start = reported = time.monotonic()
    count = 0
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - reported >= SECONDS_BETWEEN_LINES and count != total:
            reported = now
            rate = count / (now - start)
            if total is None:
                logger.info("%s: %d, %.1f/s", description, count, rate)
            else:
                left = timedelta(seconds=round((total - count) / rate))
                logger.info("%s: %d of %d, %.1f/s, %s left", description, count, total, rate, left)
    seconds = time.monotonic() - start
    logger.info("%s: %d done in %.1f s, %.1f/s", description, count, seconds, count / max(seconds, 1e-9))
