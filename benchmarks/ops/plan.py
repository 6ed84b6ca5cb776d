"""Which sizes are measured, in order: everything a little before anything thoroughly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from benchmarks.ops.cases import Aim, Benchmark, Case
from benchmarks.ops.inputs import Inputs

SWEEPS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "splines": ((1, 4, 32), (2, 8, 16)),
    "times": ((1, 5, 9), (2, 7)),
    "channels": ((1, 16, 256), (4, 32)),
    "batch": ((1, 16, 64), (2, 8, 32)),
    "side": ((128, 256, 512), (1024,)),
}
"""Values of each parameter around the base, those measured first and those that fill the gaps; what takes longest comes
last."""
BASE = "base"
PARAMETERS = ("dtype", "layout", *SWEEPS)


@dataclass(frozen=True)
class Point:
    """A case to be made; `named` has targets of its own."""

    benchmark: Benchmark
    name: str
    aim: Aim
    named: bool = False

    def case(self, device: torch.device, seed: int = 0) -> Case:
        aim = self.aim
        features: torch.dtype = getattr(torch, aim.dtype)
        return self.benchmark.setup(aim.size, Inputs(device, torch.float32, features, aim.channels_last, seed))

    def case_to_check(self, device: torch.device) -> Case:
        """In double precision: in single, two roundings may take the gradient of different sides of a kink of bilinear
        sampling. Features narrower than float32 remain so."""
        if self.aim.dtype != "float32":
            return self.case(device)
        return self.benchmark.setup(self.aim.size, Inputs(device, torch.float64, channels_last=self.aim.channels_last))


def points(
    benchmarks: Iterable[Benchmark], parameters: Iterable[str], device_type: str, base_only: bool = False
) -> list[Point]:
    """Cases with targets of their own and bases first, then one parameter at a time around the base."""
    benchmarks, parameters = list(benchmarks), list(parameters)
    named = [
        Point(benchmark, name, aim, named=True)
        for benchmark in benchmarks
        for name, aim in (benchmark.cuda if device_type == "cuda" else benchmark.cpu).items()
    ]
    bases = [Point(benchmark, BASE, Aim(benchmark.base)) for benchmark in benchmarks]
    if base_only:
        return bases
    swept = [
        point
        for round in (0, 1)
        for parameter in parameters
        for benchmark in benchmarks
        if parameter in benchmark.uses
        for point in _sweep(benchmark, parameter, round)
    ]
    known: set[tuple[object, ...]] = set()
    return [point for point in (*named, *bases, *swept) if not _seen(point, known)]


def _sweep(benchmark: Benchmark, parameter: str, round: int) -> Iterator[Point]:
    if parameter in SWEEPS:
        for value in SWEEPS[parameter][round]:
            yield Point(benchmark, f"{parameter} {value}", Aim(benchmark.base.at(parameter, value)))
    elif round == 0 and parameter == "dtype":
        yield Point(benchmark, "bfloat16", Aim(benchmark.base, dtype="bfloat16"))
    elif round == 0:
        yield Point(benchmark, "channels_last", Aim(benchmark.base, channels_last=True))


def _seen(point: Point, known: set[tuple[object, ...]]) -> bool:
    key = (point.benchmark.name, point.aim.size, point.aim.dtype, point.aim.channels_last)
    seen = key in known
    known.add(key)
    return seen
