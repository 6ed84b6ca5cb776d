"""What depends on the epoch: learning rate, contribution dropout, and which parts have started."""

from __future__ import annotations

from lami.configs.schema import DropoutConfig, TrainingConfig
from lami.models import ContributionDropout
from lami.training.step import StepState


def learning_rate(initial: float, milestones: tuple[int, ...], gamma: float, epoch: int) -> float:
    """Multiplied by gamma at each milestone: the first one's epochs 0 to m - 1 run at the initial rate."""
    return initial * gamma ** sum(epoch >= milestone for milestone in milestones)


def dropout_probability(config: DropoutConfig, epoch: int) -> float | None:
    """P(e) = min(e / increase_epochs * maximum + start, maximum) for 0-based epoch e; None once dropout has ended."""
    if epoch >= config.until_epoch:
        return None
    return min(epoch / config.increase_epochs * config.maximum + config.start, config.maximum)


def step_state(config: TrainingConfig, epoch: int) -> StepState:
    probability = dropout_probability(config.dropout, epoch)
    return StepState(
        dropout=None if probability is None else ContributionDropout(probability, config.dropout.mode),
        background=epoch >= config.background_start_epoch,
        interpolation=epoch >= config.interpolation_start_epoch,
    )
