"""How time and memory grow with each parameter: exponents of power laws."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass

from benchmarks.ops.results import CaseResult, Run

PARAMETERS = {"batch": "batch", "times": "times", "splines": "splines", "side": "pixels", "channels": "channels"}
"""Of a size, and what cost is compared with."""
LINEAR = 1.05
"""An exponent above it is marked: more than proportional."""
SIDES = ("fused", "eager")
LIMIT = "copy"
"""Of as many bytes as a pass has to move: its growth is that of the memory, from caches to what lies beyond them."""


@dataclass(frozen=True)
class Growth:
    """One parameter of one op, everything else being the same, in the most complete pass that was measured.

    Attributes:
        parameter: of `PARAMETERS`.
        values: of batch, times, splines, pixels or channels, ascending.
        time: by side, milliseconds; of `LIMIT` too, where it was measured.
        memory: by side, bytes.
    """

    op: str
    parameter: str
    values: list[float]
    time: dict[str, list[float]]
    memory: dict[str, list[float]]

    def exponent(self, costs: list[float]) -> float | None:
        """Of the power law through the upper half of the sizes, at least two; None where a cost is 0."""
        count = max(2, math.ceil(len(costs) / 2))
        if min(costs[-count:]) <= 0:
            return None
        return slope(self.values[-count:], costs[-count:])


def slope(values: list[float], costs: list[float]) -> float:
    """Least squares of logarithms."""
    logs = [list(map(math.log, each)) for each in (values, costs)]
    return statistics.linear_regression(*logs).slope


def growths(run: Run) -> list[Growth]:
    """Of each op and parameter, where at least three sizes differ in nothing else."""
    found = []
    for op in dict.fromkeys(case.op for case in run.cases):
        for parameter in PARAMETERS:
            cases = _longest([case for case in run.cases if case.op == op], parameter)
            if len(cases) >= 3:
                found.append(_growth(op, parameter, cases))
    return found


def _longest(cases: list[CaseResult], parameter: str) -> list[CaseResult]:
    """The most cases that differ in the parameter alone, the smaller sizes where there are several such rows."""
    rows: dict[tuple[object, ...], dict[int, CaseResult]] = defaultdict(dict)
    for case in cases:
        size = dict(case.size)
        if parameter == "side":  # the flow keeps its proportion
            size["flow"] = round(1024 * size["flow"] / size["side"])
        value = size.pop(parameter)
        rows[(case.dtype, case.channels_last, *sorted(size.items()))][value] = case
    best = max(rows.values(), key=lambda row: (len(row), -sum(math.prod(case.size.values()) for case in row.values())))
    return [best[value] for value in sorted(best)]


def _growth(op: str, parameter: str, cases: list[CaseResult]) -> Growth:
    values = [float(case.size[parameter]) for case in cases]
    passes = [case.passes[-1] for case in cases]
    sides = {side: [each.sides[side] for each in passes] for side in SIDES}
    time = {side: [each.median_ms for each in found] for side, found in sides.items()}
    if all(LIMIT in each.sides for each in passes):
        time[LIMIT] = [each.sides[LIMIT].median_ms for each in passes]
    return Growth(
        op=op,
        parameter=parameter,
        values=[value**2 for value in values] if parameter == "side" else values,
        time=time,
        memory={side: [float(each.peak_bytes) for each in found] for side, found in sides.items()},
    )
