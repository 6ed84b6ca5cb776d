"""`lami evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lami.cli.options import Checkpoint, Output, check_complete, parse
from lami.cli.overrides import describe, split_overrides
from lami.errors import ConfigError, DataError


@dataclass
class EvaluateOptions:
    output: Output
    """Folder of the figures, the tables and the rebuilt videos."""
    checkpoint: Checkpoint | None = None
    """Trained model."""
    generated: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Instead of a checkpoint, videos that another program made, named as the test videos."""
    config: Annotated[str | None, tyro.conf.arg(metavar="CONFIG")] = None
    """Configuration file or preset whose test videos are used."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of videos, instead of the configuration's."""
    keypoints: Annotated[str | None, tyro.conf.arg(metavar="ESTIMATOR")] = None
    """For AKD and MKR: dlib, mediapipe, face-alignment, figures, or precomputed:REAL,GENERATED (files)."""
    identity: Annotated[str | None, tyro.conf.arg(metavar="ESTIMATOR")] = None
    """For AED: dlib (aligned faces), dlib-whole-frame, or precomputed:REAL,GENERATED (files)."""
    enlarge: int = 1
    """Enlarge frames by this factor for estimators that search them."""
    lpips: Annotated[str | None, tyro.conf.arg(metavar="pretrained|FILE")] = None
    """Also measure LPIPS, with AlexNet's weights."""
    reference_protocol: bool = False
    """Figures as the official evaluation computes them."""
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
    """Of the networks; bf16 is faster where the hardware has matrix units for it, and differs a little."""


def main(arguments: list[str]) -> None:
    others, overrides = split_overrides(arguments)
    description = describe(
        "Rebuild test videos and measure how far they are from the real ones, frame by frame.",
        "--data.frame-shape 64",
    )
    options = parse(EvaluateOptions, others, "evaluate", description)
    if options.config is None and options.data is None:
        raise DataError("say which videos to compare with: --config CONFIG or --data DIR")
    if options.data is not None:
        overrides = {"data.root": str(options.data), "data.synthetic": None} | overrides
    unused = [key for key in overrides if not key.startswith("data.") and key != "model.image_size"]
    if unused:
        raise ConfigError(
            f"evaluate uses the data section alone, the rest is the checkpoint's: leave out --{unused[0]}"
        )
    if "model.image_size" in overrides and options.checkpoint is not None:
        raise ConfigError("the image size is the checkpoint's: leave out --model.image-size")

    from lami.configs import load_config
    from lami.evaluation import evaluate

    result = evaluate(
        load_config(options.config, overrides),
        options.output,
        checkpoint=options.checkpoint,
        generated=options.generated,
        keypoints=options.keypoints,
        identity=options.identity,
        enlarge=options.enlarge,
        lpips=options.lpips,
        reference_protocol=options.reference_protocol,
        limit=options.limit,
        times=options.times,
        selector=options.selector,
        weights_vit=options.weights_vit,
        fusion=options.fusion,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
    )
    check_complete(result.failed, len(result.clips) + len(result.failed), options.output / "evaluation.json")
