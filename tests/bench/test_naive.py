"""The naive composition computes what our step computes: otherwise their times could not be compared."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_config, tiny_model, tiny_pair

from lami.bench.naive import NaiveStep
from lami.training.step import StepState, TrainingStep

OVERRIDES = [
    {},
    {"model.background": None, "losses.background": 0, "losses.pixel": 3.0},
    {"losses.vit_reduction": "norm", "interpolation.times": (0.2, 0.6), "model.num_splines": 3},
]


@pytest.mark.parametrize("overrides", OVERRIDES)
def test_losses_and_gradients_agree(overrides: dict[str, object]) -> None:
    """All losses; both draw the same random transforms."""
    config = tiny_config(overrides)
    source, driving = tiny_pair(3)
    results = []
    for naive in (False, True):
        model = tiny_model(config)
        step = TrainingStep(model, config.losses)
        torch.manual_seed(1)
        losses = (NaiveStep(step) if naive else step)(source, driving, StepState())
        torch.stack(list(losses.values())).sum().backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        results.append((losses, gradients))
    (ours, our_gradients), (theirs, their_gradients) = results
    assert ours.keys() == theirs.keys()
    for name, loss in ours.items():
        torch.testing.assert_close(theirs[name], loss, rtol=1e-4, atol=1e-6)
    # Rounding errors take the other side of a kink here and there; something forgotten would be wrong by tenths.
    largest = max(gradient.norm() for gradient in our_gradients.values() if gradient is not None)
    for name, gradient in our_gradients.items():
        other = their_gradients[name]
        assert (gradient is None) == (other is None), name
        if gradient is not None and other is not None:
            assert (other - gradient).norm() <= 1e-2 * gradient.norm() + 1e-4 * largest, name
