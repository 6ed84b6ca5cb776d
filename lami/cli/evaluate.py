"""`lami evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lami.cli.options import (
    Checkpoint,
    MeasureOptions,
    Output,
    TestVideoOptions,
    check_complete,
    parse,
    values_of,
)
from lami.cli.overrides import describe, split_overrides
from lami.errors import ConfigError


@dataclass(kw_only=True)
class EvaluateOptions(TestVideoOptions, MeasureOptions):
    output: Output
    """Folder of the figures, the tables and the rebuilt videos."""
    checkpoint: Checkpoint | None = None
    """Trained model."""
    generated: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Instead of a checkpoint, videos that another program made, named as the test videos."""


def main(arguments: list[str]) -> None:
    others, overrides = split_overrides(arguments)
    description = describe(
        "Rebuild test videos and measure how far they are from the real ones, frame by frame.",
        "--data.frame-shape 64",
    )
    options = parse(EvaluateOptions, others, "evaluate", description)
    overrides = options.with_data(overrides)
    unused = [key for key in overrides if not key.startswith("data.") and key != "model.image_size"]
    if unused:
        raise ConfigError(
            f"evaluate uses the data section alone, the rest is the checkpoint's: leave out --{unused[0]}"
        )
    if "model.image_size" in overrides and options.checkpoint is not None:
        raise ConfigError("the image size is the checkpoint's: leave out --model.image-size")

    from lami.configs import load_config
    from lami.evaluation import evaluate

    chosen = values_of(options, TestVideoOptions) | values_of(options, MeasureOptions)
    del chosen["data"]
    config = load_config(chosen.pop("config"), overrides)
    result = evaluate(config, options.output, checkpoint=options.checkpoint, generated=options.generated, **chosen)
    check_complete(result.failed, len(result.clips) + len(result.failed), options.output / "evaluation.json")
