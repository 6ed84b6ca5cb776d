"""One training step of this package beside a naive composition of the same method, in time and memory."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lami.bench.memory import check_measurable, peak_bytes
from lami.bench.naive import NaiveStep, naive_settings
from lami.bench.parts import Parts, seconds_by_part
from lami.bench.plots import check_plots, draw_parts
from lami.checkpoint import pick_device
from lami.configs.schema import Config, LossConfig, TrainingConfig
from lami.data import TrainingPairs, find_clips
from lami.data.files import atomic_path
from lami.environment import describe_machine
from lami.errors import ConfigError
from lami.model import LAMI
from lami.models import ContributionDropout
from lami.progress import track
from lami.training.acceleration import accelerate
from lami.training.optimizers import Optimizers
from lami.training.step import StepState, TrainingStep

NAIVE = "naive composition, fp32"


@dataclass(frozen=True)
class Side:
    """One way to take the step.

    Attributes:
        seconds: a step, of each round.
        peak_bytes: most that a step needs beyond weights and optimiser state; on a CPU without the scratch memory of
            libraries.
        parts: seconds of each part in one step under a profiler, backward passes included.
        flops: floating-point operations of a step in fp32 without recomputation, as PyTorch's counter sees them
            (matrix products and convolutions; attention on GPUs only).
    """

    name: str
    seconds: tuple[float, ...]
    peak_bytes: int
    parts: Mapping[str, float]
    flops: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class TrainBenchmark:
    """A run of the benchmark; the first side is the naive one."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    batch_size: int
    sides: tuple[Side, ...]

    def speedup(self, side: Side) -> float:
        """Over the naive side: median ratio of rounds that were measured in turn."""
        return statistics.median(a / b for a, b in zip(self.sides[0].seconds, side.seconds, strict=True))

    def table(self) -> str:
        """The figures as lines of text."""
        width = max(len(side.name) for side in self.sides)
        lines = [f"{'':<{width}}  s/step  samples/s   faster  peak MB  of naive  TFLOP/step  TFLOP/s"]
        for side in self.sides:
            memory = side.peak_bytes / self.sides[0].peak_bytes
            lines.append(
                f"{side.name:<{width}}  {side.median:6.3f}  {self.batch_size / side.median:9.2f}  "
                f"{self.speedup(side):6.2f}x  {side.peak_bytes / 1e6:7.0f}  {memory:7.0%}  "
                f"{side.flops / 1e12:10.2f}  {side.flops / 1e12 / side.median:7.2f}"
            )
        lines.append("")
        lines.append(f"{'share of the time':<{width}}  " + "  ".join(f"{part:>12}" for part in self.sides[0].parts))
        for side in self.sides:
            total = sum(side.parts.values())
            shares = "  ".join(f"{seconds / total:{max(len(part), 12)}.0%}" for part, seconds in side.parts.items())
            lines.append(f"{side.name:<{width}}  {shares}")
        return "\n".join(lines)


class _Trainer:
    """A model of its own with everything that a step needs."""

    def __init__(self, config: Config, settings: TrainingConfig, naive: bool) -> None:
        torch.manual_seed(settings.seed)
        self.device = pick_device(settings.device)
        model = LAMI(config.model, config.interpolation, config.vit).to(self.device).train()
        self.step = TrainingStep(model, config.losses)
        accelerate(self.step, settings)
        self.optimizers = Optimizers.create(model, settings)
        self.settings = settings
        self.naive = NaiveStep(self.step) if naive else None

    def run(self, source: Tensor, driving: Tensor, state: StepState) -> None:
        """Losses, gradients and update as in the training loop; the naive side reads its losses besides."""
        settings = self.settings
        if settings.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        self.optimizers.begin()
        layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        source, driving = (image.contiguous(memory_format=layout) for image in (source, driving))
        compute: Callable[..., dict[str, Tensor]] = self.naive or self.step
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            losses = compute(source, driving, state)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        total.backward()
        self.optimizers.step(settings.learning_rate, state.background)
        if self.naive is not None:
            for loss in losses.values():
                loss.item()


def bench_train(config: Config, rounds: int, output: str | Path) -> TrainBenchmark:
    """Measure training steps of a configuration, print a table, and write `train.json` and `train.png`.

    Three sides in turn, round by round: the naive composition in fp32, our step in the same precision, and our step
    as configured. All train on the same batch of real pairs with interpolation, background and
    contribution dropout active. Frozen networks may have random weights: they cost the same.

    Args:
        config: as for training.
        rounds: steps of each side that are measured, after two that warm up.
        output: folder for the results.

    Raises:
        ConfigError: the configuration leaves out what the naive composition has, or an argument cannot work.
        DataError: there are no training clips.
    """
    _check(config, rounds)
    check_plots()
    settings = config.training
    device = pick_device(settings.device)
    check_measurable(device)
    source, driving = _batch(config, device)
    dropout = settings.dropout
    state = StepState(ContributionDropout(dropout.maximum, dropout.mode) if dropout.maximum > 0 else None)
    plain = {"precision": "fp32", "compile": False, "cuda_graphs": False, "checkpoint_decoder": False}
    options = ("compile", "cuda_graphs", "checkpoint_decoder")
    chosen = [settings.precision, *(key for key in options if getattr(settings, key))]
    trainers = {
        NAIVE: _Trainer(config, naive_settings(settings), naive=True),
        "ours, fp32": _Trainer(config, settings.model_copy(update=plain), naive=False),
        f"ours, {', '.join(chosen)}": _Trainer(config, settings, naive=False),
    }

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    for trainer in trainers.values():
        for _ in range(2):
            trainer.run(source, driving, state)
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for name in track(list(trainers) * rounds, description="measuring"):
        start = clock()
        trainers[name].run(source, driving, state)
        seconds[name].append(clock() - start)

    sides: list[Side] = []
    for name, trainer in trainers.items():

        def step(trainer: _Trainer = trainer) -> None:
            trainer.run(source, driving, state)

        if len(sides) < 2:
            with FlopCounterMode(display=False) as counter:
                step()
            flops = counter.get_total_flops()
        peak = peak_bytes(step, device)
        parts = seconds_by_part(step, training_parts(trainer.step, trainer.optimizers), device)
        sides.append(Side(name, tuple(seconds[name]), peak, parts, flops))
    result = TrainBenchmark(
        machine=describe_machine(device),
        settings=config.model_dump(mode="json", exclude={"data", "avd_training"}),
        batch_size=settings.batch_size,
        sides=tuple(sides),
    )
    print(result.table())
    folder = Path(output)
    with atomic_path(folder / "train.json") as partial:
        partial.write_text(json.dumps(asdict(result), indent=1, default=str) + "\n")
    with atomic_path(folder / "train.png") as partial:
        draw_parts(
            {side.name: side.parts for side in sides},
            {side.name: side.median for side in sides},
            partial,
            "seconds a step, forward and backward",
        )
    return result


def training_parts(step: TrainingStep, optimizers: Optimizers) -> Parts:
    """Parts of a training step."""
    model = step.model
    parts: dict[str, list[tuple[Any, str]]] = {
        "keypoints, background": [(model.keypoint_detector, "forward")],
        "dense motion": [
            (model.dense_motion, "decode"),
            (model.dense_motion, "forward"),
            (model.dense_motion.down, "forward"),
        ],
        "encoder": [(model.generator, "encode")],
        "warp": [(model.generator, "warp")],
        "decoder": [(model.generator, "decode")],
        "VGG": [(step.perceptual, "forward")],
        "optimiser": [(optimizers, "begin"), (optimizers, "step")],
    }
    if model.background_predictor is not None:
        parts["keypoints, background"].append((model.background_predictor, "forward"))
    if step.vit is not None:
        parts["ViT"] = [(step.vit, "forward")]
    return parts


def _check(config: Config, rounds: int) -> None:
    interpolation, losses, defaults = config.interpolation, config.losses, LossConfig()
    wanted = (
        (rounds >= 1, "rounds must be 1 or more"),
        (interpolation.enabled and interpolation.selector == "eq4", "interpolation.enabled and selector eq4"),
        (len(interpolation.times) > 1, "several interpolation.times"),
        (config.training.selector in (None, "eq4"), "training.selector eq4"),
        (interpolation.background == "consistent", "interpolation.background consistent"),
        (interpolation.keypoints == "reuse", "interpolation.keypoints reuse"),
        (interpolation.fusion == "none", "interpolation.fusion none"),
        (losses.bidirectional, "losses.bidirectional"),
        (losses.feature_encoder == defaults.feature_encoder, f"losses.feature_encoder {defaults.feature_encoder}"),
        (losses.appearance + losses.structure > 0, "losses.appearance or losses.structure"),
        (losses.keypoints == 0, "losses.keypoints 0"),
    )
    for holds, what in wanted:
        if not holds:
            raise ConfigError(f"lami bench train compares the full method: it needs {what}")


def _batch(config: Config, device: torch.device) -> tuple[Tensor, Tensor]:
    size = config.model.image_size
    pairs = TrainingPairs(find_clips(config.data, size).train, config.data, size, config.training.seed)
    drawn = [pairs[number] for number in range(config.training.batch_size)]
    return (
        torch.stack([pair["source"] for pair in drawn]).to(device),
        torch.stack([pair["driving"] for pair in drawn]).to(device),
    )
