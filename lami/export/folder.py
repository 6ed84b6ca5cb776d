"""A folder of exported parts, each compared with the model before it counts, and `export.json` that describes them."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lami
from lami.errors import ConfigError
from lami.export import onnx_graphs, torch_packages
from lami.export.parts import split
from lami.model import LAMI

logger = logging.getLogger(__name__)

REPORT = "export.json"
TOLERANCE = 1e-4
"""Largest difference from the model that is accepted, relative to the largest value where that is above 1."""


@dataclass(frozen=True)
class ExportedPart:
    """One part: inputs and outputs by name, with their shapes, all float32; differences from the model by file."""

    inputs: dict[str, list[str | int]]
    outputs: dict[str, list[str | int]]
    files: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportReport:
    """What `export.json` holds: the parts by name, and how the model puts them together."""

    lami: str
    torch: str
    opset: int | None
    tolerance: float
    image_size: tuple[int, int]
    interpolation: dict[str, Any]
    parts: dict[str, ExportedPart]


def export(model: LAMI, folder: str | Path, onnx: bool = False, packages: bool = False) -> ExportReport:
    """Write the parts of a model (`lami.export.split`) into a folder, which appears whole or not at all.

    Args:
        model: put into eval mode.
        folder: new, empty, or an earlier export, which is replaced.
        onnx: ONNX graphs `NAME.onnx`, which know nothing of PyTorch or lami; the model must be on the CPU.
        packages: `torch.export` packages `NAME.pt2` for the model's device; loading needs `import lami.ops`.

    Returns:
        What was written, as it stands in `export.json`.

    Raises:
        ConfigError: packages of `lami[export]` are missing, the folder holds other files
            or cannot be written, or an exported part computes something else than the model.
        WeightsUnavailableError: the selector's transformer cannot be had.
    """
    if onnx:
        onnx_graphs.check_installed()
        if model.device.type != "cpu":
            raise ConfigError(f"ONNX graphs are made on the CPU, but the model is on {model.device}; load it there")
    folder = Path(folder).resolve()  # what links lead to is replaced, not they
    _check_folder(folder)
    model.eval()
    report = ExportReport(
        lami=lami.__version__,
        torch=torch.__version__,
        opset=onnx_graphs.OPSET if onnx else None,
        tolerance=TOLERANCE,
        image_size=model.config.image_size,
        interpolation=model.interpolation.model_dump(),
        parts={},
    )
    formats = {}
    if onnx:
        formats[".onnx"] = onnx_graphs.write_onnx, onnx_graphs.run_onnx
    if packages:
        formats[".pt2"] = torch_packages.write_package, torch_packages.run_package
    # Another batch than the one that was traced shows that the batch is free indeed.
    traced, tried = split(model, batch=2), split(model, batch=3)
    with _replacing(folder) as new:
        for part, trial in zip(traced, tried, strict=True):
            wanted = trial.run()
            outputs = dict(zip(trial.outputs, wanted, strict=True))
            report.parts[part.name] = exported = ExportedPart(_shapes(trial.inputs), _shapes(outputs))
            for suffix, (write, run) in formats.items():
                path = new / f"{part.name}{suffix}"
                write(part, path)
                exported.files[path.name] = difference = _compare(run(trial, path), wanted, path.name)
                logger.info("%s: %.1f MB, differs by %.1e", path.name, path.stat().st_size / 1e6, difference)
        (new / REPORT).write_text(json.dumps(asdict(report), indent=2) + "\n")
    return report


def _shapes(tensors: dict[str, Tensor]) -> dict[str, list[str | int]]:
    return {name: ["batch", *tensor.shape[1:]] for name, tensor in tensors.items()}


def _compare(got: tuple[Tensor, ...], wanted: tuple[Tensor, ...], name: str) -> float:
    """Largest difference, relative to values above 1.

    Raises:
        ConfigError: it is above the tolerance, or not a number.
    """
    worst = 0.0
    for ours, theirs in zip(wanted, got, strict=True):
        if ours.shape != theirs.shape:
            raise ConfigError(f"{name} gives shape {tuple(theirs.shape)}, the model {tuple(ours.shape)}; report this")
        difference = (theirs.to(ours.device) - ours).abs().max() / ours.abs().max().clamp_min(1)
        worst = max(worst, float(difference.nan_to_num(nan=torch.inf)))
    if worst > TOLERANCE:
        raise ConfigError(
            f"{name} differs from the model by {worst:.1e}, more than {TOLERANCE:.0e}, so nothing was written; "
            "try other versions of torch, onnxscript and onnxruntime"
        )
    return worst


def _check_folder(folder: Path) -> None:
    """Nothing in the folder but an earlier export, since the folder is replaced, and nothing in the way of that."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder, choose another output")
    if folder.is_mount():
        raise ConfigError(f"{folder} is where a disk is mounted and cannot be replaced, choose a folder in it")
    above = next(parent for parent in folder.parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder} cannot be written, {above} is not a folder with write access; choose another")
    try:
        earlier = json.loads((folder / REPORT).read_text())["parts"].values()
        known = {REPORT, *(name for part in earlier for name in part["files"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        known = set()
    for entry in folder.iterdir() if folder.exists() else ():
        if entry.name not in known:
            raise ConfigError(f"{entry} is not part of an earlier export, choose a new or empty folder")


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of `folder` if nothing fails."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            new = Path(temporary) / folder.name
            new.mkdir()
            yield new
            old = Path(temporary) / f"{folder.name}.old"  # deleted with the temporary folder
            if folder.exists():
                folder.rename(old)
            try:
                new.rename(folder)
            finally:
                if old.exists() and not folder.exists():
                    old.rename(folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error}); choose another folder, or make room") from error
