"""All benchmarks by name: the files beside this one that begin with bench_."""

from __future__ import annotations

import importlib
from pathlib import Path

from benchmarks.ops.cases import Benchmark

NAMES = tuple(sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py")))


def load(name: str) -> Benchmark:
    benchmark: Benchmark = importlib.import_module(f"benchmarks.ops.bench_{name}").BENCHMARK
    return benchmark
