"""Measure the fused ops beside eager PyTorch: `python -m benchmarks.ops --help`."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler measures memory; its log would hide the progress

import torch
import tyro

from benchmarks.ops import measure, results
from benchmarks.ops.cases import Benchmark, Case, Inputs, Size, Targets
from lami.bench.memory import peak_bytes
from lami.ops._backend import choose

NAMES = tuple(sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py")))
SWEEP = tuple(f"{side}x{batch}" for side in (16, 32, 64, 128, 256, 512) for batch in (1, 4, 16))
QUICK = ("16x1", "64x4")
AGREEMENT = 1e-6
"""Relative error by norm, in double precision: in single, two roundings may take the gradient of different sides of a
kink of bilinear sampling."""


@dataclass(frozen=True)
class Options:
    """Measure the fused ops beside eager PyTorch that computes what TPSMM computes, in the way TPSMM does.

    Attributes:
        ops: which benchmarks, all by default.
        device: cpu or cuda.
        threads: of the CPU; all cores by default.
        sizes: of the sweep, SIDExBATCH, by default 16 to 512 by 1 to 16; cases with targets of their own always run.
        quick: by default small sizes only, three windows, no torch.compile.
        windows: of at least 100 ms, for each side of a case.
        memory: gigabytes that eager PyTorch may need for a case; a quarter of the device's memory by default.
        compile: also torch.compile of eager PyTorch, for cases with targets of their own; only on a GPU.
        output: folder of the result, benchmarks/results/<device>/ops by default.
    """

    ops: tuple[str, ...] = NAMES
    device: str = "cpu"
    threads: int | None = None
    sizes: tuple[str, ...] | None = None
    quick: bool = False
    windows: int = 7
    memory: float | None = None
    compile: bool = True
    output: Path | None = None


@dataclass(frozen=True)
class Bench:
    """Measures cases with the same settings and keeps what is found."""

    device: torch.device
    windows: int
    memory: float
    compile: bool
    bandwidth: float | None
    window: float = 0.1
    cases: list[results.CaseResult] = field(default_factory=list)
    left_out: list[results.LeftOut] = field(default_factory=list)

    def measure(self, benchmark: Benchmark, name: str, size: Size, targets: Targets) -> None:
        expected = measure.expected_bytes(benchmark.setup(size, Inputs(torch.device("meta")))) / 1e9
        if expected > self.memory:
            reason = f"eager PyTorch would need about {expected:.1f} GB, more than {self.memory:.1f}"
            self.left_out.append(results.LeftOut(op=benchmark.name, case=name, reason=reason))
            return print(f"{benchmark.name:24} {name:30} left out: {reason}", flush=True)
        case = benchmark.setup(size, Inputs(self.device))
        named = name in benchmark.named
        functions = {"fused": case.fused, "eager": case.eager}
        if self.compile and named and self.device.type == "cuda":
            torch._dynamo.reset()
            functions["compiled"] = torch.compile(case.eager, dynamic=False)
        theirs = measure.forward(case.eager, case)()
        grads = [torch.randn_like(result) for result in theirs]
        passes = {
            "forward": {side: measure.forward(function, case) for side, function in functions.items()},
            "forward + backward": {
                side: measure.forward_backward(function, case, grads) for side, function in functions.items()
            },
        }
        error = self._disagreement(benchmark.setup(size, Inputs(self.device, torch.float64)))
        measured = []
        for pass_name, runs in passes.items():
            moved = measure.bytes_moved(case, theirs, backward=pass_name != "forward")
            forward = pass_name == "forward"
            measured.append(
                results.Pass(
                    name=pass_name,
                    **self._sides(runs, moved),
                    bytes_moved=moved,
                    target=targets.forward if forward else targets.both,
                    memory_target=None if forward else targets.memory,
                )
            )
        result = results.CaseResult(
            op=benchmark.name,
            case=name,
            named=named,
            size=asdict(size),
            backend=choose(benchmark.op or benchmark.name, self.device),
            relative_error=error,
            passes=measured,
        )
        self.cases.append(result)
        print(_line(result), flush=True)

    def _disagreement(self, case: Case) -> float:
        """Of the results and all gradients."""
        grads = [torch.randn_like(result) for result in measure.forward(case.eager, case)()]
        fused, eager = (measure.forward_backward(function, case, grads)() for function in (case.fused, case.eager))
        return measure.disagreement(fused, eager)

    def _sides(self, runs: dict[str, measure.Run], moved: int) -> dict[str, results.Side]:
        sides = {}
        for side, seconds in measure.interleaved(runs, self.device, self.window, self.windows).items():
            p20, median, p80 = measure.percentiles(seconds)
            sides[side] = results.Side(
                median_ms=median * 1e3,
                p20_ms=p20 * 1e3,
                p80_ms=p80 * 1e3,
                windows=len(seconds),
                peak_bytes=peak_bytes(runs[side], self.device),
                bandwidth_percent=None if self.bandwidth is None else 100 * moved / median / self.bandwidth,
            )
        return sides


def _line(result: results.CaseResult) -> str:
    parts = [f"{result.op:24} {result.case:30}"]
    for each in result.passes:
        mark = " missed" if each.missed else ""
        parts.append(f"{each.eager.median_ms:9.2f} /{each.fused.median_ms:8.2f} ms ={each.ratio:6.1f}x{mark:7}")
    return " ".join([*parts, f"memory {100 * result.passes[-1].memory:3.0f} %  error {result.relative_error:.0e}"])


def _device_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def load(name: str) -> Benchmark:
    benchmark: Benchmark = importlib.import_module(f"benchmarks.ops.bench_{name}").BENCHMARK
    return benchmark


def main(options: Options) -> int:
    if unknown := set(options.ops) - set(NAMES):
        print(f"no benchmark of {', '.join(sorted(unknown))}; choose from {', '.join(NAMES)}", file=sys.stderr)
        return 2
    device = torch.device(options.device)
    torch.set_num_threads(options.threads or os.cpu_count() or 1)
    sizes = options.sizes if options.sizes is not None else QUICK if options.quick else SWEEP
    sweep = [(int(side), int(batch)) for side, batch in (size.split("x") for size in sizes)]
    copied = measure.bandwidth(device) if device.type == "cuda" else None
    bench = Bench(
        device=device,
        windows=3 if options.quick else options.windows,
        memory=options.memory or _device_memory(device) / 4e9,
        compile=options.compile and not options.quick,
        bandwidth=copied,
    )
    facts = results.machine(device, copied)
    benchmarks = [load(name) for name in options.ops]
    print(f"{'op':24} {'case':30} {'eager / fused, forward':36} forward + backward", flush=True)
    for benchmark in benchmarks:
        for name, (size, targets) in benchmark.sizes(sweep).items():
            bench.measure(benchmark, name, size, targets)
    run = results.Run(
        **facts,
        dtype="float32",
        window_s=bench.window,
        limits={benchmark.name: benchmark.limits for benchmark in benchmarks},
        cases=bench.cases,
        left_out=bench.left_out,
    )
    print(run.save(options.output or results.FOLDER / run.device / "ops"))
    if wrong := [result for result in bench.cases if result.relative_error > AGREEMENT]:
        print(
            f"{len(wrong)} cases disagree by more than {AGREEMENT:g}: {wrong[0].op}, {wrong[0].case}", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, prog="python -m benchmarks.ops")))
