"""`lami reconstruct`."""

from __future__ import annotations

from dataclasses import dataclass

from lami.cli.options import Checkpoint, Output, TestVideoOptions, check_complete, parse, values_of
from lami.cli.overrides import describe, split_overrides
from lami.errors import ConfigError


@dataclass(kw_only=True)
class ReconstructOptions(TestVideoOptions):
    checkpoint: Checkpoint
    """Trained model."""
    output: Output
    """Folder of the rebuilt videos and the scores."""


def main(arguments: list[str]) -> None:
    others, overrides = split_overrides(arguments)
    description = describe(
        "Rebuild each test video from its first frame and the motion of all its frames, and score the result.",
        "--data.frame-shape 64",
    )
    options = parse(ReconstructOptions, others, "reconstruct", description)
    overrides = options.with_data(overrides)
    unused = [key for key in overrides if not key.startswith("data.")]
    if unused:
        raise ConfigError(
            f"reconstruct uses the data section alone, the rest is the checkpoint's: leave out --{unused[0]}"
        )

    from lami.configs import load_config
    from lami.evaluation import reconstruct

    chosen = values_of(options, TestVideoOptions)
    del chosen["data"]
    config = load_config(chosen.pop("config"), overrides)
    report = reconstruct(options.checkpoint, config, options.output, **chosen)
    check_complete(report.failed, len(report.clips) + len(report.failed), options.output / "report.json")
