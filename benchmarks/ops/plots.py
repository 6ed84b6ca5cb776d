"""Plots of a run: times faster by size, and growth of time and memory. They need matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.ops.growth import PARAMETERS, SIDES, Growth, growths
from benchmarks.ops.results import Run

COLOURS = {"fused": "C0", "eager": "C1"}


def ratios(run: Run, path: Path) -> None:
    """Times faster than eager against pixels in a batch, a panel for each op."""
    ops = list(dict.fromkeys(case.op for case in run.cases))
    columns = min(4, len(ops))
    lines = -(-len(ops) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * lines), layout="constrained")
    panels = list(figure.subplots(lines, columns, sharex=True, squeeze=False).flat)
    for panel, op in zip(panels, ops, strict=False):
        cases = [case for case in run.cases if case.op == op]
        for index, each in enumerate(cases[0].passes):
            points = sorted((case.size["batch"] * case.size["side"] ** 2, case.passes[index].ratio) for case in cases)
            panel.plot(*zip(*points, strict=True), marker=".", linestyle="", label=each.name)
        panel.axhline(1, color="grey", linewidth=0.8)
        panel.set(xscale="log", yscale="log", title=op)
        _plain_numbers(panel)
    for panel in panels[len(ops) :]:
        panel.set_axis_off()
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    figure.supxlabel("pixels of a batch")
    figure.supylabel("times faster than eager")
    figure.savefig(path, dpi=110)


def growth(run: Run, path: Path, what: str, costs: Callable[[Growth], dict[str, list[float]]]) -> None:
    """Log-log, ops by parameters: measured points, and dashed the power law through the upper half of the sizes."""
    found = {(each.op, each.parameter): each for each in growths(run)}
    ops, parameters = (list(dict.fromkeys(key[place] for key in found)) for place in (0, 1))
    figure = Figure(figsize=(2.9 * len(parameters), 1.9 * len(ops) + 0.6), layout="constrained")
    panels: Any = figure.subplots(len(ops), len(parameters), sharex="col", squeeze=False)
    for row, op in zip(panels, ops, strict=True):
        for panel, parameter in zip(row, parameters, strict=True):
            if (each := found.get((op, parameter))) is None:
                panel.set_axis_off()
            else:
                _panel(panel, each, costs(each))
                panel.set_title(f"{op}, {PARAMETERS[parameter]}", fontsize="small")
    figure.suptitle(f"{what} by size; dashed: fit of the upper half, with its exponent")
    figure.savefig(path, dpi=80)


def _panel(panel: Axes, each: Growth, costs: dict[str, list[float]]) -> None:
    for side in SIDES:
        exponent = each.exponent(costs[side])
        label = f"{'ours' if side == 'fused' else side}" + ("" if exponent is None else f" {exponent:.2f}")
        panel.plot(each.values, costs[side], marker=".", linestyle="", color=COLOURS[side], label=label)
        if exponent is not None:
            end = each.values[-1]
            line = [costs[side][-1] * (value / end) ** exponent for value in each.values]
            panel.plot(each.values, line, linestyle="--", linewidth=0.8, color=COLOURS[side])
    panel.set(xscale="log", yscale="log")
    panel.tick_params(labelsize="x-small", labelbottom=True)
    panel.legend(fontsize="x-small", frameon=False)


def _plain_numbers(panel: Axes) -> None:
    """Ratios between 0.1 and 100: 0.5, 1, 2, 20 instead of powers of ten."""
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter(NullFormatter())
