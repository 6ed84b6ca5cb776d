from __future__ import annotations

import pytest

from lami.errors import DataError
from lami.web import words
from lami.web.job import Progress


def test_what_visitors_name_is_no_markup() -> None:
    assert "&lt;img src=x&gt;" in words.status("error", "<img src=x> is not a picture")


@pytest.mark.parametrize(("ahead", "text"), [(0, "Starting"), (1, "1 animation before"), (3, "3 animations before")])
def test_waiting(ahead: int, text: str) -> None:
    assert text in words.of_waiting(ahead)


def test_progress() -> None:
    assert "Preparing" in words.of_progress(Progress("running", "preparing"))
    shown = words.of_progress(Progress("running", "animating", done=10, total=40, seconds=5.0))
    assert "Animating: 10 of 40 frames, 2 a second, 15 s left" in shown
    assert 'aria-valuenow="25"' in shown
    assert "3 minutes left" in words.of_progress(Progress("running", "animating", done=1, total=11, seconds=18.0))
    assert "left" not in words.of_progress(Progress("running", "animating", done=1, total=11, seconds=0.5))


def test_end() -> None:
    assert "Done: 1 frame in 2 s." in words.of_done(1, 2.1)
    assert "warning" not in words.of_done(1, 2.1)
    assert '<p class="warning">It is &lt;far&gt;.</p>' in words.of_done(1, 2.1, ["it is <far>"])


def test_sentences() -> None:
    assert words.sentence(DataError("the queue is full")) == "The queue is full."
    assert words.sentence(DataError("dance.mp4 is damaged")) == "dance.mp4 is damaged."
