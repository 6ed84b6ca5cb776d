from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs.media import GIF_MILLISECONDS, corners, level, write_animation, write_video

from lami.data import Resampled, open_moving, parse_rate
from lami.data.moving import FOLDER_RATE
from lami.data.video import Frame
from lami.errors import ConfigError


class Numbered:
    """A video whose frames are images of their number."""

    def __init__(self, times: Sequence[Fraction], rate: Fraction) -> None:
        self.times = tuple(times)
        self.rate = rate
        self.duration = len(times) / rate

    def __len__(self) -> int:
        return len(self.times)

    def __iter__(self) -> Any:
        return (Frame(np.array(n), time) for n, time in enumerate(self.times))


def shown(times: Sequence[Fraction], rate: Fraction, wanted: Fraction) -> list[int]:
    """Numbers of the frames at the new rate."""
    resampled = Resampled(Numbered(times, rate), wanted)  # type: ignore[arg-type]
    frames = list(resampled)
    assert [frame.time for frame in frames] == [n / wanted for n in range(len(resampled))]
    assert tuple(frame.time for frame in frames) == resampled.times
    return [int(frame.image) for frame in frames]


def even(count: int, rate: Fraction, digits: int | None = None) -> list[Fraction]:
    """Times of frames; rounded to digits, as files in milliseconds do."""
    times = [n / rate for n in range(count)]
    return times if digits is None else [round(time, digits) for time in times]


@pytest.mark.parametrize("digits", [None, 3])
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001), Fraction(60)])
def test_whole_multiples_are_regular(rate: Fraction, digits: int | None) -> None:
    times = even(12, rate, digits)
    assert shown(times, rate, rate) == list(range(12))
    assert shown(times, rate, 2 * rate) == sorted([*range(12), *range(12)])
    assert shown(times, rate, rate / 2) == list(range(0, 12, 2))
    assert shown(times, rate, rate / 3) == list(range(0, 12, 3))


@given(
    count=st.integers(1, 60),
    rate=st.fractions(1, 120, max_denominator=1001),
    wanted=st.fractions(1, 120, max_denominator=1001),
)
def test_duration_and_moments(count: int, rate: Fraction, wanted: Fraction) -> None:
    numbers = shown(even(count, rate), rate, wanted)
    assert abs(len(numbers) / wanted - count / rate) <= 1 / wanted
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    for place, number in enumerate(numbers):
        late = place / wanted - number / rate
        assert -min(1 / wanted, 1 / rate) / 2 <= late
        assert number == count - 1 or late < 1 / rate


def test_uneven_frames_are_shown_as_long_as_before(tmp_path: Path) -> None:
    reader = open_moving(write_animation(tmp_path / "a.gif"))
    levels = [corners(frame.image)[2][0] for frame in Resampled(reader, Fraction(20))]
    times = [sum(GIF_MILLISECONDS[:n]) for n in range(4)]
    moments = [50 * n + 25 for n in range(sum(GIF_MILLISECONDS) // 50)]
    expected = [level(max(n for n in range(4) if times[n] <= moment)) for moment in moments]
    np.testing.assert_allclose(levels, expected, atol=8)


def test_videos_can_be_read_again(tmp_path: Path) -> None:
    reader = open_moving(write_video(tmp_path / "a.mp4"))
    resampled = Resampled(reader, Fraction(40))
    for _ in range(2):
        assert len(list(resampled)) == len(resampled) == 13
    reader.close()


def test_rates() -> None:
    assert parse_rate("30000/1001") == parse_rate("29.97002997") == Fraction(30000, 1001)
    assert parse_rate(29.97) == parse_rate("29.97") == Fraction(2997, 100)
    assert parse_rate(FOLDER_RATE) == parse_rate(25) == parse_rate("25.0") == 25


@pytest.mark.parametrize("rate", ["fast", "", 0, -25, "1/0", "nan", float("inf"), 1001, 1e-9])
def test_what_is_no_rate(rate: Any) -> None:
    with pytest.raises(ConfigError, match="is no frame rate"):
        parse_rate(rate)
