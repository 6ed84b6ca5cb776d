"""Keypoints that do not tremble: the 1 euro filter (Casiez, Roussel and Vogel, CHI 2012)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from lami.errors import ConfigError, DataError

_INTERVAL = Fraction(1, 25)
"""Seconds between frames that do not tell their times."""
_SPEED_CUTOFF = 1.0
"""Hz; the authors' value, which they advise to leave alone."""


@dataclass(frozen=True)
class Smoothing:
    """How keypoints are smoothed: much where they rest, little where they move.

    Attributes:
        min_cutoff: Hz. Trembling above this frequency is taken out of points at rest: lower is calmer.
        beta: how much the cutoff grows with the speed of a point, in Hz for half the image's side a second. Points in
            even motion lag by less than 1 / (2 pi beta) of half the side, at 10 that is two pixels of 256.

    Raises:
        ConfigError: min_cutoff is not above 0, beta below 0, or one of them not finite.
    """

    min_cutoff: float = 1.0
    beta: float = 10.0

    def __post_init__(self) -> None:
        if not (0 < self.min_cutoff < math.inf and 0 <= self.beta < math.inf):
            raise ConfigError(
                "smoothing needs a finite min_cutoff above 0 and a finite beta of 0 or more, "
                f"got {self.min_cutoff} and {self.beta}"
            )


class OneEuroFilter:
    """Smooths the keypoints of a video, frame after frame; a low-pass filter whose cutoff follows the speed."""

    def __init__(self, smoothing: Smoothing) -> None:
        self._smoothing = smoothing
        self.reset()

    def reset(self) -> None:
        """The next frame is the first of a video."""
        self._last: tuple[Tensor, Tensor, Fraction] | None = None

    def __call__(self, keypoints: Tensor, times: Sequence[Fraction | None]) -> Tensor:
        """Keypoints (B, ..., 2) of the next frames, smoothed.

        times: seconds; None is 1/25 after the frame before. A frame at the time of the one before gets its keypoints.
        Raises `DataError` for times that go back.
        """
        return torch.stack([self._next(frame, time) for frame, time in zip(keypoints, times, strict=True)])

    def _next(self, measured: Tensor, time: Fraction | None) -> Tensor:
        if self._last is None:
            self._last = measured, torch.zeros_like(measured), time or Fraction(0)
            return measured
        position, velocity, before = self._last
        interval = float(_INTERVAL if time is None else time - before)
        if interval < 0:
            raise DataError("a frame is earlier than the one before it; call reset() before another video")
        if interval > 0:
            velocity = torch.lerp(velocity, (measured - position) / interval, _weight(_SPEED_CUTOFF * interval))
            cutoff = self._smoothing.min_cutoff + self._smoothing.beta * velocity.norm(dim=-1, keepdim=True)
            position = torch.lerp(position, measured, _weight(cutoff * interval))
            self._last = position, velocity, before + _INTERVAL if time is None else time
        return position


def _weight(periods: Tensor | float) -> Tensor | float:
    """Of a new value in a mean that follows with the given cutoff frequency times the seconds since the last one."""
    return periods * math.tau / (periods * math.tau + 1)
