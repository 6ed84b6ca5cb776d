"""Values of the schedules that TPSMM and the paper give."""

from __future__ import annotations

import pytest

from lami.configs import load_config
from lami.configs.schema import DropoutConfig, TrainingConfig
from lami.training.schedule import dropout_probability, learning_rate, step_state

TAICHI = load_config("taichi").training
VOX = load_config("vox").training


@pytest.mark.parametrize(
    ("config", "epoch", "probability"),
    [
        (TAICHI, 0, 0.0),
        (TAICHI, 5, 0.35),
        (TAICHI, 10, 0.7),
        (TAICHI, 34, 0.7),
        (TAICHI, 35, None),
        (TAICHI, 99, None),
        (VOX, 0, 0.1),
        (VOX, 5, 0.25),
        (VOX, 7, 0.3),
        (VOX, 34, 0.3),
    ],
)
def test_contribution_dropout(config: TrainingConfig, epoch: int, probability: float | None) -> None:
    expected = None if probability is None else pytest.approx(probability)
    assert dropout_probability(config.dropout, epoch) == expected


@pytest.mark.parametrize(("epoch", "factor"), [(0, 1), (69, 1), (70, 0.1), (89, 0.1), (90, 0.01), (99, 0.01)])
def test_learning_rate(epoch: int, factor: float) -> None:
    rate = learning_rate(TAICHI.learning_rate, TAICHI.milestones, TAICHI.gamma, epoch)
    assert rate == pytest.approx(1e-4 * factor)


@pytest.mark.parametrize("mode", ["corrected", "reference"])
def test_state_of_an_epoch(mode: str) -> None:
    config = TrainingConfig(
        background_start_epoch=3,
        interpolation_start_epoch=2,
        dropout=DropoutConfig(start=0.2, maximum=0.4, increase_epochs=4, until_epoch=3, mode=mode),
    )
    states = [step_state(config, epoch) for epoch in range(4)]
    assert [state.background for state in states] == [False, False, False, True]
    assert [state.interpolation for state in states] == [False, False, True, True]
    drops = [state.dropout for state in states[:3]]
    assert [drop and drop.probability for drop in drops] == pytest.approx([0.2, 0.3, 0.4])
    assert {drop and drop.mode for drop in drops} == {mode}
    assert states[3].dropout is None
