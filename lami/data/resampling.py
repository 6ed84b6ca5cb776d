"""The same motion at another frame rate."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice

from lami.data.moving import Moving
from lami.data.video import Frame
from lami.errors import ConfigError

_HIGHEST_RATE = 1000
_FINEST = 100_000
"""Largest denominator of a rate: video files keep it in 32 bits."""


def parse_rate(rate: Fraction | float | str) -> Fraction:
    """Frames a second from a number, or from text such as `25`, `29.97` or, exactly, `30000/1001`.

    Raises:
        ConfigError: it is none of them, or not above 0 and at most 1000.
    """
    try:
        parsed = Fraction(str(rate)).limit_denominator(_FINEST)  # as text, 29.97 is 2997/100 and no binary fraction
    except (ValueError, ZeroDivisionError):
        parsed = Fraction(0)
    if not 0 < parsed <= _HIGHEST_RATE:
        raise ConfigError(
            f"fps {rate!r} is no frame rate; give a number above 0 and at most {_HIGHEST_RATE}, as 25 or 30000/1001"
        )
    return parsed


class Resampled:
    """Frames of a video, evenly spaced at another rate: of each moment the frame that is shown then, none between.

    Frames that are needed several times are repeated, others left out. The duration is that of the video, as exactly as
    whole frames allow. A moment is the middle of a frame, at the higher of both rates: files that round their times do
    not make the motion stutter.

    Args:
        frames: the video; stays its owner's to close.
        rate: frames a second.
    """

    def __init__(self, frames: Moving, rate: Fraction) -> None:
        self.rate = rate
        self._frames = frames
        shown = frames.times
        count = max(1, math.floor(frames.duration * rate + Fraction(1, 2)))
        self.times = tuple(n / rate for n in range(count))
        middle = min(1 / rate, 1 / frames.rate) / 2
        self._uses = Counter(bisect_right(shown, time + middle) - 1 for time in self.times)

    def __len__(self) -> int:
        return len(self.times)

    def __iter__(self) -> Iterator[Frame]:
        times = iter(self.times)
        for number, frame in enumerate(self._frames):
            for time in islice(times, self._uses[number]):
                yield Frame(frame.image, time)
