"""Tables and plots of a study, from the files of its finished runs."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from lami.ablation.frames import Frame, akd_where_all_are_found, interval_of_change, read_frames
from lami.ablation.plots import draw_curves, draw_displacement
from lami.ablation.study import Study
from lami.data.files import atomic_path
from lami.errors import DataError
from lami.evaluation.results import FIGURES, format_figure

_BINS = 6
HIGHER_IS_BETTER = {"psnr", "ssim"}


def run_folder(folder: Path, row: str, seed: int) -> Path:
    """Where a run of a study is."""
    return folder / f"{row}-seed{seed}"


@dataclass(frozen=True)
class Spread:
    """Mean over seeds and sample standard deviation, nan for a single seed."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if not values:
            return cls(math.nan, math.nan)
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan)


@dataclass(frozen=True)
class Bin:
    """Frames whose driving pose is about as far from the source's: range in pixels, AKD, and number of frames."""

    start: float
    stop: float
    akd: float
    frames: int


def write_summary(study: Study, folder: Path) -> Path:
    """Write `summary.md`, `summary.json`, `curves.png` and, where keypoints were measured, `displacement.png`.

    Raises:
        DataError: no run is finished, finished runs were measured differently, or the folder cannot be written.
        ConfigError: matplotlib is not installed.
    """
    runs = {name: _finished_runs(folder, name) for name in study.rows}
    runs = {name: of_row for name, of_row in runs.items() if of_row}
    if not runs:
        raise DataError(f"no run in {folder} is finished")
    _check_alike(runs, folder)
    means = {name: {seed: _figures(report) for seed, report in of_row.items()} for name, of_row in runs.items()}
    frames = {
        name: {seed: read_frames(run_folder(folder, name, seed)) for seed in of_row} for name, of_row in runs.items()
    }
    reference_protocol = _any_report(runs)["reference_protocol"]
    bins = _by_displacement(frames)
    changes = {name: _changes(means, frames, study.baseline, name, reference_protocol) for name in means}
    common, count = akd_where_all_are_found({name: list(of_row.values()) for name, of_row in frames.items()})
    content = {
        "baseline": study.baseline,
        "measures": _any_report(runs)["measures"],
        "reference_protocol": reference_protocol,
        "frames_where_all_are_found": count,
        "rows": {
            name: {
                "label": study.rows[name].label,
                "seeds": {str(seed): figures for seed, figures in of_row.items()},
                "change": changes[name],
                "akd_where_all_are_found": common[name] if count else None,
                "paper": study.rows[name].paper,
                "displacement": [vars(b) for b in bins.get(name, [])],
            }
            for name, of_row in means.items()
        },
    }
    labels = {name: study.rows[name].label for name in means}
    try:
        with atomic_path(folder / "summary.json") as partial:
            partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        with atomic_path(folder / "summary.md") as partial:
            partial.write_text(_markdown(study, means, changes, common, count), encoding="utf-8")
        with atomic_path(folder / "curves.png") as partial:
            draw_curves({labels[name]: _curve(folder, name, list(runs[name])) for name in means}, partial)
        if bins:
            with atomic_path(folder / "displacement.png") as partial:
                points = {labels[n]: [((b.start + b.stop) / 2, b.akd) for b in of_row] for n, of_row in bins.items()}
                draw_displacement(points, partial)
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}), make room or choose another folder") from error
    return folder / "summary.md"


def _finished_runs(folder: Path, row: str) -> dict[int, dict[str, Any]]:
    """`evaluation.json` of each finished run of a row, by seed."""
    found = {}
    for path in folder.glob(f"{row}-seed*/evaluation/evaluation.json"):
        seed = path.parents[1].name.removeprefix(f"{row}-seed")
        if seed.isdigit():
            found[int(seed)] = json.loads(path.read_text(encoding="utf-8"))
    return dict(sorted(found.items()))


def _any_report(runs: Mapping[str, Mapping[int, dict[str, Any]]]) -> dict[str, Any]:
    return next(iter(next(iter(runs.values())).values()))


def _check_alike(runs: Mapping[str, Mapping[int, dict[str, Any]]], folder: Path) -> None:
    """Raises DataError unless all runs were measured in the same way on the same frames."""
    first = _any_report(runs)
    for name, of_row in runs.items():
        for seed, report in of_row.items():
            for key, value, other in (
                ("measures", report["measures"], first["measures"]),
                ("protocol", report["reference_protocol"], first["reference_protocol"]),
                ("list of clips", _clips(report), _clips(first)),
            ):
                if value != other:
                    raise DataError(
                        f"{run_folder(folder, name, seed)} was evaluated with another {key} than other runs; run the "
                        "same command for all rows and seeds"
                    )


def _clips(report: dict[str, Any]) -> list[tuple[str, int]]:
    return [(clip["name"], clip["frames"]) for clip in report["clips"]]


def _figures(report: dict[str, Any]) -> dict[str, float]:
    """Those that were measured."""
    return {name: report["means"][name] for name in FIGURES if report["means"][name] is not None}


def _changes(
    means: Mapping[str, Mapping[int, Mapping[str, float]]],
    frames: Mapping[str, Mapping[int, Sequence[Frame]]],
    baseline: str,
    row: str,
    reference_protocol: bool,
) -> dict[str, dict[str, Any]]:
    """Relative change of each figure against the baseline with the same seed: mean and deviation over common seeds, and
    its interval over clips."""
    before, after = means.get(baseline, {}), means[row]
    changes: dict[str, dict[str, Any]] = {}
    for figure in FIGURES:
        common = [s for s in after if figure in after[s] and before.get(s, {}).get(figure)]
        if row != baseline and common:
            spread = Spread.of([after[s][figure] / before[s][figure] - 1 for s in common])
            deviation = None if math.isnan(spread.deviation) else spread.deviation
            sides = [[frames[name][seed] for seed in common] for name in (baseline, row)]
            interval = interval_of_change(sides[0], sides[1], figure, reference_protocol)
            changes[figure] = {"mean": spread.mean, "deviation": deviation, "interval": interval}
    return changes


def _markdown(
    study: Study,
    means: Mapping[str, Mapping[int, Mapping[str, float]]],
    changes: Mapping[str, Mapping[str, Mapping[str, Any]]],
    common: Mapping[str, float],
    count: int,
) -> str:
    shown = [f for f in FIGURES if any(f in figures for of_row in means.values() for figures in of_row.values())]
    headings = " | ".join(FIGURES[figure][0] for figure in shown)
    rule = " | ".join("---:" for _ in shown)
    lines = ["Mean over seeds ± sample standard deviation:", ""]
    lines += [f"| row | seeds | {headings} |", f"| --- | ---: | {rule} |"]
    for name, of_row in means.items():
        cells = []
        for figure in shown:
            spread = Spread.of([figures[figure] for figures in of_row.values() if figure in figures])
            text = format_figure(figure, spread.mean)
            cells.append(
                text if math.isnan(spread.deviation) else f"{text} ± {format_figure(figure, spread.deviation)}"
            )
        lines.append(f"| {study.rows[name].label} | {len(of_row)} | " + " | ".join(cells) + " |")
    label = study.rows[study.baseline].label
    lines += [
        "",
        f"Change against {label} with the same seed; in brackets its 95 % interval over test clips (bootstrap), which",
        "does not know what another seed would change; and the paper's (other data, other size):",
        "",
    ]
    lines += [f"| row | {headings} |", f"| --- | {rule} |"]
    for name in means:
        if name != study.baseline:
            cells = [_change(changes[name].get(figure), _paper_change(study, name, figure)) for figure in shown]
            lines.append(f"| {study.rows[name].label} | " + " | ".join(cells) + " |")
    lower = ", ".join(FIGURES[f][0] for f in shown if f not in HIGHER_IS_BETTER)
    higher = ", ".join(FIGURES[f][0] for f in shown if f in HIGHER_IS_BETTER)
    lines += ["", f"Lower is better for {lower}; higher for {higher}."]
    if count:
        each = ", ".join(f"{study.rows[name].label} {format_figure('akd', akd)}" for name, akd in common.items())
        lines += ["", f"AKD over the {count} frames in which every row has keypoints: {each}."]
    return "\n".join(lines) + "\n"


def _change(change: Mapping[str, Any] | None, paper: float | None) -> str:
    if change is None:
        return "-"
    text = f"{change['mean']:+.1%}"
    if change["deviation"] is not None:
        text += f" ± {change['deviation']:.1%}"
    if change["interval"] is not None:
        low, high = change["interval"]
        text += f" [{low:+.1%}, {high:+.1%}]"
    return text if paper is None else f"{text} (paper {paper:+.1%})"


def _paper_change(study: Study, row: str, figure: str) -> float | None:
    before, after = study.rows[study.baseline].paper.get(figure), study.rows[row].paper.get(figure)
    return after / before - 1 if before and after is not None else None


def _by_displacement(runs: Mapping[str, Mapping[int, Sequence[Frame]]]) -> dict[str, list[Bin]]:
    """AKD of each row over frames that are about as far from the source's pose; the same bins for all rows."""
    frames = {
        name: [
            (frame.errors["displacement"], frame.errors["distance"], frame.found)
            for of_seed in of_row.values()
            for frame in of_seed
            if frame.found and not math.isnan(frame.errors["displacement"])
        ]
        for name, of_row in runs.items()
    }
    moved = sorted(displacement for of_row in frames.values() for displacement, _, _ in of_row)
    if not moved:
        return {}
    # Quantiles: as many frames in each. Equal ones, as of clips that stand still, share a bin.
    edges = sorted({moved[round(i * (len(moved) - 1) / _BINS)] for i in range(_BINS + 1)})
    bins: dict[str, list[Bin]] = {}
    for name, of_row in frames.items():
        bins[name] = []
        for start, stop in pairwise(edges):
            last = stop == edges[-1]
            inside = [(akd, n) for d, akd, n in of_row if start <= d < stop or (last and d == stop)]
            points = sum(n for _, n in inside)
            if points:
                bins[name].append(Bin(start, stop, sum(akd * n for akd, n in inside) / points, len(inside)))
    return bins


def _curve(folder: Path, row: str, seeds: Sequence[int]) -> list[tuple[int, float]]:
    """Image losses of one direction by step, averaged over the seeds."""
    losses: dict[int, list[float]] = {}
    for seed in seeds:
        run = run_folder(folder, row, seed)
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        directions = 2 if config["losses"]["bidirectional"] else 1
        for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            found = [entry[name] for name in ("reconstruction", "pixel") if name in entry]
            if found:  # none where every step was left out
                losses.setdefault(entry["step"], []).append(sum(found) / directions)
    return [(step, statistics.fmean(values)) for step, values in sorted(losses.items())]
