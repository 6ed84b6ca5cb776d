"""Tables and plots of a study, from the files of its finished runs."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lami.ablation.frames import akd_where_all_are_found, by_displacement, interval_of_change
from lami.ablation.plots import draw_curves, draw_displacement
from lami.ablation.runs import Result, Run, find_runs, read_result
from lami.ablation.settings import check_same_settings
from lami.ablation.study import Study
from lami.data.files import atomic_path, claimed
from lami.errors import DataError
from lami.evaluation.results import FIGURES, format_figure

Results = Mapping[str, Mapping[int, Result]]
"""Of finished runs, by row and seed."""

HIGHER_IS_BETTER = {"psnr", "ssim"}


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


def write_summary(study: Study, folder: Path) -> Path:
    """Write `summary.md`, `summary.json`, `curves.png` and, where keypoints were measured, `displacement.png`.

    Commands that end at the same time write one after the other, each of all runs that are finished then.

    Raises:
        DataError: no run is finished, finished runs were measured differently, one of their files is damaged, or the
            folder cannot be written.
        ConfigError: finished runs have other configurations than their rows make, or matplotlib is not installed.
    """
    with claimed(folder, wait=True):
        finished = [(run, result) for run in find_runs(folder, study) if (result := read_result(run)) is not None]
        if not finished:
            raise DataError(f"no run in {folder} is finished")
        check_same_settings(study, ((str(run.path), run.row, run.config) for run, _ in finished))
        _check_alike(finished)
        return _write(study, folder, finished)


def _write(study: Study, folder: Path, finished: Sequence[tuple[Run, Result]]) -> Path:
    runs: dict[str, dict[int, Result]] = {}
    for run, result in finished:
        runs.setdefault(run.row, {})[run.seed] = result
    any_result = finished[0][1]
    protocol = any_result.reference_protocol
    frames = {name: [result.frames for result in of_row.values()] for name, of_row in runs.items()}
    bins = by_displacement(frames, reference_protocol=protocol)
    changes = {name: _changes(runs, study.baseline, name, protocol) for name in runs}
    common, count = akd_where_all_are_found(frames, protocol)
    content = {
        "baseline": study.baseline,
        "measures": any_result.measures,
        "reference_protocol": protocol,
        "frames_where_all_are_found": count,
        "rows": {
            name: {
                "label": study.rows[name].label,
                "seeds": {str(seed): result.figures for seed, result in of_row.items()},
                "commits": {str(seed): result.commits for seed, result in of_row.items()},
                "change": changes[name],
                "akd_where_all_are_found": common[name] if count else None,
                "paper": study.rows[name].paper,
                "displacement": [vars(b) for b in bins.get(name, [])],
            }
            for name, of_row in runs.items()
        },
    }
    labels = {name: study.rows[name].label for name in runs}
    text = _markdown(study, runs, changes, common, count) + _commits(finished)
    try:
        with atomic_path(folder / "summary.json") as partial:
            partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        with atomic_path(folder / "summary.md") as partial:
            partial.write_text(text, encoding="utf-8")
        with atomic_path(folder / "curves.png") as partial:
            draw_curves({labels[name]: _curve(list(of_row.values())) for name, of_row in runs.items()}, partial)
        if bins:
            with atomic_path(folder / "displacement.png") as partial:
                points = {labels[name]: [(b.displacement, b.akd) for b in of_row] for name, of_row in bins.items()}
                draw_displacement(points, partial)
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}), make room or choose another folder") from error
    return folder / "summary.md"


def _check_alike(finished: Sequence[tuple[Run, Result]]) -> None:
    """Raises DataError unless all runs were measured in the same way on the same frames."""
    other, first = finished[0]
    for run, result in finished:
        for what, value, wanted in (
            ("other estimators", result.measures, first.measures),
            ("another protocol", result.reference_protocol, first.reference_protocol),
            ("other options", result.options, first.options),
            ("other clips", result.clips, first.clips),
            ("another version of lami", (result.version, result.errors), (first.version, first.errors)),
        ):
            if value != wanted:
                raise DataError(
                    f"{run.path} was evaluated with {what} than {other.path}; run one command for all rows and seeds"
                )


def _changes(runs: Results, baseline: str, row: str, reference_protocol: bool) -> dict[str, dict[str, Any]]:
    """Relative change of each figure against the baseline with the same seed: mean and deviation over common seeds, and
    its interval over clips."""
    before, after = runs.get(baseline, {}), runs[row]
    changes: dict[str, dict[str, Any]] = {}
    for figure in FIGURES:
        common = [s for s in after if figure in after[s].figures and s in before and before[s].figures.get(figure)]
        if row != baseline and common:
            spread = Spread.of([after[s].figures[figure] / before[s].figures[figure] - 1 for s in common])
            deviation = None if math.isnan(spread.deviation) else spread.deviation
            sides = [[of_row[seed].frames for seed in common] for of_row in (before, after)]
            interval = interval_of_change(sides[0], sides[1], figure, reference_protocol)
            changes[figure] = {"mean": spread.mean, "deviation": deviation, "interval": interval}
    return changes


def _markdown(
    study: Study,
    runs: Results,
    changes: Mapping[str, Mapping[str, Mapping[str, Any]]],
    common: Mapping[str, float],
    count: int,
) -> str:
    results = [result for of_row in runs.values() for result in of_row.values()]
    shown = [figure for figure in FIGURES if any(figure in result.figures for result in results)]
    headings = " | ".join(FIGURES[figure][0] for figure in shown)
    rule = " | ".join("---:" for _ in shown)
    lines = ["Mean over seeds ± sample standard deviation:", ""]
    lines += [f"| row | seeds | {headings} |", f"| --- | ---: | {rule} |"]
    for name, of_row in runs.items():
        cells = []
        for figure in shown:
            spread = Spread.of([r.figures[figure] for r in of_row.values() if figure in r.figures])
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
    for name in runs:
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


def _commits(finished: Sequence[tuple[Run, Result]]) -> str:
    """Which runs are of which commit, where that is not one, or has changes, which nobody can compare."""
    of: dict[str, list[str]] = {}
    for run, result in finished:
        for commit in result.commits:
            of.setdefault(commit, []).append(run.path.name)
    if len(of) < 2 and not any(commit[40:] for commit in of):
        return ""
    each = "; ".join(f"{commit[:8]}{commit[40:]} ({', '.join(runs)})" for commit, runs in of.items())
    return f"\n**Runs are of different commits** and may differ in more than their rows: {each}.\n"


def _curve(results: Sequence[Result]) -> list[tuple[int, float]]:
    """Image losses of one direction by step, averaged over the seeds, where all have logged."""
    losses: dict[int, list[float]] = {}
    for result in results:
        for step, loss in result.losses:
            losses.setdefault(step, []).append(loss)
    return [(step, statistics.fmean(values)) for step, values in sorted(losses.items()) if len(values) == len(results)]
