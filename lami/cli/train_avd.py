"""`lami train-avd`."""

from __future__ import annotations

from dataclasses import dataclass

from lami.cli.options import Checkpoint, ConfigName, Output, parse
from lami.cli.overrides import describe, split_overrides


@dataclass
class TrainAvdOptions:
    checkpoint: Checkpoint
    """Trained model whose keypoints are used; it stays as it is."""
    data: ConfigName
    """Configuration file or preset with the data and the section avd_training."""
    output: Output
    """New checkpoint: the model and its animation-via-disentanglement network."""
    overwrite: bool = False
    """Replace an output that exists."""


def main(arguments: list[str]) -> None:
    others, overrides = split_overrides(arguments)
    description = describe(
        "Train the network that separates the shape of the object from its pose.",
        "--avd-training.epochs 50",
        "--training.device cpu",
    )
    options = parse(TrainAvdOptions, others, "train-avd", description)

    from lami.configs import load_config
    from lami.training import train_avd

    train_avd(options.checkpoint, load_config(options.data, overrides), options.output, options.overwrite)
