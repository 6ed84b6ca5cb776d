"""What happens when somebody presses a button of the page."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from lami.errors import DataError, LamiError
from lami.web import words
from lami.web.inside import look_inside
from lami.web.job import FAULT, Job, Settings
from lami.web.line import Line

logger = logging.getLogger(__name__)

Update = tuple[Any, ...]
"""Status, result, comparison, download, number of the frame to look at, name of the job."""


class Handlers:
    """Functions behind the page, which share one line."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def animate(
        self,
        picture: str | None,
        movement: str | None,
        mode: str,
        strength: float,
        fps: str | float,
        size: str,
        crop: str,
        crop_driving: str,
        selector: str | None,
        times: list[float] | None,
        steady: bool,
        best_frame: bool,
        smooth: bool,
        label: bool,
        request: gr.Request,
    ) -> Iterator[Update]:
        """Move the picture as the video shows. Gives the status, again and again, and at last the videos."""
        try:
            if picture is None or movement is None:
                missing = "picture" if picture is None else "video of a movement"
                raise DataError(f"there is no {missing} yet; choose one, or take an example")
            # Gradio has checked the choices, and lami checks them again.
            between = self._line.model.interpolation.enabled  # hidden fields send their values, too
            settings = Settings(
                mode=mode,  # type: ignore[arg-type]
                times=tuple(sorted(times)) if times and between else None,
                selector=(selector or None) if between else None,  # type: ignore[arg-type]
                granularity="hysteresis" if steady else "frame",
                strength=strength,
                smooth=smooth,
                fps="keep" if fps == "keep" else float(fps),
                best_frame=best_frame,
                size=size,  # type: ignore[arg-type]
                crop=crop,
                crop_driving=crop_driving,
                label=label,
            )
            yield _beginning("Reading the files ...")
            yield from self._follow(request.session_hash or "", Path(picture), Path(movement), settings)
        except LamiError as error:
            sentence = words.sentence(error)
            yield _only(words.status("error", sentence))
            raise gr.Error(sentence, print_exception=False) from error
        except Exception as error:
            logger.exception("an animation could not begin")
            sentence = words.sentence(LamiError(FAULT))
            yield _only(words.status("error", sentence))
            raise gr.Error(sentence, print_exception=False) from error

    def cancel(self, request: gr.Request) -> None:
        """End what the visitor has in the line."""
        self._line.cancel(request.session_hash or "")

    def inspect(self, name: str | None, number: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pictures of a frame, counted from 1, of the visitor's last animation."""
        try:
            if not name:
                raise DataError("there is no animation to look into yet; press Animate first")
            job = self._line.find(name)
            try:
                inside = look_inside(self._line.model, job, round(number) - 1)
            except DataError:
                self._line.find(name)  # says so where it was removed meanwhile
                raise
        except LamiError as error:
            raise gr.Error(words.sentence(error), print_exception=False) from error
        return inside.strip, inside.motion, inside.contributions

    def _follow(self, owner: str, picture: Path, movement: Path, settings: Settings) -> Iterator[Update]:
        start = time.monotonic()
        name, job = self._line.join(owner, picture, movement, settings)
        for progress in job.follow():
            if progress.state == "waiting":
                yield _only(words.of_waiting(self._line.ahead(job)))
            elif progress.state == "running":
                yield _only(words.of_progress(progress))
        if job.progress.state == "failed":
            raise LamiError(job.error)
        if job.progress.state == "cancelled":
            yield _only(words.status("ready", "Cancelled. Nothing was kept."))
            return
        yield _ending(name, job, time.monotonic() - start)


def _beginning(text: str) -> Update:
    return words.status("busy", text, 0), None, None, gr.DownloadButton(interactive=False), gr.skip(), None


def _only(status: str) -> Update:
    return (status, *[gr.skip()] * 5)


def _ending(name: str, job: Job, seconds: float) -> Update:
    frames = len(job.trace.keypoints)
    return (
        words.of_done(frames, seconds, job.warnings),
        str(job.video),
        str(job.comparison),
        gr.DownloadButton(value=str(job.video), interactive=True),
        gr.Slider(value=(frames + 1) // 2, maximum=max(frames, 2), interactive=frames > 1),
        name,
    )
