from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lami.configs.schema import AugmentationConfig, JitterConfig
from lami.data.augmentation import augment, jitter, resize, rotate, shift_hue

JITTER = JitterConfig(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.3)


def random_pair(height: int = 12, width: int = 20) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 24), st.integers(2, 24), st.integers(0, 100))
def test_any_shape_stays_in_range_and_gets_the_crop_size(height: int, width: int, seed: int) -> None:
    config = AugmentationConfig(
        horizontal_flip=0.5, time_flip=0.5, rotation=30, resize=(0.7, 1.3), crop=(9, 7), jitter=JITTER
    )
    result = augment(random_pair(height, width), config, np.random.default_rng(seed))
    assert result.shape == (2, 3, 9, 7)
    assert result.dtype == torch.float32
    assert 0 <= result.min() <= result.max() <= 1


@pytest.mark.parametrize("seed", range(20))
def test_equal_frames_stay_equal(seed: int) -> None:
    pair = random_pair()[:1].repeat(2, 1, 1, 1)
    config = AugmentationConfig(
        horizontal_flip=0.5, time_flip=0.5, rotation=30, resize=(0.7, 1.3), crop=(9, 7), jitter=JITTER
    )
    result = augment(pair, config, np.random.default_rng(seed))
    assert torch.equal(result[0], result[1])


def test_a_colour_that_both_frames_share_stays_shared() -> None:
    pair = random_pair()
    pair[:, :, 0, 0] = torch.tensor([0.2, 0.5, 0.4])
    for seed in range(20):
        result = jitter(pair, JITTER, np.random.default_rng(seed))
        torch.testing.assert_close(result[0, :, 0, 0], result[1, :, 0, 0])


def test_flips_are_independent() -> None:
    pair = random_pair()
    config = AugmentationConfig(horizontal_flip=0.5, time_flip=0.5)
    outcomes = {
        "none": pair,
        "time": pair.flip(0),
        "horizontal": pair.flip(3),
        "both": pair.flip(0, 3),
    }
    rng = np.random.default_rng(0)
    seen: Counter[str] = Counter()
    for _ in range(400):
        result = augment(pair, config, rng)
        seen.update(name for name, outcome in outcomes.items() if torch.equal(result, outcome))
    assert sum(seen.values()) == 400
    assert min(seen[name] for name in outcomes) > 70


def test_nothing_configured_changes_nothing() -> None:
    pair = random_pair()
    assert torch.equal(augment(pair, AugmentationConfig(), np.random.default_rng(0)), pair)


def test_same_generator_state_gives_the_same_result() -> None:
    config = AugmentationConfig(time_flip=0.5, rotation=10, jitter=JITTER)
    first, second, other = (augment(random_pair(), config, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_rotation_is_rigid_in_pixels_whatever_the_aspect_ratio() -> None:
    image = torch.zeros(1, 1, 21, 41)
    image[0, 0, 10, 26] = 1  # six pixels right of the centre
    turned = rotate(image, 90)[0, 0]
    assert turned.argmax() == 4 * 41 + 20  # six above
    torch.testing.assert_close(turned[4, 20], torch.tensor(1.0), atol=1e-4, rtol=0)


def test_quarter_turn_of_a_square_image_is_exact() -> None:
    image = torch.rand(1, 3, 9, 9)
    torch.testing.assert_close(rotate(image, 90), image.rot90(1, (2, 3)), atol=1e-5, rtol=0)


def test_resize_is_antialiased_and_keeps_what_fits() -> None:
    stripes = torch.tensor([0.0, 1.0]).repeat(16).expand(1, 3, 32, 32)
    small = resize(stripes, (8, 8))
    torch.testing.assert_close(small, torch.full_like(small, 0.5), atol=0.1, rtol=0)
    assert resize(stripes, (32, 32)) is stripes


def test_crop_is_a_window_and_small_images_are_extended() -> None:
    pair = random_pair(6, 10)
    rng = np.random.default_rng(0)
    windows = {(y, x): pair[..., y : y + 4, x : x + 5] for y in range(3) for x in range(6)}
    found = Counter()
    for _ in range(200):
        crop = augment(pair, AugmentationConfig(crop=(4, 5)), rng)
        found.update(place for place, window in windows.items() if torch.equal(crop, window))
    assert sum(found.values()) == 200
    assert len(found) == 18
    larger = augment(pair, AugmentationConfig(crop=(8, 10)), rng)
    assert torch.equal(larger[..., 1:7, :], pair)
    assert torch.equal(larger[..., 0, :], pair[..., 0, :])


def test_hue_turns_red_to_green_and_leaves_grey_alone() -> None:
    colors = torch.tensor([[1.0, 0.0, 0.0], [0.3, 0.3, 0.3]]).T.reshape(1, 3, 1, 2)
    expected = torch.tensor([[0.0, 1.0, 0.0], [0.3, 0.3, 0.3]]).T.reshape(1, 3, 1, 2)
    torch.testing.assert_close(shift_hue(colors, 1 / 3), expected, atol=1e-5, rtol=0)


def test_hue_turns_both_ways_around_the_circle() -> None:
    images = torch.rand(1, 3, 16, 16)
    for turn in (0.1, 0.5, 0.9):
        torch.testing.assert_close(shift_hue(shift_hue(images, turn), -turn), images, atol=1e-5, rtol=0)
        torch.testing.assert_close(shift_hue(images, turn), shift_hue(images, turn - 1), atol=1e-5, rtol=0)


def test_jitter_is_not_quantised_to_8_bits() -> None:
    pair = torch.linspace(0.4, 0.4 + 1 / 255, 200).repeat(2, 3, 1, 1)
    result = jitter(pair, JITTER, np.random.default_rng(0))
    assert result[0, 0].unique().numel() > 50


@pytest.mark.parametrize("change", ["brightness", "contrast", "saturation", "hue"])
def test_each_change_acts_alone(change: str) -> None:
    pair = random_pair() * 0.5 + 0.2
    result = jitter(pair, JitterConfig(**{change: 0.2}), np.random.default_rng(0))
    assert not torch.allclose(result, pair, atol=1e-3)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    before, after = (pair * weights).sum(1), (result * weights).sum(1)
    if change == "brightness":
        ratio = result / pair
        torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), atol=1e-4, rtol=0)
    elif change == "contrast":
        torch.testing.assert_close(after.mean(), before.mean(), atol=1e-3, rtol=0)
    elif change == "saturation":
        torch.testing.assert_close(after, before, atol=1e-3, rtol=0)
    else:
        torch.testing.assert_close(result.amax(1), pair.amax(1), atol=1e-4, rtol=0)
