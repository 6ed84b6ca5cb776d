"""How many frames a second a source is animated with, beside a naive composition of the same method."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lami.bench.animation_sides import NaiveSide, OurSide, variants
from lami.bench.memory import check_measurable, peak_bytes
from lami.bench.parts import Parts, seconds_by_part
from lami.bench.plots import check_plots, draw_parts
from lami.checkpoint import load, pick_device
from lami.configs.schema import Config
from lami.data.files import atomic_path
from lami.data.synthetic import SyntheticFigures
from lami.environment import command_line, describe_machine
from lami.errors import CheckpointError, ConfigError
from lami.model import LAMI
from lami.models import check_image_size, size_multiple
from lami.progress import track

NAIVE = "naive composition, fp32"
SIZES = (64, 128, 256, 512)
TIMES: Mapping[int, tuple[float, ...]] = {
    0: (),
    1: (0.5,),
    3: (0.3, 0.5, 0.7),
    5: (0.1, 0.3, 0.5, 0.7, 0.9),
    9: (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
}
"""Candidate times by their number; none is the single stage of TPSMM."""

_SAME_TIME = 1e-4


@dataclass(frozen=True)
class Side:
    """One way to make the frames.

    Attributes:
        seconds: a frame, of each round; a batch at a time, the naive side frame by frame.
        latency: seconds from a driving frame to its image where frames come one at a time, of each round.
        peak_bytes: most that such a frame needs beyond weights and source; on a CPU without the scratch memory of
            libraries.
        parts: seconds a frame of each part, under a profiler.
        difference: mean absolute difference of images in [0, 1] to the naive side's, all frames.
        other_times: share of frames for which another time was selected than by the naive side.
    """

    name: str
    seconds: tuple[float, ...]
    latency: tuple[float, ...]
    peak_bytes: int
    parts: Mapping[str, float]
    difference: float
    other_times: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Case:
    """An image size and a number of candidate times; the first side is the naive one."""

    size: int
    times: tuple[float, ...]
    hourglass_blocks: int
    sides: tuple[Side, ...]

    def speedups(self, side: Side) -> list[float]:
        """Over the naive side, of rounds that were measured in turn."""
        return [a / b for a, b in zip(self.sides[0].seconds, side.seconds, strict=True)]


@dataclass(frozen=True)
class AnimateBenchmark:
    """A run of the benchmark."""

    machine: dict[str, Any]
    command: str
    settings: dict[str, Any]
    cases: tuple[Case, ...]

    def table(self) -> str:
        """The figures as lines of text; where three stand together, median, 20th and 80th percentile of the rounds."""
        width = max(len(side.name) for case in self.cases for side in case.sides)
        lines = [
            f"size  times  {'':<{width}}  frames/s  {'faster':<21}  {'ms for one frame':<24}  peak MB  difference  "
            "other times"
        ]
        for case in self.cases:
            for side in case.sides:
                low, middle, high = _spread(case.speedups(side))
                faster = f"{middle:.2f}x ({low:.2f} to {high:.2f})"
                low, middle, high = (1e3 * seconds for seconds in _spread(side.latency))
                latency = f"{middle:.1f} ({low:.1f} to {high:.1f})"
                lines.append(
                    f"{case.size:4d}  {len(case.times):5d}  {side.name:<{width}}  {1 / side.median:8.2f}  "
                    f"{faster:<21}  {latency:<24}  {side.peak_bytes / 1e6:7.0f}  {side.difference:10.6f}  "
                    f"{side.other_times:11.0%}"
                )
        names = list(self.cases[0].sides[0].parts)
        lines += ["", f"size  times  {'share of the time':<{width}}  " + "  ".join(f"{name:>12}" for name in names)]
        for case in self.cases:
            for side in case.sides:
                total = sum(side.parts.values())
                shares = "  ".join(f"{side.parts[name] / total:{max(len(name), 12)}.0%}" for name in names)
                lines.append(f"{case.size:4d}  {len(case.times):5d}  {side.name:<{width}}  {shares}")
        return "\n".join(lines)


def bench_animate(
    target: Config | Path,
    *,
    sizes: Sequence[int] | None = None,
    times: Sequence[int] = tuple(TIMES),
    frames: int = 4,
    rounds: int = 5,
    compile: bool = False,
    device: str = "auto",
    weights_vit: str | None = None,
    output: str | Path = "bench-animate",
) -> AnimateBenchmark:
    """Measure animation, print a table, and write `animate.json` and a picture `animate-SIZE.png` for each size.

    Sides take turns, round by round: the naive composition (a frame), then ours in fp32, in bf16, compiled, on a GPU
    also in TF32 and with CUDA graphs (a batch, and a frame alone). Before they are measured, their images are compared.
    Figures that are drawn for it move each other, with absolute keypoints.

    Args:
        target: weight file, or a configuration, whose networks get random weights.
        sizes: of the square images; None takes 64, 128, 256 and 512 for a configuration, whose hourglass loses blocks
            where an image is too small for them, and the model's own for a weight file.
        times: numbers of candidate times, of `TIMES`; 0 is the single stage of TPSMM.
        frames: in a batch.
        rounds: that are measured.
        compile: also measure our sides with compiled networks.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        weights_vit: weights of the selector's transformer, see `ViTConfig.weights`; random ones cost the same.
        output: folder for the results.

    Raises:
        ConfigError: an argument that cannot work, or a model with options that the naive composition lacks.
        CheckpointError: the weight file cannot be used, or a side's images differ from the naive composition's.
        WeightsUnavailableError: the selector's transformer cannot be had.
    """
    _check_arguments(times, frames, rounds)
    check_plots()
    chosen = pick_device(device)
    check_measurable(chosen)
    machine = describe_machine(chosen)
    cases: list[Case] = []
    for size in _sizes(target, sizes):
        model = _model(target, size, chosen, weights_vit)
        cases += [_measure(model, TIMES[count], frames, rounds, compile) for count in sorted(set(times))]
    result = AnimateBenchmark(
        machine=machine,
        command=command_line(),
        settings={
            "weights": "random" if isinstance(target, Config) else target.name,
            "model": model.config.model_dump(mode="json", exclude={"image_size"}),
            "vit": model.vit_config.model_dump(mode="json"),
            "frames": frames,
            "rounds": rounds,
        },
        cases=tuple(cases),
    )
    print(result.table())
    folder = Path(output)
    with atomic_path(folder / "animate.json") as path:
        path.write_text(json.dumps(asdict(result), indent=1, default=str) + "\n")
    for size in dict.fromkeys(case.size for case in cases):
        named = {
            f"{len(case.times) or 'no'} time{'s' * (len(case.times) != 1)}: {side.name}": side
            for case in cases
            if case.size == size
            for side in case.sides
        }
        with atomic_path(folder / f"animate-{size}.png") as path:
            draw_parts(
                {name: side.parts for name, side in named.items()},
                {name: side.median for name, side in named.items()},
                path,
                f"seconds a frame, {size}x{size}",
            )
    return result


def _check_arguments(times: Sequence[int], frames: int, rounds: int) -> None:
    for name, value in (("frames", frames), ("rounds", rounds)):
        if value < 1:
            raise ConfigError(f"{name} must be 1 or more, got {value}")
    if not times or not set(times) <= set(TIMES):
        raise ConfigError(
            f"times must be some of {', '.join(map(str, TIMES))}, numbers of candidates, got {tuple(times)}"
        )


def _sizes(target: Config | Path, sizes: Sequence[int] | None) -> list[int]:
    if isinstance(target, Config):
        return list(dict.fromkeys(sizes or SIZES))
    config = load(target, "cpu").config
    if sizes is None and config.image_size[0] != config.image_size[1]:
        raise ConfigError(f"images of {target} are no squares ({config.image_size}); give sizes")
    for size in sizes or ():
        check_image_size(config, size, size)
    return list(dict.fromkeys(sizes or config.image_size))


def _model(target: Config | Path, size: int, device: torch.device, weights_vit: str | None) -> LAMI:
    if isinstance(target, Config):
        model = _with_random_weights(target, size).to(device).eval()
    else:
        model = load(target, device)
        model.config = model.config.model_copy(update={"image_size": (size, size)})
    if weights_vit is not None:
        model.vit_config = model.vit_config.model_copy(update={"weights": weights_vit})
    interpolation = model.interpolation
    for holds, what in (
        (interpolation.keypoints == "reuse", "interpolation.keypoints reuse"),
        (interpolation.fusion == "none", "interpolation.fusion none"),
        (interpolation.skip_below == 0, "interpolation.skip_below 0"),
    ):
        if not holds:
            raise ConfigError(f"lami bench animate compares the published method: it needs {what}")
    return model


def _with_random_weights(config: Config, size: int) -> LAMI:
    """The networks of a configuration for another image size, always with the same weights."""
    networks = config.model.model_copy(update={"image_size": (size, size)})
    while size_multiple(networks) > size and networks.dense_motion.num_blocks > 1:
        dense_motion = networks.dense_motion.model_copy(update={"num_blocks": networks.dense_motion.num_blocks - 1})
        networks = networks.model_copy(update={"dense_motion": dense_motion})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LAMI(networks, config.interpolation, config.vit)


def _measure(model: LAMI, times: tuple[float, ...], frames: int, rounds: int, compile: bool) -> Case:
    size, device = model.config.image_size[0], model.device
    torch.compiler.reset()  # or what was compiled for earlier cases would count against the limit of recompilations
    chosen = {"enabled": bool(times), "selector": "eq4"} | ({"times": times} if times else {})
    model.interpolation = model.interpolation.model_copy(update=chosen)
    figures = SyntheticFigures((size, size), 2, max(frames, 2))
    source, driving = (clip.frames(range(frames)) for clip in map(figures.clip, range(2)))
    sides: dict[str, NaiveSide | OurSide] = {NAIVE: NaiveSide(model, source[0], driving, times)}
    expected, expected_times = sides[NAIVE].results()
    agreement: dict[str, tuple[float, float]] = {NAIVE: (0.0, 0.0)}
    for variant in variants(device, compile):
        side = OurSide(model, variant, source[0], driving)
        images, selected = side.results()
        side.step(0)
        difference = float((images - expected).abs().mean())
        if not difference <= variant.largest_difference:
            raise CheckpointError(
                f"images of '{variant.name}' differ from the naive composition's by {difference:.4f} on average at "
                f"{size}x{size} with {len(times)} times, more than {variant.largest_difference:.4f}; use it in fp32"
            )
        others = sum(abs(a - b) > _SAME_TIME for a, b in zip(selected, expected_times, strict=True))
        sides[variant.name], agreement[variant.name] = side, (difference, others / frames)

    seconds: dict[str, list[float]] = {name: [] for name in sides}
    latency: dict[str, list[float]] = {name: [] for name in sides}
    rounds_of_sides = [(number, name) for number in range(rounds) for name in sides]
    for number, name in track(rounds_of_sides, description=f"measuring {size}x{size}, {len(times)} times"):
        run, step = (partial(call, number % frames) for call in (sides[name].run, sides[name].step))
        latency[name].append(_seconds(step, device))
        # The naive side makes frame by frame anyway.
        seconds[name].append(latency[name][-1] if name == NAIVE else _seconds(run, device) / frames)
    return Case(
        size,
        times,
        model.config.dense_motion.num_blocks,
        tuple(_finished(name, side, seconds[name], latency[name], *agreement[name]) for name, side in sides.items()),
    )


def _finished(
    name: str,
    side: NaiveSide | OurSide,
    seconds: list[float],
    latency: list[float],
    difference: float,
    other_times: float,
) -> Side:
    device = side.model.device
    parts = seconds_by_part(partial(side.run, 0), _parts(side.model), device)
    return Side(
        name,
        tuple(seconds),
        tuple(latency),
        peak_bytes(partial(side.step, 0), device),
        {part: taken / side.frames_in_run for part, taken in parts.items()},
        difference,
        other_times,
    )


def _parts(model: LAMI) -> Parts:
    dense_motion, generator = model.dense_motion, model.generator
    return {
        "keypoints": [(model.keypoint_detector, "forward")],
        "dense motion": [(dense_motion, "decode"), (dense_motion, "forward"), (dense_motion.down, "forward")],
        "encoder": [(generator, "encode")],
        "warp": [(generator, "warp")],
        "decoder": [(generator, "decode")],
        "ViT": [(model, "class_tokens")],
    }


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    start = _clock(device)
    run()
    return _clock(device) - start


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    """20th percentile, median, 80th percentile."""
    ordered = sorted(values)
    low, high = (ordered[round(share * (len(ordered) - 1))] for share in (0.2, 0.8))
    return low, statistics.median(ordered), high
