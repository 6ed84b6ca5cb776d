"""What the page says of a job, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Literal

from lami.errors import LamiError
from lami.web.job import Progress

READY = "Choose a picture and a video of a movement, or one of the examples, and press Animate."
_LONG = 90
"""Seconds from which they are told in minutes."""


def sentence(error: Exception) -> str:
    """A message of lami as people write it; names of files at its beginning stay as they are."""
    text = str(error)
    first = text.partition(" ")[0]
    return (text if "." in first else text[:1].upper() + text[1:]).rstrip(".") + "."


def status(
    kind: Literal["ready", "busy", "done", "error"], text: str, share: float | None = None, warnings: Sequence[str] = ()
) -> str:
    """A box with a sentence and, for shares in [0, 1], a bar."""
    bar = ""
    if share is not None:
        percent = round(100 * share)
        bar = (
            f'<div class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}">'
            f'<div style="width: {percent}%"></div></div>'
        )
    more = "".join(f'<p class="warning">{escape(warning)}</p>' for warning in warnings)
    return f'<div class="lami-status {kind}" role="status"><p>{escape(text)}</p>{more}{bar}</div>'


def of_waiting(ahead: int) -> str:
    """While other jobs come first, or the first steps are taken."""
    if not ahead:
        return status("busy", "Starting ...", 0)
    return status("busy", f"Waiting: {_number(ahead, 'animation')} before yours.", 0)


def of_progress(progress: Progress) -> str:
    """While the job is worked on."""
    if not progress.total:
        return status("busy", "Preparing ...", 0)
    text = f"{progress.doing.capitalize()}: {progress.done} of {_number(progress.total, 'frame')}"
    if progress.seconds > 1:
        left = (progress.total - progress.done) * progress.seconds / progress.done
        text += f", {progress.done / progress.seconds:.3g} a second, {_duration(left)} left"
    return status("busy", text, progress.done / progress.total)


def of_done(frames: int, seconds: float, warnings: Sequence[str] = ()) -> str:
    """At the end."""
    told = [sentence(LamiError(warning)) for warning in warnings]
    return status("done", f"Done: {_number(frames, 'frame')} in {_duration(seconds)}.", warnings=told)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < _LONG else f"{seconds / 60:.0f} minutes"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
