"""Measures one case after the other and keeps what is found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch._functorch import config as functorch_config

from benchmarks.ops import measure, results
from benchmarks.ops.cases import BOTH, FORWARD, Case, Other, flat
from benchmarks.ops.others import copy
from benchmarks.ops.plan import BASE, Point
from lami.bench.memory import peak_bytes
from lami.ops._backend import choose

AGREEMENT = {"float32": 1e-6, "bfloat16": 1e-2}
"""Relative error by norm that counts as agreement, by the dtype of features; float32 is checked in double precision."""
COPIES = 3
"""Of the inputs on a GPU, used in turn."""


functorch_config.donated_buffer = False  # compiled graphs are kept too, to time the backward pass alone


@dataclass(frozen=True)
class Runner:
    """Settings that all cases share, and what was found.

    Attributes:
        passes: names of those to measure.
        windows: of each side; sizes around the base get half as many.
        memory: gigabytes that eager PyTorch may need for a case.
        compile: also torch.compile of eager PyTorch, for bases and cases with targets of their own.
        deadline: on `time.monotonic`; cases after it are left out.
        window: seconds.
        missing: other implementations, and why they were not measured.
    """

    device: torch.device
    passes: tuple[str, ...]
    windows: int
    memory: float
    compile: bool
    deadline: float
    window: float = 0.1
    cases: list[results.CaseResult] = field(default_factory=list)
    left_out: list[results.LeftOut] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def run(self, point: Point) -> None:
        """Check that both sides agree, then measure all passes of all sides."""
        if (reason := self._reason_against(point)) is not None:
            return self._leave_out(point, reason)
        try:
            self._measure(point)
        except torch.OutOfMemoryError:
            self._leave_out(point, "the device has not enough memory")

    def _leave_out(self, point: Point, reason: str) -> None:
        self.left_out.append(results.LeftOut(op=point.benchmark.name, case=point.name, reason=reason))
        print(f"{point.benchmark.name:24} {point.name:30} left out: {reason}", flush=True)

    def _measure(self, point: Point) -> None:
        error = disagreement(point.case_to_check(self.device))
        copies = range(COPIES if self.device.type == "cuda" else 1)
        cases = [_in_one_dtype(point.case(self.device, seed)) for seed in copies]
        compile = self.compile and (point.named or point.aim.size == point.benchmark.base)
        compiled = self._compiled(cases[0]) if compile else None
        sides = [self._sides(case, compiled) for case in cases]
        outputs = measure.passes(cases[0].fused, cases[0].arguments)[FORWARD]()()
        measured = [
            self._pass(point, name, [_runs(each, name) for each in sides], cases[0].bytes_moved(outputs, name))
            for name in self.passes
        ]
        result = results.CaseResult(
            op=point.benchmark.name,
            case=point.name,
            named=point.named,
            size=asdict(point.aim.size),
            dtype=point.aim.dtype,
            channels_last=point.aim.channels_last,
            backend=choose(point.benchmark.op or point.benchmark.name, self.device),
            relative_error=error,
            passes=measured,
        )
        self.cases.append(result)
        print(_line(result), flush=True)

    def disagreeing(self) -> list[results.CaseResult]:
        return [result for result in self.cases if result.relative_error > AGREEMENT[result.dtype]]

    def _reason_against(self, point: Point) -> str | None:
        if time.monotonic() > self.deadline:
            return "the time budget was spent"
        expected = measure.expected_bytes(point.case(torch.device("meta"))) / 1e9
        if expected > self.memory:
            return f"eager PyTorch would need about {expected:.1f} GB, more than {self.memory:.1f}"
        return None

    def _sides(self, case: Case, compiled: Callable[..., Any] | None) -> dict[str, Other]:
        """Everything to be measured, the copy excepted."""
        sides = {"fused": Other(case.fused, case.arguments), "eager": Other(case.eager, case.arguments)}
        if compiled is not None:
            sides["torch.compile"] = Other(compiled, case.arguments)
        for name, other in case.others().items():
            if isinstance(other, Other):
                sides[name] = other
            else:
                self.missing[name] = other
        return sides

    def _compiled(self, case: Case) -> Callable[..., Any] | None:
        torch._dynamo.reset()
        compiled = torch.compile(case.eager, dynamic=False)
        try:
            compiled(*case.arguments)
        except Exception as error:  # of a compiler that is missing or fails, in any of its layers
            self.missing["torch.compile"] = str(error).strip().splitlines()[0]
            return None
        return compiled

    def _pass(self, point: Point, name: str, made: list[dict[str, measure.Run]], moved: int) -> results.Pass:
        runs = {side: measure.in_turn([runs[side] for runs in made]) for side in made[0]}
        limit = copy(moved, self.device)
        runs["copy"] = measure.passes(limit.function, limit.arguments)[FORWARD]()
        wanted = {FORWARD: point.aim.forward, BOTH: point.aim.both}.get(name, {})
        windows = self.windows if point.named or point.name == BASE else max(3, self.windows // 2)
        return results.Pass(
            name=name,
            sides={side: self._side(runs[side], seconds) for side, seconds in self._seconds(runs, windows).items()},
            bytes_moved=moved,
            wanted={"eager": 1.0, **wanted},
            wanted_memory=point.aim.memory if name == BOTH else None,
            wanted_host_us=point.aim.host_us if name == FORWARD else None,
        )

    def _seconds(self, runs: dict[str, measure.Run], windows: int) -> dict[str, list[float]]:
        return measure.interleaved(runs, self.device, self.window, windows)

    def _side(self, run: measure.Run, seconds: list[float]) -> results.Side:
        p20, median, p80 = (1e3 * value for value in measure.percentiles(seconds))
        peak = peak_bytes(run, self.device)
        host = 1e6 * measure.host_seconds(run, self.device) if self.device.type == "cuda" else None
        return results.Side(
            median_ms=median, p20_ms=p20, p80_ms=p80, windows=len(seconds), peak_bytes=peak, host_us=host
        )


def disagreement(case: Case) -> float:
    """Relative error of ours and others beside eager: of the results, and for ours of all gradients."""
    case = _in_one_dtype(case)
    expected = flat(case.eager(*case.arguments))
    grads = [torch.randn_like(result) for result in expected]
    both = (measure.passes(side, case.arguments, grads)[BOTH]()() for side in (case.fused, case.eager))
    errors = [measure.disagreement(*both)]
    errors += [
        measure.disagreement(flat(other.function(*other.arguments)), expected)
        for other in case.others().values()
        if isinstance(other, Other) and not other.differs
    ]
    return max(errors)


def _runs(sides: dict[str, Other], name: str) -> dict[str, measure.Run]:
    return {
        side: measure.passes(other.function, other.arguments)[name]()
        for side, other in sides.items()
        if name == FORWARD or other.differentiable
    }


def _in_one_dtype(case: Case) -> Case:
    """With the other sides widened, where features are narrower than float32."""
    if not any(tensor.dtype == torch.bfloat16 for tensor in case.tensors()):
        return case
    with torch.no_grad():
        dtypes = [result.dtype for result in flat(case.fused(*case.arguments))]
    others = {
        name: replace(other, function=measure.widened(other.function, dtypes)) if isinstance(other, Other) else other
        for name, other in case.others().items()
    }
    return replace(case, eager=measure.widened(case.eager, dtypes), others=lambda: others)


def _line(result: results.CaseResult) -> str:
    parts = [f"{result.op:24} {result.case:30}"]
    for each in result.passes:
        mark = " missed" if each.missed else ""
        parts.append(f"{each.eager.median_ms:9.2f} /{each.fused.median_ms:8.2f} ms ={each.ratio:6.1f}x{mark:7}")
    return " ".join([*parts, f"memory {100 * result.passes[-1].memory:3.0f} %  error {result.relative_error:.0e}"])
