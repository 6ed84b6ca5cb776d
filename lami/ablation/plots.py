"""Plots of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lami.errors import ConfigError

Points = Sequence[tuple[float, float]]


def check_plots() -> None:
    """Raises ConfigError unless pictures can be drawn."""
    _figure()


def draw_curves(curves: Mapping[str, Points], path: Path) -> None:
    """Image losses (reconstruction and pixel) of one direction by step, a line for each row."""
    figure, axes = _figure()
    for label, points in curves.items():
        axes.plot([step for step, _ in points], [loss for _, loss in points], label=label, linewidth=1.2)
    axes.set_xlabel("step")
    axes.set_ylabel("reconstruction + pixel loss, one direction")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def draw_displacement(curves: Mapping[str, Points], path: Path) -> None:
    """AKD by the distance between source and driving pose, a line for each row."""
    figure, axes = _figure()
    for label, points in curves.items():
        axes.plot([x for x, _ in points], [akd for _, akd in points], marker="o", label=label)
    axes.set_xlabel("mean distance of keypoints between source and driving frame, pixels")
    axes.set_ylabel("mean keypoint distance, pixels")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _figure() -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("the plots of a study need matplotlib; pip install 'lami[bench]'") from error
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    return figure, figure.add_subplot()
