"""`animate_pairs`: from a list of files to a folder of files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from lami.acceleration import Precision, pick_precision
from lami.animation.animator import AnimatedFrame, Granularity
from lami.animation.crop import Crop, parse_crop
from lami.animation.files import Audio, Rate, animate_file
from lami.animation.letterbox import OutputSize
from lami.animation.loading import identify, load_with_options
from lami.animation.modes import Mode
from lami.animation.smoothing import Smoothing
from lami.configs.schema import Fusion, Selector
from lami.data import WRITABLE_IMAGE_SUFFIXES, Pair, VideoReader, is_still, parse_rate, read_pairs
from lami.errors import DataError
from lami.processes import join_processes
from lami.progress import track
from lami.worklist import PATIENCE, Outcome, Status, Task, work_through, write_report

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairResult:
    """What became of one row of the list."""

    source: str
    driving: str
    output: str
    """Name in the output folder."""
    status: Status
    seconds: float
    """That making took, for `skipped` in the run that did it."""
    frames: int | None
    """None for `failed`."""
    error: str | None
    """One sentence, None unless `failed`."""


def animate_pairs(
    checkpoint: str | Path,
    pairs: str | Path | Sequence[Pair],
    output: str | Path,
    *,
    mode: Mode = "relative",
    strength: float = 1.0,
    smoothing: Smoothing | None = None,
    times: Sequence[float] | None = None,
    selector: Selector | None = None,
    granularity: Granularity = "frame",
    best_frame: bool = False,
    audio: Audio = "driving",
    fps: Rate = "keep",
    size: OutputSize = "model",
    crop: Crop = "none",
    crop_driving: Crop = "none",
    label: bool = False,
    batch_size: int = 8,
    device: str = "auto",
    precision: Precision = "auto",
    weights_vit: str | None = None,
    fusion: Fusion | None = None,
) -> tuple[PairResult, ...]:
    """Animate each source of a list with its driving video.

    Results are named `SOURCE-DRIVING.mp4`, `.png` for a driving image, or as the list's column `output` says. Rows that
    fail are logged and the others go on. `report.json`, written at the end, tells what became of each row, in the
    fields of `PairResult`. Until then, and after a run that was killed, `records/` holds the same row by row.

    A later run skips rows that are done: the result has the bytes that were written, and source, driving file,
    checkpoint, options and version of lami are those it was made with. `batch_size` and `device` do not matter.

    Under torchrun the processes share the rows; all must see the output folder, and each on a GPU has one of its own.
    Only one run at a time may write to a folder.

    Args:
        checkpoint: weight file of the model.
        pairs: table of `read_pairs`, or its rows; those whose files are missing fail.
        output: folder, created if missing.
        mode, strength, smoothing, times, selector, granularity, best_frame, audio, fps, size: see `animate_file`.
        crop, crop_driving: see `animate_file`; a box is that of all rows, and those whose files it does not fit fail.
        label, batch_size, device, precision, weights_vit, fusion: see `animate_file`.

    Returns:
        The rows of all processes, in the order of the list.

    Raises:
        ConfigError: options that do not go together or that the model cannot serve.
        DataError: the list cannot be used, no row has its files, two rows have the same result, a result would
            overwrite an input, or the folder cannot be written.
        CheckpointError: the weight file cannot be used.
        WeightsUnavailableError: the selector's transformer cannot be had.
    """
    folder = Path(output)
    if isinstance(pairs, str | Path):
        rows, table = read_pairs(pairs, strict=False), str(pairs)
    else:
        rows, table = tuple(pairs), "the list"
    names = _output_names(rows, folder, table)
    options: dict[str, Any] = {
        "mode": mode,
        "strength": strength,
        "granularity": granularity,
        "best_frame": best_frame,
        "audio": audio,
        "fps": fps if fps == "keep" else str(parse_rate(fps)),
        "size": size,
        "crop": parse_crop(crop),
        "crop_driving": parse_crop(crop_driving),
        "label": label,
    }
    with join_processes(device, PATIENCE) as processes:
        precision = pick_precision(precision, processes.device)
        model = load_with_options(checkpoint, str(processes.device), times, selector, weights_vit, fusion, precision)
        smooth = None if smoothing is None else asdict(smoothing)
        settings = options | {"smoothing": smooth, "precision": precision}
        settings |= identify(checkpoint, times, selector, weights_vit, fusion)
        chosen = options | {"smoothing": smoothing, "times": times, "batch_size": batch_size, "precision": precision}
        animate = partial(_animate, partial(animate_file, model, overwrite=True, **chosen))
        tasks = [
            Task(name, partial(animate, pair, folder / name, f"{n} of {len(rows)}, {name}"), pair[:2], (folder / name,))
            for n, (pair, name) in enumerate(zip(rows, names, strict=True), start=1)
        ]
        outcomes = work_through(tasks, folder, settings, processes)
        results = tuple(_result(pair, outcome) for pair, outcome in zip(rows, outcomes, strict=True))
        counts = {status: sum(row.status == status for row in results) for status in get_args(Status)}
        logger.info("%s: %s", folder, ", ".join(f"{count} {status}" for status, count in counts.items()))
        content = {"checkpoint": str(checkpoint), "settings": settings, **counts, "rows": [asdict(r) for r in results]}
        write_report(folder, content, processes)
    return results


def _animate(animate: Callable[..., Path], pair: Pair, output: Path, label: str) -> dict[str, Any]:
    def progress(frames: Iterable[AnimatedFrame], total: int, description: str) -> Iterable[AnimatedFrame]:
        return track(frames, total, f"{description} {label}")

    animate(pair.source, pair.driving, output, progress=progress)
    if output.suffix.lower() in WRITABLE_IMAGE_SUFFIXES:
        return {"frames": 1}
    with VideoReader(output) as reader:
        return {"frames": len(reader)}


def _result(pair: Pair, outcome: Outcome) -> PairResult:
    return PairResult(
        str(pair.source),
        str(pair.driving),
        outcome.name,
        outcome.status,
        outcome.seconds,
        outcome.result.get("frames"),
        outcome.error,
    )


def _output_names(rows: Sequence[Pair], folder: Path, table: str) -> list[str]:
    """Names in the folder; raises DataError where one is outside it, is another row's, or is an input."""
    names: dict[str, int] = {}
    inputs = {path.resolve() for pair in rows for path in pair[:2]}
    for row, pair in enumerate(rows, start=1):
        suffix = ".png" if is_still(pair.driving) else ".mp4"
        path = Path(pair.output or f"{pair.source.stem}-{pair.driving.stem}{suffix}")
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"row {row} of {table} has the output {path}; give a name inside the output folder")
        name = path.as_posix()
        if name in names:
            raise DataError(
                f"rows {names[name]} and {row} of {table} would both write {name}; leave one out, or name the results "
                "in a column 'output'"
            )
        if (folder / path).resolve() in inputs:
            raise DataError(f"row {row} of {table} would overwrite the input {folder / path}; choose another folder")
        names[name] = row
    return list(names)
