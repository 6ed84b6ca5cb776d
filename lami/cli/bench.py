"""`lami bench`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lami.cli.options import ConfigName, Output, parse
from lami.cli.overrides import describe, split_overrides
from lami.cli.subcommands import Subcommands, dispatch
from lami.errors import ConfigError

_TRAIN = "measure a training step beside a naive composition of the same method"
_ANIMATE = "measure the frames a second of an animation beside a naive composition of the same method"
_DATA = "measure how many training pairs a second the data gives"


@dataclass
class DataOptions:
    config: tyro.conf.Positional[ConfigName]
    """Configuration file, or the name of a preset such as taichi."""
    root: Annotated[tyro.conf.UseAppendAction[tuple[Path, ...]], tyro.conf.arg(metavar="DIR")] = ()
    """Folder to measure, instead of data.root; give it several times to compare, ratios are to the first."""
    workers: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N ...")] = (0, 1, 2)
    """Numbers of processes that load data; 0 loads in the process itself."""
    seconds: float = 10.0
    """For each folder and number of processes, in five windows in turn with the others."""
    output: Output = Path("bench-data.json")
    """File of the result."""
    overwrite: bool = False
    """Replace it if it exists."""


@dataclass
class AnimateOptions:
    checkpoint: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = None
    """Trained model, instead of a configuration."""
    config: Annotated[str | None, tyro.conf.arg(metavar="CONFIG")] = None
    """Configuration file or preset, measured with random weights."""
    sizes: Annotated[tuple[int, ...] | None, tyro.conf.arg(metavar="N ...")] = None
    """Sides of the images; by default 64 128 256 512, of a checkpoint its own."""
    times: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N ...")] = (0, 1, 3, 5, 9)
    """Numbers of candidate times; 0 is the single stage of TPSMM."""
    frames: int = 4
    """In a batch."""
    rounds: int = 5
    """In which the sides take turns."""
    compile: bool = False
    """Also measure compiled networks."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    weights_vit: Annotated[str | None, tyro.conf.arg(metavar="pretrained|FILE|random")] = None
    """Weights of the selector's transformer; random ones cost the same."""
    output: Output = Path("bench-animate")
    """Folder of the result, animate.json and a picture for each size."""


@dataclass
class TrainOptions:
    config: tyro.conf.Positional[ConfigName]
    """Configuration file, or the name of a preset such as taichi."""
    rounds: int = 7
    """Steps to measure of each side, in turn with the others."""
    output: Output = Path("bench-train")
    """Folder of the result, train.json and train.png."""


def main(arguments: list[str]) -> None:
    # The profiler measures memory and parts; its own log would hide the progress. Read when torch is imported.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    dispatch("bench", _SUBCOMMANDS, arguments)


def _data(arguments: list[str]) -> None:
    others, overrides = split_overrides(arguments)
    description = describe(f"{_DATA.capitalize()}.", "--training.batch-size 8", "--data.augmentation.rotation 5")
    options = parse(DataOptions, others, "bench data", description)

    from lami.bench.data import bench_data
    from lami.configs import load_config
    from lami.data import check_output

    config = load_config(options.config, overrides)
    check_output(options.output, overwrite=options.overwrite)
    bench_data(config, options.root, options.workers, options.seconds, options.output)


def _train(arguments: list[str]) -> None:
    others, overrides = split_overrides(arguments)
    description = describe(f"{_TRAIN.capitalize()}.", "--vit.weights random", "--training.compile true")
    options = parse(TrainOptions, others, "bench train", description)

    from lami.bench.train import bench_train
    from lami.configs import load_config

    bench_train(load_config(options.config, overrides), options.rounds, options.output)


def _animate(arguments: list[str]) -> None:
    others, overrides = split_overrides(arguments)
    description = describe(f"{_ANIMATE.capitalize()}.", "--vit.name vit_small_patch16_224.dino")
    options = parse(AnimateOptions, others, "bench animate", description)
    if (options.checkpoint is None) == (options.config is None):
        raise ConfigError("say what to measure: a checkpoint, or --config CONFIG")
    if options.checkpoint is not None and overrides:
        raise ConfigError(f"a checkpoint has its configuration with it: leave out --{next(iter(overrides))}")

    from lami.bench.animate import bench_animate
    from lami.configs import load_config

    chosen = vars(options) | {"target": options.checkpoint or load_config(options.config, overrides)}
    del chosen["checkpoint"], chosen["config"]
    bench_animate(**chosen)


_SUBCOMMANDS: Subcommands = {
    "animate": (_ANIMATE, _animate),
    "train": (_TRAIN, _train),
    "data": (_DATA, _data),
}
