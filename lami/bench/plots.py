"""Pictures of benchmark results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lami.errors import ConfigError


def draw_parts(parts: Mapping[str, Mapping[str, float]], seconds: Mapping[str, float], path: Path, label: str) -> None:
    """Stacked bars: what each part takes on each side, scaled to the seconds without profiler.

    Args:
        parts: by side, seconds of each part, the same parts for all.
        seconds: of all parts together, by side.
        path: image to write.
        label: what the seconds are of.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    figure, axes = _figure(len(parts))
    names = list(next(iter(parts.values())))
    sides = list(parts)
    left = dict.fromkeys(sides, 0.0)
    for index, name in enumerate(names):
        widths = {side: parts[side][name] / sum(parts[side].values()) * seconds[side] for side in sides}
        axes.barh(sides, list(widths.values()), left=list(left.values()), label=name, color=f"C{index}")
        left = {side: left[side] + widths[side] for side in sides}
    for side in sides:
        axes.annotate(f" {seconds[side]:.3g} s", (left[side], side), va="center")
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(label)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=5, frameon=False)
    figure.savefig(path, dpi=120, bbox_inches="tight")


def check_plots() -> None:
    """Raises ConfigError unless pictures can be drawn."""
    _figure(1)


def _figure(bars: int):  # type: ignore[no-untyped-def]  # of matplotlib, which is optional
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("the plots of benchmarks need matplotlib; pip install 'lami[bench]'") from error
    figure = Figure(figsize=(9, 0.9 + 0.6 * bars), layout="constrained")
    return figure, figure.add_subplot()
