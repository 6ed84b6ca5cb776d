"""Measure the fused ops beside eager PyTorch: `python -m benchmarks.ops --help`."""

from __future__ import annotations

import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler measures memory; its log would hide the progress

import torch
import tyro

import lami
from benchmarks.ops import machine, results
from benchmarks.ops.cases import PASSES
from benchmarks.ops.catalogue import NAMES, load
from benchmarks.ops.plan import PARAMETERS, points
from benchmarks.ops.runner import Runner


@dataclass(frozen=True)
class Options:
    """Measure the fused ops beside eager PyTorch that computes what TPSMM computes, in the way TPSMM does.

    Cases with targets of their own come first, then a base case of each op, then one parameter at a time around it.

    Attributes:
        ops: which benchmarks, all by default.
        device: cpu or cuda.
        threads: of the CPU; all cores by default.
        parameters: to vary around the base: dtype, layout, splines, times, channels, batch, side.
        passes: forward, backward and "forward + backward".
        quick: base cases only, three windows, no torch.compile.
        full: no time budget, and torch.compile on CPUs too.
        budget: minutes, after which no case is begun.
        windows: of at least 100 ms, for each side of a case; half as many for sizes around the base.
        memory: gigabytes that eager PyTorch may need for a case; a quarter of the device's memory by default.
        output: folder of the result, benchmarks/results/<device>/<version>/ops by default.
    """

    ops: tuple[str, ...] = NAMES
    device: str = "cpu"
    threads: int | None = None
    parameters: tuple[str, ...] = PARAMETERS
    passes: tuple[str, ...] = PASSES
    quick: bool = False
    full: bool = False
    budget: float = 30.0
    windows: int = 7
    memory: float | None = None
    output: Path | None = None


def main(options: Options) -> int:
    choices = {"ops": NAMES, "parameters": PARAMETERS, "passes": PASSES}
    for what, known in choices.items():
        if unknown := set(getattr(options, what)) - set(known):
            print(f"no {what} {', '.join(sorted(unknown))}; choose from {', '.join(known)}", file=sys.stderr)
            return 2
    device = torch.device(options.device)
    torch.set_num_threads(options.threads or os.cpu_count() or 1)
    facts = machine.describe(device)
    runner = Runner(
        device=device,
        passes=tuple(name for name in PASSES if name in options.passes),
        windows=3 if options.quick else options.windows,
        memory=options.memory or machine.memory(device) / 4e9,
        compile=not options.quick and (options.full or device.type == "cuda"),
        deadline=math.inf if options.full else time.monotonic() + 60 * options.budget,
    )
    benchmarks = [load(name) for name in options.ops]
    print(f"{'op':24} {'case':30} eager / fused: {', '.join(runner.passes)}", flush=True)
    try:
        for point in points(benchmarks, options.parameters, device.type, base_only=options.quick):
            runner.run(point)
    finally:  # what was measured is kept, whatever ends the run
        run = results.Run(
            **facts,
            window_s=runner.window,
            limits={benchmark.name: benchmark.limits for benchmark in benchmarks},
            missing=runner.missing,
            cases=runner.cases,
            left_out=runner.left_out,
        )
        print(run.save(options.output or results.FOLDER / run.device / lami.__version__ / "ops"))
    if wrong := runner.disagreeing():
        first = f"{wrong[0].op}, {wrong[0].case}, by {wrong[0].relative_error:.1e}"
        print(f"{len(wrong)} cases disagree with eager PyTorch; the first is {first}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, prog="python -m benchmarks.ops")))
