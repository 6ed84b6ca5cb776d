"""Parts put together by hand make what the model makes."""

from __future__ import annotations

import pytest
import torch
from small import small_model

from lami.errors import WeightsUnavailableError
from lami.export import Part, split
from lami.model import LAMI


@pytest.fixture(scope="module")
def model() -> LAMI:
    return small_model()


def _by_name(model: LAMI) -> dict[str, Part]:
    return {part.name: part for part in split(model, 2)}


def test_names_and_shapes(model: LAMI) -> None:
    parts = _by_name(model)
    assert list(parts) == ["detector", "motion", "generator", "background", "class_token"]
    shapes = {name: [tuple(output.shape) for output in part.run()] for name, part in parts.items()}
    assert shapes["detector"] == [(2, 4, 5, 2)]
    assert shapes["motion"] == [(2, 16, 16, 2), *((2, 1, side, side) for side in (8, 16, 32, 64))]
    assert shapes["generator"] == [(2, 3, 64, 64)]
    assert shapes["background"] == [(2, 3, 3)]
    assert all(len(part.outputs) == len(shapes[name]) for name, part in parts.items())


def test_parts_that_a_model_has_no_use_for() -> None:
    assert list(_by_name(small_model(background=False, selector="fixed"))) == ["detector", "motion", "generator"]
    assert "class_token" not in _by_name(small_model(enabled=False))
    assert "class_token" not in _by_name(small_model(times=(0.5,)))


@torch.no_grad()
def test_together_they_are_the_model(model: LAMI) -> None:
    parts = _by_name(model)
    motion = parts["motion"].inputs
    source, background = motion["source"], motion["background"]
    kp_source, kp_driving = motion["kp_source"], motion["kp_driving"]
    wanted = model.transfer_directly(model.encode(source), kp_source, kp_driving, background).prediction
    made = parts["generator"].module(source, *parts["motion"].run())
    assert torch.equal(made, wanted)
    assert torch.equal(parts["detector"].module(source), model.detect_keypoints(source))
    assert torch.equal(parts["class_token"].module(source), model.class_tokens(source))
    assert not torch.equal(made, model.transfer_directly(model.encode(source), kp_source, kp_driving).prediction)


def test_transformer_that_cannot_be_had() -> None:
    model = small_model()
    model.vit_config = model.vit_config.model_copy(update={"weights": "no/such/file"})
    with pytest.raises(WeightsUnavailableError, match="not found at no/such/file"):
        split(model, 2)
