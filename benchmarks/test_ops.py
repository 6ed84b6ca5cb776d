"""Every op and eager PyTorch under pytest-benchmark, for work on one kernel: `python -m pytest benchmarks -k warp`.

The cases are those of `python -m benchmarks.ops`, at their base size; its figures, not these, are the published ones.
"""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed: pip install -e '.[dev]'")

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.ops import measure
from benchmarks.ops.cases import PASSES
from benchmarks.ops.catalogue import NAMES, load
from benchmarks.ops.inputs import Inputs


@pytest.mark.parametrize("side", ["fused", "eager"])
@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("op", NAMES)
def test_op(benchmark: BenchmarkFixture, op: str, name: str, side: str) -> None:
    benchmark.group = f"{op}, {name}"
    described = load(op)
    case = described.setup(described.base, Inputs(torch.device("cpu")))
    results = benchmark(measure.passes(getattr(case, side), case.arguments)[name]())
    moved = case.bytes_moved(measure.passes(case.fused, case.arguments)["forward"]()(), name)
    benchmark.extra_info["bytes_moved"] = moved
    assert all(torch.isfinite(result).all() for result in results)
