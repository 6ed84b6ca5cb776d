"""`lami reconstruct`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lami.cli.options import Checkpoint, Output, parse
from lami.cli.overrides import describe, split_overrides
from lami.errors import DataError


@dataclass
class ReconstructOptions:
    checkpoint: Checkpoint
    """Trained model."""
    output: Output
    """Folder of the rebuilt videos and the scores."""
    config: Annotated[str | None, tyro.conf.arg(metavar="CONFIG")] = None
    """Configuration file or preset whose test videos are rebuilt."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of videos, instead of the configuration's."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Stop after this many videos."""
    batch_size: int = 8
    """Frames computed at once."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def main(arguments: list[str]) -> None:
    others, overrides = split_overrides(arguments)
    description = describe(
        "Rebuild each test video from its first frame and the motion of all its frames, and score the result.",
        "--data.frame-shape 64",
    )
    options = parse(ReconstructOptions, others, "reconstruct", description)
    if options.config is None and options.data is None:
        raise DataError("say which videos to rebuild: --config CONFIG or --data DIR")
    if options.data is not None:
        overrides = {"data.root": str(options.data), "data.synthetic": None} | overrides

    from lami.configs import load_config
    from lami.evaluation import reconstruct

    reconstruct(
        options.checkpoint,
        load_config(options.config, overrides),
        options.output,
        limit=options.limit,
        device=options.device,
        batch_size=options.batch_size,
    )
