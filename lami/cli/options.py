"""Options that several commands share, and their parsing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from lami.errors import DataError, IncompleteError

Options = TypeVar("Options")

Checkpoint = Annotated[Path, tyro.conf.arg(metavar="FILE")]
Output = Annotated[Path, tyro.conf.arg(aliases=("-o",), metavar="PATH")]
ConfigName = Annotated[str, tyro.conf.arg(metavar="CONFIG")]


@dataclass(kw_only=True)
class TestVideoOptions:
    """Of commands that rebuild test videos."""

    __test__ = False  # not a test case for pytest

    config: Annotated[str | None, tyro.conf.arg(metavar="CONFIG")] = None
    """Configuration file or preset whose test videos are used."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of videos, instead of the configuration's."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Stop after this many videos."""
    times: Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="T ...")] = None
    """Candidate times; by default the checkpoint's."""
    selector: Annotated[Literal["eq4", "fixed", "random"] | None, tyro.conf.arg(metavar="{eq4,fixed,random}")] = None
    """How one of the candidates is chosen; by default as in the checkpoint."""
    weights_vit: Annotated[str | None, tyro.conf.arg(metavar="pretrained|FILE|random")] = None
    """Weights of the selector's transformer; by default as in the checkpoint."""
    fusion: Annotated[Literal["none", "occlusion", "mean"] | None, tyro.conf.arg(metavar="{none,occlusion,mean}")] = (
        None
    )
    """Reach the driving pose from the interpolated image (none), or from it and the source; as in the checkpoint."""
    batch_size: int = 8
    """Frames computed at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Of the networks; auto is bf16 where the processor or GPU is made for it. Coordinates stay in fp32."""

    def with_data(self, overrides: dict[str, Any]) -> dict[str, Any]:
        """Overrides of the configuration, the folder among them.

        Raises:
            DataError: neither a configuration nor a folder is given.
        """
        if self.data is not None:
            return {"data.root": str(self.data), "data.synthetic": None} | overrides
        if self.config is None:
            raise DataError("say which videos to rebuild: --config CONFIG or --data DIR")
        return overrides


@dataclass(kw_only=True)
class MeasureOptions:
    """Of commands that measure how far generated videos are from real ones."""

    keypoints: Annotated[str | None, tyro.conf.arg(metavar="ESTIMATOR")] = None
    """For AKD and MKR: dlib, mediapipe, face-alignment, figures, or precomputed:REAL,GENERATED (files)."""
    identity: Annotated[str | None, tyro.conf.arg(metavar="ESTIMATOR")] = None
    """For AED: dlib (aligned faces), dlib-whole-frame, or precomputed:REAL,GENERATED (files)."""
    enlarge: int = 1
    """Enlarge frames by this factor for estimators that search them."""
    lpips: Annotated[str | None, tyro.conf.arg(metavar="pretrained|FILE")] = None
    """Also measure LPIPS, with AlexNet's weights."""
    reference_protocol: bool = False
    """Figures as the official evaluation computes them."""


def values_of(options: Any, shared: type[Any]) -> dict[str, Any]:
    """The values of the fields that options have from a class of shared ones."""
    return {field.name: getattr(options, field.name) for field in fields(shared)}


def parse(options: type[Options], arguments: list[str], command: str, description: str) -> Options:
    """Fill a dataclass of options from the command line; exits with a message where that fails."""
    return tyro.cli(
        options,
        args=arguments,
        prog=f"lami {command}",
        description=description,
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def check_complete(failed: Mapping[str, str], total: int, report: Path) -> None:
    """Raises IncompleteError if some files of a list, by name, failed, for the reason given; `report` tells of all."""
    if failed:
        name, error = next(iter(failed.items()))
        raise IncompleteError(
            f"{len(failed)} of {total} failed, the first is {name} ({error}); {report} tells of all, "
            "and the same command tries them again"
        )
