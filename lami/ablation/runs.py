"""Runs of a study and what finished ones have left."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lami.ablation.frames import Frame, read_frames
from lami.ablation.study import Study
from lami.configs import load_config
from lami.configs.schema import Config
from lami.errors import DataError
from lami.evaluation.results import FIGURES

_OPTIONS = ("times", "selector", "fusion", "weights_vit", "precision")


def run_folder(folder: Path, row: str, seed: int) -> Path:
    """Where a run of a study is."""
    return folder / f"{row}-seed{seed}"


@dataclass(frozen=True)
class Run:
    """A run of a study.

    Attributes:
        path: its folder.
        row, seed: which one it is.
        config: that it was started with, or is to be.
    """

    path: Path
    row: str
    seed: int
    config: Config


@dataclass(frozen=True)
class Result:
    """What a finished run tells.

    Attributes:
        measures: estimators and their versions, as in `evaluation.json`.
        reference_protocol: whether the figures follow it.
        clips: name and number of frames of each.
        figures: those that were measured, by the names of `FIGURES`.
        frames: errors of each frame.
        errors: their names, which tell an evaluation of an earlier version.
        losses: step, and image losses (reconstruction and pixel) of one direction there.
        commits: of the source tree at each start, in their order.
        options: of the evaluation that a study does not give, as `lami evaluate` in that folder may have.
        weights: SHA-256 of those that were evaluated, and version: of lami that did; None where that was not written.
        date: of the evaluation, in nanoseconds since the epoch.
    """

    measures: Mapping[str, Any]
    reference_protocol: bool
    clips: Sequence[tuple[str, int]]
    figures: Mapping[str, float]
    frames: Sequence[Frame]
    errors: AbstractSet[str]
    losses: Sequence[tuple[int, float]]
    commits: Sequence[str]
    options: Mapping[str, Any]
    weights: str | None
    version: str | None
    date: int


def find_runs(folder: Path, study: Study) -> list[Run]:
    """Runs of the study's rows that have started, rows in their order and seeds in theirs.

    Raises:
        DataError: a run that was evaluated has no configuration, or another run's.
        ConfigError: a configuration cannot be read.
    """
    found = []
    for row in study.rows:
        paths = {path.name.removeprefix(f"{row}-seed"): path for path in folder.glob(f"{row}-seed*")}
        for seed, path in sorted((int(text), path) for text, path in paths.items() if text.isdecimal()):
            file = path / "config.yaml"
            if not file.is_file():
                if report_file(path).is_file():
                    raise DataError(f"{file} is missing; restore it, or delete {path} to train this run again")
                continue
            config = load_config(file)
            if config.training.seed != seed:
                raise DataError(
                    f"{file} has training.seed {config.training.seed}, and its folder the name of another seed; rename "
                    "or delete the folder"
                )
            found.append(Run(path, row, seed, config))
    return found


def report_file(run: Path) -> Path:
    """The file that an evaluation writes last."""
    return run / "evaluation" / "evaluation.json"


def read_result(run: Run) -> Result | None:
    """What a finished run has left; None for one that is not finished, or whose evaluation is being replaced just now.

    Raises:
        DataError: a file is missing or damaged.
    """
    file = report_file(run.path)
    with _reading(file, f"delete it, and `lami ablate` evaluates {run.path} again"):
        text = _text(file)
        if text is None:
            return None
        report = json.loads(text)
        if report.get("failed"):
            return None
        means = report["means"]
        figures = {name: float(means[name]) for name in FIGURES if means[name] is not None}
        clips = [(str(clip["name"]), int(clip["frames"])) for clip in report["clips"]]
        measures, protocol = dict(report["measures"]), bool(report["reference_protocol"])
        options = {name: report[name] for name in _OPTIONS if report.get(name) not in (None, "fp32")}
    with _reading(file.with_name("frames.csv"), f"delete {file}, and `lami ablate` evaluates {run.path} again"):
        try:
            frames = read_frames(run.path)
        except FileNotFoundError:
            if not file.is_file():
                return None
            raise
        date = _date(file)
        if date is None or _text(file) != text:  # it was replaced meanwhile, and the frames may be others
            return None
        if len(frames) != sum(number for _, number in clips):
            raise ValueError("frames are missing")
    return Result(
        measures=measures,
        reference_protocol=protocol,
        clips=clips,
        figures=figures,
        frames=frames,
        errors=frames[0].errors.keys() if frames else frozenset(),
        losses=_losses(run),
        commits=_commits(run),
        options=options,
        weights=report.get("checkpoint_sha256"),
        version=report.get("lami"),
        date=date,
    )


def _losses(run: Run) -> list[tuple[int, float]]:
    directions = 2 if run.config.losses.bidirectional else 1
    file, losses = run.path / "log.jsonl", []
    with _reading(file, f"restore it, or delete {run.path} to train this run again"):
        for line in file.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            found = [float(entry[name]) for name in ("reconstruction", "pixel") if name in entry]
            if found:  # none where every step was left out
                losses.append((int(entry["step"]), sum(found) / directions))
    return losses


def _commits(run: Run) -> list[str]:
    """With changes where the source tree had some; none where the run does not tell."""
    file = run.path / "environment.jsonl"
    with _reading(file, "restore or delete it"):
        entries = [json.loads(line) for line in (_text(file) or "").splitlines()]
        commits = [f"{entry['commit']}{' with changes' if entry.get('dirty') else ''}" for entry in entries]
    return list(dict.fromkeys(commits))


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _date(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


@contextmanager
def _reading(file: Path, remedy: str) -> Iterator[None]:
    """Errors of one sentence for a file that cannot be read, or does not hold what it should."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); {remedy}") from error
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise DataError(f"{file} is damaged; {remedy}") from error
