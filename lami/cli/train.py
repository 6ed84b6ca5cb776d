"""`lami train`."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from lami.cli.options import ConfigName, parse
from lami.cli.overrides import describe, split_overrides


@dataclass
class TrainOptions:
    config: tyro.conf.Positional[ConfigName]
    """Configuration file, or the name of a preset such as taichi."""
    resume: bool = False
    """Continue from the newest checkpoint in `training.output`."""
    print_config: bool = False
    """Print all keys with their values, overrides included, and stop."""


def main(arguments: list[str]) -> None:
    others, overrides = split_overrides(arguments)
    description = describe(
        "Train a model.",
        "--training.learning-rate 1e-4",
        "--interpolation.times 0.3 0.5",
        "--model.background null",
        "--data.root=videos",
    )
    options = parse(TrainOptions, others, "train", description)

    from lami.configs import dump_config, load_config

    config = load_config(options.config, overrides)
    if options.print_config:
        print(dump_config(config), end="")
        return

    from lami.training import train

    train(config, resume=options.resume)
