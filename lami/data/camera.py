"""Cameras as drivers."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from lami.errors import DataError

_NAME = re.compile(r"webcam(?::(\d+))?")
_USUAL_RATE = 30
_HIGHEST_RATE = 1000


class Camera(Protocol):
    """What gives frames as time passes."""

    rate: Fraction
    """Frames a second, about."""

    def read(self) -> np.ndarray | None:
        """The next frame, uint8 (H, W, 3) RGB, when it is there; None where there are no more."""

    def close(self) -> None:
        """Let go of the device."""


def camera_number(name: str | Path) -> int | None:
    """Number of the camera that `webcam` or `webcam:N` names; None for other names and for files that are there."""
    match = _NAME.fullmatch(str(name))
    return None if match is None or Path(name).exists() else int(match[1] or 0)


class Webcam:
    """A camera of this computer, through OpenCV.

    Raises:
        DataError: there is none of this number, or it cannot be opened.
    """

    def __init__(self, number: int = 0) -> None:
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # our sentence says it all
        try:
            self._capture = cv2.VideoCapture(number)
            opened = self._capture.isOpened()
        except cv2.error:  # of numbers that no computer has
            opened = False
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not opened:
            raise DataError(
                f"camera {number} cannot be opened; connect it, close other programs that use it, see that you may "
                "read it (on Linux /dev/video*), or name another as webcam:N"
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)  # drivers tell anything
        self.rate = Fraction(round(rate) if 1 <= rate <= _HIGHEST_RATE else _USUAL_RATE)

    def read(self) -> np.ndarray | None:
        """The next frame, uint8 (H, W, 3) RGB; None where the camera gives no more."""
        try:
            found, image = self._capture.read()
        except cv2.error:
            return None
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if found else None

    def close(self) -> None:
        """Let go of the device."""
        self._capture.release()
