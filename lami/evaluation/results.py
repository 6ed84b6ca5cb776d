"""The result of an evaluation, as JSON, as a Markdown table and frame by frame."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import lami
from lami.data.files import atomic_path
from lami.errors import DataError
from lami.evaluation.metrics import FrameErrors, Means, summarize
from lami.evaluation.scoring import flatten

FIGURES = {
    "l1": ("L1", "{:.4f}"),
    "akd": ("AKD", "{:.3f}"),
    "mkr": ("MKR", "{:.4f}"),
    "aed": ("AED", "{:.4f}"),
    "psnr": ("PSNR", "{:.2f}"),
    "ssim": ("SSIM", "{:.4f}"),
    "lpips": ("LPIPS", "{:.4f}"),
}
"""Heading and format of each figure."""

_FILES = ("frames.csv", "evaluation.md", "evaluation.json")
"""In the order in which they are written: who finds the last one finds them all."""


@dataclass(frozen=True)
class ClipResult:
    """Errors of a clip, frame by frame."""

    name: str
    frames: Sequence[FrameErrors]


@dataclass(frozen=True)
class Evaluation:
    """What was evaluated with what, and the errors.

    Attributes:
        subject: the model and its options, or the folder of generated videos and what is known of them.
        measures: estimators and their versions.
        reference_protocol: which protocol `means` follows.
        clips: in the order of the test set.
        failed: clips that are missing, and why.
    """

    subject: Mapping[str, Any]
    measures: Mapping[str, Any]
    reference_protocol: bool
    clips: Sequence[ClipResult]
    failed: Mapping[str, str]

    @cached_property
    def means(self) -> Means:
        """Over all frames, by which longer clips count more."""
        return summarize([frame for clip in self.clips for frame in clip.frames], self.reference_protocol)

    def means_of(self, clip: ClipResult) -> Means:
        """Over the frames of a clip."""
        return summarize(clip.frames, self.reference_protocol)

    def table(self) -> str:
        """The figures of each clip and the means, in Markdown."""
        means = self.means
        shown = [name for name in FIGURES if not math.isnan(getattr(means, name))]
        lines = [
            "| clip | frames | " + " | ".join(FIGURES[name][0] for name in shown) + " |",
            "| --- | ---: | " + " | ".join("---:" for _ in shown) + " |",
        ]
        rows = [(clip.name, self.means_of(clip)) for clip in self.clips] + [("mean over all frames", means)]
        for label, row in rows:
            cells = [format_figure(name, getattr(row, name)) for name in shown]
            lines.append(f"| {label} | {row.frames} | " + " | ".join(cells) + " |")
        lines += ["", *self._notes()]
        return "\n".join(lines)

    def _notes(self) -> list[str]:
        means, notes = self.means, []
        if (keypoints := self.measures.get("keypoints")) is not None:
            notes.append(
                f"Keypoints by {keypoints['name']} {keypoints['version']}: nothing found in "
                f"{means.real_without_keypoints:.1%} of the real frames, which are left out, and in "
                f"{means.generated_without_keypoints:.1%} of the generated ones of the others. AKD is in pixels of "
                f"frames of {self.subject['image_size'][0]}x{self.subject['image_size'][1]}."
            )
        if (identity := self.measures.get("identity")) is not None:
            notes.append(
                f"Identity by {identity['name']} {identity['version']}: nobody found in "
                f"{means.real_without_identity:.1%} of the real frames, and in {means.generated_without_identity:.1%} "
                "of the generated ones of the others; AED leaves both out."
            )
        if (compressed := self.subject.get("compressed")) is not None:
            notes.append(
                f"Generated frames are from {', '.join(compressed)} files, which are usually compressed with loss: the "
                "figures hold that loss too."
            )
        if self.reference_protocol:
            notes.append("Figures follow the official evaluation (reference protocol).")
        notes += [f"{name} failed: {error}." for name, error in self.failed.items()]
        return notes


def format_figure(name: str, value: float) -> str:
    """A value of `FIGURES`; a dash for nan."""
    return "-" if math.isnan(value) else FIGURES[name][1].format(value)


def write_evaluation(result: Evaluation, folder: Path) -> None:
    """Write `evaluation.json`, `evaluation.md` and `frames.csv`, in the place of those of an earlier evaluation.

    Those are there until the new ones are whole. Nobody finds files of both: `evaluation.json`, by which an evaluation
    is known, is away while the others are exchanged, unless it stays the same.

    Raises:
        DataError: they cannot be written.
    """
    content = {
        "lami": lami.__version__,
        **result.subject,
        "measures": result.measures,
        "reference_protocol": result.reference_protocol,
        "means": _known(asdict(result.means)),
        "clips": [{"name": clip.name, **_known(asdict(result.means_of(clip)))} for clip in result.clips],
        "failed": [{"name": name, "error": error} for name, error in result.failed.items()],
    }
    texts = (_frames_table(result.clips), result.table() + "\n", json.dumps(content, indent=2) + "\n")
    try:
        with ExitStack() as files:  # closed from the last to the first
            for name, text in reversed(list(zip(_FILES, texts, strict=True))):
                files.enter_context(atomic_path(folder / name)).write_text(text, encoding="utf-8")
            report = folder / _FILES[-1]
            if report.is_file() and report.read_bytes() != texts[-1].encode():
                report.unlink()
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}), make room or choose another folder") from error


def _known(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no nan."""
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _frames_table(clips: Sequence[ClipResult]) -> str:
    """CSV with a row for each frame; empty cells for nan."""
    stream = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for clip in clips:
        for number, frame in enumerate(clip.frames):
            row = {"clip": clip.name, "frame": number, **_known(flatten(frame))}
            if writer is None:
                writer = csv.DictWriter(stream, list(row))
                writer.writeheader()
            writer.writerow(row)
    return stream.getvalue()
