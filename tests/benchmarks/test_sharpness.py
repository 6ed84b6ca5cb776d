"""Sharpness of rebuilt videos, as a part of the real ones'."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.sharpness import sharpness
from lami.data.synthetic import SyntheticFigures
from lami.evaluation.reconstruction import strip_path


@pytest.mark.parametrize(("blur", "low", "high"), [(None, 1 - 1e-9, 1 + 1e-9), (1.0, 0.1, 0.9)])
def test_blur_is_less_sharp(blur: float | None, low: float, high: float, tmp_path: Path) -> None:
    clip = SyntheticFigures((64, 64), 1, num_frames=6).clip(0)
    real = clip.frames(range(6))
    made = real if blur is None else [cv2.GaussianBlur(frame, (0, 0), blur) for frame in real]
    path = strip_path(tmp_path, "a")
    path.parent.mkdir(parents=True)
    cv2.imwrite(str(path), np.concatenate(list(made), axis=1)[..., ::-1])
    found = sharpness({"a": clip}, tmp_path)
    assert low <= found["whole"] <= high
    assert low <= found["moving"] <= high
