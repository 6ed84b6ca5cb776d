"""Training tests share one frozen VGG: making its random weights takes longer than the tests."""

from __future__ import annotations

import copy
import functools

import pytest

from lami.backbones import VGGFeatures
from lami.configs.schema import VGGConfig
from lami.losses import perceptual


@functools.cache
def _features(name: str, weights: str) -> VGGFeatures:
    return VGGFeatures(VGGConfig(name=name, weights=weights))


@pytest.fixture(autouse=True)
def _shared_vgg(monkeypatch: pytest.MonkeyPatch) -> None:
    # A copy, since training stores frozen weights in its precision.
    monkeypatch.setattr(perceptual, "VGGFeatures", lambda config: copy.deepcopy(_features(config.name, config.weights)))
