"""`lami reconstruct`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lami.cli.options import Checkpoint, Output, check_complete, parse
from lami.cli.overrides import describe, split_overrides
from lami.errors import ConfigError, DataError


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
    times: Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="T ...")] = None
    """Candidate times; by default the checkpoint's."""
    selector: Annotated[Literal["eq4", "fixed", "random"] | None, tyro.conf.arg(metavar="{eq4,fixed,random}")] = None
    """How one of the candidates is chosen; by default as in the checkpoint."""
    weights_vit: Annotated[str | None, tyro.conf.arg(metavar="pretrained|FILE|random")] = None
    """Weights of the selector's transformer; by default as in the checkpoint."""
    fusion: Annotated[Literal["none", "occlusion", "mean"] | None, tyro.conf.arg(metavar="{none,occlusion,mean}")] = (
        None
    )
    """Reach the driving pose from the interpolated image (none), or from it and the source; as in the checkpoint."""
    batch_size: int = 8
    """Frames computed at once."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Of the networks; auto is bf16 where the processor or GPU is made for it. Coordinates stay in fp32."""


def main(arguments: list[str]) -> None:
    others, overrides = split_overrides(arguments)
    description = describe(
        "Rebuild each test video from its first frame and the motion of all its frames, and score the result.",
        "--data.frame-shape 64",
    )
    options = parse(ReconstructOptions, others, "reconstruct", description)
    if options.config is None and options.data is None:
        raise DataError("say which videos to rebuild: --config CONFIG or --data DIR")
    unused = [key for key in overrides if not key.startswith("data.")]
    if unused:
        raise ConfigError(
            f"reconstruct uses the data section alone, the rest is the checkpoint's: leave out --{unused[0]}"
        )
    if options.data is not None:
        overrides = {"data.root": str(options.data), "data.synthetic": None} | overrides

    from lami.configs import load_config
    from lami.evaluation import reconstruct

    report = reconstruct(
        options.checkpoint,
        load_config(options.config, overrides),
        options.output,
        limit=options.limit,
        times=options.times,
        selector=options.selector,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
        weights_vit=options.weights_vit,
        fusion=options.fusion,
    )
    check_complete(report.failed, len(report.clips) + len(report.failed), options.output / "report.json")
