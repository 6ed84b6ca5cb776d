"""Crops around keypoints of the packaged model, of figures in wide scenes."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.crop import FRAMES, WideScene, measure
from lami.checkpoint import load
from lami.demo import WEIGHTS
from lami.model import LAMI


@pytest.fixture(scope="module")
def model() -> LAMI:
    return load(WEIGHTS, "cpu")


@pytest.mark.parametrize("background", ["plain", "smooth"])
@pytest.mark.parametrize("number", [0, 1])
def test_crops_hold_small_figures_and_sharpen_their_keypoints(model: LAMI, background: str, number: int) -> None:
    found = measure(model, WideScene(number, background), [0])
    assert found["found"] == 1
    assert found["inside_worst"] > 0.97
    assert 1.25 < found["size"] < 1.75
    assert found["error_crop"] < 0.06 < 0.15 < found["error_whole"]


def test_one_box_holds_a_walking_figure(model: LAMI) -> None:
    scene = WideScene(0, "plain")
    walk = scene.points([0, FRAMES - 1]).mean(axis=(1, 2))
    assert np.abs(np.diff(walk, axis=0)).max() > 0.2 * scene.size[0]
    found = measure(model, scene, range(0, FRAMES, 4))
    assert (found["found"], found["inside_worst"] > 0.9) == (1, True)
    assert found["size"] < 4


def test_a_busy_background_is_a_warning(model: LAMI, caplog: pytest.LogCaptureFixture) -> None:
    """The model has never seen one: its keypoints lie all over the frame."""
    assert measure(model, WideScene(0, "busy"), [0])["found"] == 0
    assert "busy-0 spread over most of it" in caplog.text
