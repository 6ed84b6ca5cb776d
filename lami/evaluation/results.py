"""The result of an evaluation, as JSON, as a Markdown table and frame by frame."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
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

_DECISIVE = ("data", "image_size", "times", "selector", "fusion", "weights_vit", "precision")
"""What of `Evaluation.subject` tells evaluations of one checkpoint, or of one folder of generated videos, apart."""


@dataclass(frozen=True)
class ClipResult:
    """Errors of a clip, frame by frame."""

    name: str
    frames: Sequence[FrameErrors]


@dataclass(frozen=True)
class Evaluation:
    """What was evaluated with what, and the errors.

    Attributes:
        subject: the model and its options, or the folder of generated videos and what is known of them; the test
            videos and their size.
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
        return self._means([frame for clip in self.clips for frame in clip.frames])

    def means_of(self, clip: ClipResult) -> Means:
        """Over the frames of a clip."""
        return self._means(clip.frames)

    def _means(self, frames: Sequence[FrameErrors]) -> Means:
        left_out = [name for name in ("keypoints", "identity") if name not in self.measures]
        unknown: dict[str, Any] = {f"real_without_{name}": math.nan for name in left_out}
        return replace(summarize(frames, self.reference_protocol), **unknown)

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

    Those are there until the new ones are whole, and come back if these cannot take their place. Nobody finds files of
    both: `evaluation.json`, by which an evaluation is known, is away while the others are exchanged, unless it stays
    the same.

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
                with _set_aside([folder / name for name in reversed(_FILES)]), files.pop_all():
                    pass  # the new ones take their place
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}), make room or choose another folder") from error


@contextmanager
def _set_aside(paths: Sequence[Path]) -> Iterator[None]:
    """Files are away within the context, and come back, the first one last, if it fails."""
    asides = {path: path.with_name(f".{path.name}.earlier") for path in paths}
    try:
        for path, aside in asides.items():
            if path.is_file():
                path.replace(aside)
        yield
    except BaseException:
        for path, aside in reversed(asides.items()):
            if aside.is_file():
                aside.replace(path)
        raise
    for aside in asides.values():
        aside.unlink(missing_ok=True)


def check_replaceable(folder: Path, subject: Mapping[str, Any], reference_protocol: bool, clips: int) -> None:
    """Raises DataError if the folder holds an evaluation of something else, or one that cannot be read.

    A checkpoint of the same name is the same, whatever it was trained to since.

    Args:
        subject, reference_protocol: of an `Evaluation` that shall be written there, and clips: how many it has.
    """
    file = folder / _FILES[-1]
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        earlier = _decisive(content, content["reference_protocol"], len(content["clips"]) + len(content["failed"]))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is damaged; delete it, or name another folder with -o") from error
    for what, value in _decisive(subject, reference_protocol, clips).items():
        if earlier[what] != value:
            raise DataError(
                f"{folder} holds another evaluation ({what}: {earlier[what]} instead of {value}); name a folder for "
                "this one with -o"
            )


def _decisive(subject: Mapping[str, Any], reference_protocol: bool, clips: int) -> dict[str, str]:
    """What two evaluations in one folder must have in common, as text."""
    facts = {name.replace("_", " "): subject.get(name) for name in _DECISIVE}
    facts |= {"reference protocol": reference_protocol, "clips": clips}
    texts = {what: "default" if value is None else json.dumps(value) for what, value in facts.items()}
    return {"of": Path(subject.get("checkpoint") or subject["generated"]).name} | texts


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
