"""Loss curves of several training runs in one picture, and how far apart they end.

    python -m benchmarks.curves -o curves.png fp32=runs/a bf16=runs/b fp32=runs/c ...

Runs of the same label are repetitions with other seeds: their spread is the noise that a difference between labels has
to be compared with.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from matplotlib.figure import Figure

_SMOOTHED = 5
"""Entries of the log in the moving average that is drawn."""
_LAST = 1 / 3
"""Share of a run, at its end, whose mean is compared."""


@dataclass
class Options:
    runs: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="LABEL=DIR ...")]]
    """Folders with log.jsonl, or such files."""
    output: Annotated[Path, tyro.conf.arg(aliases=("-o",))] = Path("curves.png")
    """Picture to write."""
    losses: tuple[str, ...] = ("total", "reconstruction", "pixel")


def entries(path: Path) -> list[dict[str, float]]:
    file = path / "log.jsonl" if path.is_dir() else path
    return [json.loads(line) for line in file.read_text().splitlines()]


def smooth(values: list[float]) -> list[float]:
    return [statistics.fmean(values[max(0, i - _SMOOTHED + 1) : i + 1]) for i in range(len(values))]


def end(values: list[float]) -> float:
    """Mean of the last part."""
    return statistics.fmean(values[-max(1, round(len(values) * _LAST)) :])


def main(arguments: list[str] | None = None) -> int:
    options = tyro.cli(Options, args=arguments, description=__doc__)
    runs: list[tuple[str, list[dict[str, float]]]] = []
    for given in options.runs:
        label, separator, path = given.partition("=")
        if not separator:
            print(f"{given} has no label; write LABEL={given}", file=sys.stderr)
            return 2
        runs.append((label, entries(Path(path))))
    labels = list(dict.fromkeys(label for label, _ in runs))
    figure = Figure(figsize=(5 * len(options.losses), 3.6), layout="constrained")
    axes = figure.subplots(1, len(options.losses), squeeze=False)[0]
    for axis, loss in zip(axes, options.losses, strict=True):
        seen = set()
        for label, log in runs:
            steps, values = [entry["step"] for entry in log], smooth([entry[loss] for entry in log])
            axis.plot(steps, values, color=f"C{labels.index(label)}", label=None if label in seen else label)
            seen.add(label)
        axis.set_title(loss)
        axis.set_xlabel("step")
        axis.set_yscale("log")
        axis.legend(frameon=False)
    figure.savefig(options.output, dpi=100)
    width = max(map(len, labels))
    for loss in options.losses:
        print(f"{loss}, mean over the last third of each run")
        for label in labels:
            found = [end([entry[loss] for entry in log]) for name, log in runs if name == label]
            print(f"  {label:<{width}}  " + "  ".join(f"{value:.4f}" for value in found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
