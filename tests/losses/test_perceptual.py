"""Perceptual loss over the pyramid. (Its anti-alias kernels are tested with the networks.)"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from lami.configs.schema import VGGConfig
from lami.errors import ConfigError
from lami.losses import PerceptualLoss
from lami.models.layers import AntiAliasDownsample

VGG = VGGConfig(name="vgg11", weights="random")


@pytest.fixture(scope="module")
def loss() -> PerceptualLoss:
    return PerceptualLoss(VGG, (1.0, 0.5), (32, 48))


def images() -> tuple[Tensor, Tensor]:
    return torch.rand(2, 3, 32, 48), torch.rand(2, 3, 32, 48)


def test_equal_images_cost_nothing(loss: PerceptualLoss) -> None:
    image, other = images()
    assert loss(image, image).item() == 0
    assert loss(image, other).item() > 0


def test_sum_over_layers_and_scales(loss: PerceptualLoss) -> None:
    prediction, target = images()
    total, terms = 0.0, 0
    half = AntiAliasDownsample(3, 0.5)
    for resized in (lambda x: x, half):
        for got, wanted in zip(loss.vgg(resized(prediction)), loss.vgg(resized(target)), strict=True):
            total += F.l1_loss(got, wanted).item()
            terms += 1
    assert terms == 10
    assert loss(prediction, target).item() == pytest.approx(total, rel=1e-5)


def test_gradient_reaches_the_prediction_alone(loss: PerceptualLoss) -> None:
    prediction, target = (image.requires_grad_() for image in images())
    loss(prediction, target).backward()
    assert prediction.grad is not None
    assert (prediction.grad != 0).any(dim=1).all()
    assert target.grad is None
    assert all(parameter.grad is None for parameter in loss.parameters())


def test_mean_over_the_batch(loss: PerceptualLoss) -> None:
    prediction, target = images()
    each = torch.stack([loss(prediction[i : i + 1], target[i : i + 1]) for i in range(2)])
    assert_close(loss(prediction, target), each.mean())


@pytest.mark.parametrize(("scales", "size"), [((1.0, 0.5, 0.25), (32, 64)), ((1.0, 0.125), (128, 64))])
def test_scales_must_leave_enough_pixels(scales: tuple[float, ...], size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"losses\.scales: .* is 8 pixels, .* needs 16; leave out the smallest"):
        PerceptualLoss(VGG, scales, size)
