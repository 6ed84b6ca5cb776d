"""Errors frame by frame of finished runs, and how sure a difference between two rows is."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

_BINS = 6
_RESAMPLES = 2000
FEWEST_CLIPS = 5
"""With fewer, resampling says nothing."""


@dataclass(frozen=True)
class Frame:
    """A line of `frames.csv`; errors are nan where they were not measured."""

    clip: str
    number: int
    errors: Mapping[str, float]

    @property
    def found(self) -> float:
        """Keypoints in both images."""
        points = self.errors["points"] - self.errors["missing"]
        return points if points > 0 else 0.0

    @property
    def displacement(self) -> float:
        """Pixels that the keypoints have moved since the source; nan where that is not known."""
        return self.errors["displacement"]

    def share(self, figure: str, reference_protocol: bool) -> tuple[float, float]:
        """Numerator and denominator that a frame adds to a figure, see `lami.evaluation.summarize`; zeros for none."""
        errors = self.errors
        if figure == "akd":
            if not self.found:
                return 0.0, 0.0
            if reference_protocol:
                return errors["coordinate_distance"], 1.0
            return errors["distance"] * self.found, self.found
        if figure == "mkr":
            if not errors["points"] > 0:
                return 0.0, 0.0
            missing, points = errors["missing"], errors["points"]
            return (missing / points, 1.0) if reference_protocol else (missing, points)
        value = errors["identity" if figure == "aed" else figure]
        if math.isnan(value):
            return 0.0, 0.0
        return (value**2 if figure == "aed" and reference_protocol else value), 1.0


def read_frames(run: Path) -> list[Frame]:
    """Of a run's evaluation."""
    with (run / "evaluation" / "frames.csv").open(encoding="utf-8", newline="") as file:
        return [
            Frame(row.pop("clip"), int(row.pop("frame")), {name: float(text or "nan") for name, text in row.items()})
            for row in csv.DictReader(file)
        ]


def interval_of_change(
    before: Sequence[Iterable[Frame]], after: Sequence[Iterable[Frame]], figure: str, reference_protocol: bool
) -> tuple[float, float] | None:
    """Between which the relative change of a figure lies in 95 of 100 test sets like this one.

    By the bootstrap over clips (Efron, Annals of Statistics 1979): clips are drawn with replacement, the same for both
    sides, those where one side has lost all keypoints among them. It knows nothing of what another seed would change.

    Args:
        before, after: frames of the runs of two rows, of one seed each.

    Returns:
        None where a side was measured in fewer than `FEWEST_CLIPS` clips.
    """
    sides = [_sums_of_clips(runs, figure, reference_protocol) for runs in (before, after)]
    clips = sorted(sides[0].keys() | sides[1].keys())
    if any(sum(count > 0 for _, count in side.values()) < FEWEST_CLIPS for side in sides):
        return None
    draws = np.random.default_rng(0).integers(len(clips), size=(_RESAMPLES, len(clips)))
    first, second = (np.array([side.get(clip, (0.0, 0.0)) for clip in clips])[draws].sum(axis=1) for side in sides)
    with np.errstate(divide="ignore", invalid="ignore"):
        change = (second[:, 0] / second[:, 1]) / (first[:, 0] / first[:, 1]) - 1
    change = change[np.isfinite(change)]
    if not len(change):
        return None
    low, high = np.percentile(change, (2.5, 97.5))
    return float(low), float(high)


def _sums_of_clips(runs: Sequence[Iterable[Frame]], figure: str, reference: bool) -> dict[str, tuple[float, float]]:
    sums: dict[str, tuple[float, float]] = {}
    for frames in runs:
        for frame in frames:
            numerator, denominator = frame.share(figure, reference)
            if denominator:
                before = sums.get(frame.clip, (0.0, 0.0))
                sums[frame.clip] = (before[0] + numerator, before[1] + denominator)
    return sums


def akd_where_all_are_found(
    rows: Mapping[str, Sequence[Sequence[Frame]]], reference_protocol: bool = False
) -> tuple[dict[str, float], int]:
    """AKD of each row over the frames in which every run has keypoints, and how many frames these are.

    A row that loses the object in hard frames has a better AKD over its own frames, and a worse MKR.
    """
    runs = [run for of_row in rows.values() for run in of_row]
    common = set.intersection(*({(f.clip, f.number) for f in run if f.found} for run in runs))
    akd = {}
    for name, of_row in rows.items():
        inside = [frame for run in of_row for frame in run if (frame.clip, frame.number) in common]
        akd[name] = _akd(inside, reference_protocol)
    return akd, len(common)


@dataclass(frozen=True)
class Bin:
    """Frames whose driving pose is about as far from the source's.

    Attributes:
        start, stop: range of the displacement in pixels; the end belongs to the last bin alone.
        akd: over these frames.
        frames: their number.
        displacement: their mean; far from the middle in the last bin, which a few frames make long.
    """

    start: float
    stop: float
    last: bool
    akd: float
    frames: int
    displacement: float


def by_displacement(
    rows: Mapping[str, Sequence[Sequence[Frame]]], bins: int = _BINS, reference_protocol: bool = False
) -> dict[str, list[Bin]]:
    """AKD of each row over frames that are about as far from the source's pose; the same bins for all rows.

    Bins in which a row has no keypoints are missing there.
    """
    frames = {name: [frame for run in of_row for frame in run if frame.found] for name, of_row in rows.items()}
    moved = sorted(f.displacement for of_row in frames.values() for f in of_row if not math.isnan(f.displacement))
    if not moved:
        return {}
    # Quantiles: as many frames in each. Equal ones, as of clips that stand still, share a bin.
    edges = sorted({moved[round(i * (len(moved) - 1) / bins)] for i in range(bins + 1)})
    if len(edges) == 1:
        edges *= 2
    found: dict[str, list[Bin]] = {}
    for name, of_row in frames.items():
        found[name] = []
        for start, stop in pairwise(edges):
            inside = between(of_row, start, stop, last=stop == edges[-1])
            if inside:
                middle = sum(frame.displacement for frame in inside) / len(inside)
                akd = _akd(inside, reference_protocol)
                found[name].append(Bin(start, stop, stop == edges[-1], akd, len(inside), middle))
    return found


def between(frames: Iterable[Frame], start: float, stop: float, last: bool) -> list[Frame]:
    """Those of a bin."""
    return [frame for frame in frames if start <= frame.displacement < stop or (last and frame.displacement == stop)]


def _akd(frames: Iterable[Frame], reference_protocol: bool) -> float:
    """nan where no frame has keypoints."""
    shares = [frame.share("akd", reference_protocol) for frame in frames]
    weight = sum(denominator for _, denominator in shares)
    return sum(numerator for numerator, _ in shares) / weight if weight else math.nan
