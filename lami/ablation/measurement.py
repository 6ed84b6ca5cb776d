"""How the runs of a study are evaluated, and whether that has been done."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lami
from lami.ablation.runs import Result, Run
from lami.configs.schema import Config
from lami.data import find_clips
from lami.data.sources import ClipSource
from lami.errors import ConfigError, DataError
from lami.evaluation.inputs import check_moving
from lami.evaluation.run import describe_measures, make_measures
from lami.evaluation.scoring import ERRORS
from lami.worklist import digest


@dataclass(frozen=True)
class Measurement:
    """How the rows are evaluated, see `lami.evaluation.evaluate`."""

    keypoints: str | None = None
    identity: str | None = None
    enlarge: int = 1
    lpips: str | None = None
    reference_protocol: bool = False
    limit: int | None = None

    def check(self) -> None:
        """Raises ConfigError for what no study can be measured with."""
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit must be 1 or more, got {self.limit}")
        for spec in (self.keypoints, self.identity):
            if spec is not None and spec.partition(":")[0] == "precomputed":
                raise ConfigError(
                    f"{spec} holds what was found in the images of one model, and each row makes its own; choose "
                    "another estimator, or `lami evaluate` for each row"
                )


@dataclass(frozen=True)
class Expected:
    """What the evaluation of a run should be of and by.

    Attributes:
        measures: estimators and their versions, as in `evaluation.json`.
        reference_protocol: whether the figures follow it.
        clips: the test set, as far as it is evaluated.
    """

    measures: dict[str, Any]
    reference_protocol: bool
    clips: Sequence[ClipSource]

    def another(self, result: Result) -> str | None:
        """What a run was evaluated with instead; None if nothing."""
        for what, wanted, found in (
            ("other estimators", self.measures, result.measures),
            ("another protocol", self.reference_protocol, result.reference_protocol),
            ("other options", {}, result.options),
            ("other clips", [clip.name for clip in self.clips], [name for name, _ in result.clips]),
        ):
            if wanted != found:
                return what
        return None

    def holds(self, run: Run, result: Result) -> bool:
        """Whether another evaluation would give the same: by the same version, and no input is newer."""
        if self.another(result) is not None or result.version != lami.__version__ or result.errors != set(ERRORS):
            return False
        if any(clip.path is not None and _newest(clip.path) > result.date for clip in self.clips):
            return False
        return result.weights == digest(run.path / "model.safetensors")


def expect(configs: Sequence[Config], chosen: Measurement) -> Expected:
    """What all runs of a study are measured on and with; what is missing for it shows here.

    Args:
        configs: of the runs.

    Raises:
        LamiError: no test clips, other ones in some rows than in others, or of an estimator.
    """
    first = configs[0]
    measures = make_measures(
        first.data,
        first.model.image_size,
        chosen.keypoints,
        chosen.identity,
        chosen.enlarge,
        chosen.lpips,
        first.training.device,
    )
    named = describe_measures(measures, chosen.lpips)
    # Rows with the same data, which most studies have, look for it once.
    different = {(c.data.model_dump_json(), c.model.image_size): c for c in configs}.values()
    tests = [find_clips(config.data, config.model.image_size).test[: chosen.limit] for config in different]
    if not all(tests):
        raise DataError("the data set has no test clips, which the rows of a study are compared on; add a test folder")
    if any([clip.name for clip in test] != [clip.name for clip in tests[0]] for test in tests):
        raise ConfigError(
            "the rows of a study are compared on the same test clips; leave out overrides that change them"
        )
    check_moving(tests[0])
    return Expected(named, chosen.reference_protocol, tests[0])


def _newest(path: Path) -> int:
    """Time of the last change of a file, or of a folder and its files, in nanoseconds; the end of time where that is
    not known."""
    try:
        files = [path, *filter(Path.is_file, path.iterdir())] if path.is_dir() else [path]
        return max(file.stat().st_mtime_ns for file in files)
    except OSError:
        return sys.maxsize
