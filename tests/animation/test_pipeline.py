"""Reading ahead and writing behind: order, bounds, errors of either side, and no thread that stays."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import tiny_config, tiny_model

from lami.animation import AnimatedFrame, Smoothing, animate_file
from lami.animation.pipeline import read_ahead, write_behind
from lami.data import VideoWriter, write_image
from lami.errors import DataError


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


class Source:
    """Counts what is taken from it."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count, self.error = count, error
        self.made = 0
        self.closed = False

    def items(self) -> Generator[int, None, None]:
        try:
            for number in range(1, self.count + 1):
                self.made = number
                yield number
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


def test_items_come_in_order_and_no_more_ahead_than_asked_for() -> None:
    source = Source(20)
    items = read_ahead(source.items(), 3)
    assert next(items) == 1
    wait_for(lambda: source.made == 5)  # one taken, three waiting, one that waits for its place
    time.sleep(0.05)
    assert source.made == 5
    assert list(items) == list(range(2, 21))
    assert source.closed


def test_closing_early_ends_the_reader() -> None:
    source = Source(1000)
    items = read_ahead(source.items(), 2)
    next(items)
    items.close()
    assert source.closed
    assert source.made < 10


def test_an_error_of_the_reader_comes_in_its_turn() -> None:
    items = read_ahead(Source(2, DataError("damaged")).items(), 5)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(DataError, match="damaged"):
        next(items)


def test_all_is_written_at_the_end_and_no_more_waits_than_asked_for() -> None:
    written: list[int] = []
    gate = threading.Event()

    def slow(item: int) -> None:
        gate.wait(10)
        written.append(item)

    with write_behind(slow, 2) as write:
        for item in range(3):
            write(item)  # one at work, two waiting
        blocked = threading.Thread(target=write, args=(3,))
        blocked.start()
        time.sleep(0.05)
        assert blocked.is_alive()
        gate.set()
        blocked.join()
        write(4)
    assert written == [0, 1, 2, 3, 4]


def test_an_error_of_the_writer_is_raised_by_the_next_call_or_at_the_end() -> None:
    def fail(item: int) -> None:
        raise DataError(f"no room for {item}")

    with pytest.raises(DataError, match="no room for 0"), write_behind(fail, 1) as write:
        for item in range(100):
            write(item)
            time.sleep(0.001)
    with pytest.raises(DataError, match="no room for 7"), write_behind(fail, 5) as write:
        write(7)


def test_an_interrupted_loop_writes_nothing_more() -> None:
    written: list[int] = []

    def slow(item: int) -> None:
        time.sleep(0.02)
        written.append(item)

    with pytest.raises(KeyboardInterrupt), write_behind(slow, 50) as write:
        for item in range(50):
            write(item)
        raise KeyboardInterrupt
    assert len(written) < 40
    count = len(written)
    time.sleep(0.05)
    assert len(written) == count


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory as Linux counts it")
@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_frames(tmp_path: Path, everything: bool) -> None:
    """The longer video has 33 MB more of driving frames and 8 MB more of results; with everything, as much again and
    60 MB of tensors. Allocators settle later there: a third run takes no more than the second."""
    model = tiny_model(tiny_config({"interpolation.enabled": everything, "interpolation.selector": "fixed"}))
    options: dict[str, Any] = {"size": "source"}
    if everything:
        options = {"size": "source-detail", "smoothing": Smoothing(), "save_chain": tmp_path / "chain.png", "fps": 50}
    write_image(tmp_path / "source.png", np.zeros((48, 64, 3), np.uint8))
    peaks = []
    for length in (100, 1000):
        with VideoWriter(tmp_path / "driving.mp4", 25) as writer:
            for number in range(length):
                writer.write(np.full((96, 128, 3), number % 256, np.uint8))
        seen = [0]

        def watched(frames: Iterable[AnimatedFrame], total: int, description: str) -> Iterator[AnimatedFrame]:
            for frame in frames:
                seen.append(resident_bytes())  # noqa: B023 - called before the next round
                yield frame

        animate_file(
            model,
            tmp_path / "source.png",
            tmp_path / "driving.mp4",
            tmp_path / "out.mp4",
            progress=watched,
            overwrite=True,
            **options,
        )
        assert len(seen) == 1 + (2 if everything else 1) * length
        peaks.append(max(seen))
    assert peaks[1] - peaks[0] < (25e6 if everything else 10e6)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
