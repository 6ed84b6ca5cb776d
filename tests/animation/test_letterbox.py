from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lami.animation import Letterbox
from lami.errors import DataError

_SIDES = st.integers(1, 700)
_MODEL_SIDES = st.sampled_from([64, 128, 256])


@given(_SIDES, _SIDES, _MODEL_SIDES, _MODEL_SIDES)
@example(1, 700, 64, 64)
@example(3, 2, 256, 64)
def test_content_is_even_inside_and_keeps_the_aspect(height: int, width: int, model_h: int, model_w: int) -> None:
    box = Letterbox((height, width), (model_h, model_w))
    assert box.height % 2 == box.width % 2 == 0
    assert 2 <= box.height <= model_h
    assert 2 <= box.width <= model_w
    assert box.height == model_h or box.width == model_w
    scale = min(model_h / height, model_w / width)
    assert abs(box.height - scale * height) <= 1 or box.height == 2
    assert abs(box.width - scale * width) <= 1 or box.width == 2


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (33, 90), (301, 75), (7, 5), (1, 1)])
def test_apply_and_crop(size: tuple[int, int]) -> None:
    box = Letterbox(size, (64, 64))
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    boxed = box.apply(image)
    assert boxed.shape == (64, 64, 3)
    assert boxed.dtype == np.uint8
    assert box.crop(boxed).shape == (box.height, box.width, 3)
    assert box.crop(boxed, "source").shape == image.shape


def test_an_image_of_the_models_size_stays_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    box = Letterbox((64, 64), (64, 64))
    np.testing.assert_array_equal(box.crop(box.apply(image)), image)


def test_borders_repeat_the_edge() -> None:
    image = np.zeros((64, 32, 3), np.uint8)
    image[:, -1] = 200
    boxed = Letterbox((64, 32), (64, 64)).apply(image)
    np.testing.assert_array_equal(boxed[:, 48:], np.full((64, 16, 3), 200))
    np.testing.assert_array_equal(boxed[:, :16], np.zeros((64, 16, 3)))


def test_shrinking_averages() -> None:
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[:, ::2] = 200
    np.testing.assert_array_equal(Letterbox((640, 640), (64, 64)).apply(stripes), np.full((64, 64, 3), 100))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((9, 8, 3), np.uint8),
    ],
)
def test_other_images_are_refused(image: np.ndarray) -> None:
    with pytest.raises(DataError):
        Letterbox((8, 8), (64, 64)).apply(image)
