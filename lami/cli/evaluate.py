"""`lami evaluate`."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lami.cli.options import (
    Checkpoint,
    MeasureOptions,
    TestVideoOptions,
    check_complete,
    parse,
    values_of,
)
from lami.cli.overrides import describe, split_overrides
from lami.errors import ConfigError

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class EvaluateOptions(TestVideoOptions, MeasureOptions):
    output: Annotated[Path | None, tyro.conf.arg(aliases=("-o",), metavar="PATH")] = None
    """Folder of the figures, the tables and the rebuilt videos; by default beside the checkpoint or the generated
    videos, with the names of these and of the test videos, such as model-on-taichi."""
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
    named = chosen.pop("config")
    config = load_config(named, overrides)
    subject = options.checkpoint or options.generated or Path()  # `evaluate` tells that it needs one of both
    output = options.output or _beside(subject, config.data.root)
    chosen |= {"checkpoint": options.checkpoint, "generated": options.generated}
    # A folder alone says nothing of the model, and nothing shall be made of the defaults.
    known = config if named is not None or "model.image_size" in overrides else config.data
    result = evaluate(known, output, overwrite=options.output is not None, **chosen)
    if options.output is None:
        logger.info("all of it is in %s", output)
    check_complete(result.failed, len(result.clips) + len(result.failed), output / "evaluation.json")


def _beside(subject: Path, root: str | None) -> Path:
    """Folder for the evaluation of a checkpoint or of generated videos on the test videos in `root`."""
    # Links are not followed: files in a cache of Hugging Face have names there, and in its store of blobs none.
    tests = "figures" if root is None else os.path.basename(os.path.abspath(root))
    place = Path(os.path.abspath(subject))
    return place.parent / f"{place.name if place.is_dir() else place.stem}-on-{tests}"
