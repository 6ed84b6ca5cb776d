"""Training and evaluating each row of a study with each seed."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lami.ablation.plots import check_plots
from lami.ablation.study import Study
from lami.ablation.summary import run_folder, write_summary
from lami.configs import dump_config, load_config
from lami.configs.schema import Config
from lami.errors import ConfigError, DataError
from lami.evaluation import evaluate
from lami.evaluation.run import make_measures
from lami.training import train

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measurement:
    """How the rows are evaluated, see `lami.evaluation.evaluate`."""

    keypoints: str | None = None
    identity: str | None = None
    enlarge: int = 1
    lpips: str | None = None
    reference_protocol: bool = False
    limit: int | None = None


def ablate(
    config: str | Path,
    study: Study,
    output: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    measurement: Measurement | None = None,
) -> Path | None:
    """Train and evaluate the rows of a study with the same data, seeds and number of steps, and write tables and plots.

    Each run has a folder, `output/ROW-seedN`, with what `lami.training.train` and, in `evaluation/`,
    `lami.evaluation.evaluate` write there. Runs that are finished are not repeated, others go on where they stopped, so
    the same command continues a study, adds rows and seeds, and several commands with different rows or seeds may work
    on one study side by side. `summary.md`, `summary.json` and the plots in `output` are made from all runs of the
    study that are finished.

    Args:
        config: file or preset of the full method, over which the rows lay their overrides.
        overrides: laid over the file before the rows'.
        rows: names of the rows to run; None runs all.
        seeds: `training.seed` of the runs.
        measurement: of the evaluation; None measures image differences alone.

    Returns:
        Path of `summary.md`; None if a signal ended a training run, after writing a checkpoint.

    Raises:
        LamiError: of training or evaluation; a row that does not exist; or a run that was started with another
            configuration.
    """
    wanted = list(study.rows) if rows is None else list(rows)
    if unknown := [name for name in wanted if name not in study.rows]:
        raise ConfigError(f"the study has no row {unknown[0]}; its rows are {', '.join(study.rows)}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds must be one or more different numbers, got {tuple(seeds)}")
    folder = Path(output)
    # All at once, so that a mistake in the last row does not show after days.
    runs = {
        run_folder(folder, name, seed): load_config(
            config,
            {
                **(overrides or {}),
                **study.rows[name].overrides,
                "training.seed": seed,
                "training.output": str(run_folder(folder, name, seed)),
            },
        )
        for seed in seeds
        for name in wanted
    }
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("lami ablate is one process; start it several times with different rows or seeds")
    check_plots()
    chosen = measurement or Measurement()
    for path, run in runs.items():
        _check_same(path, run)
    # What is missing shows now, not after the first training.
    first = next(iter(runs.values()))
    make_measures(
        first.data,
        first.model.image_size,
        chosen.keypoints,
        chosen.identity,
        chosen.enlarge,
        chosen.lpips,
        first.training.device,
    )
    if chosen.limit is not None and chosen.limit < 1:
        raise ConfigError(f"limit must be 1 or more, got {chosen.limit}")
    for path, run in runs.items():
        weights = path / "model.safetensors"
        if not weights.is_file():
            logger.info("training %s", path)
            resume = any((path / "checkpoints").glob("step-*.safetensors"))
            if train(run, resume) is None:
                return None
        logger.info("evaluating %s", path)
        result = evaluate(run, path / "evaluation", checkpoint=weights, device=run.training.device, **vars(chosen))
        if result.failed:
            name, error = next(iter(result.failed.items()))
            raise DataError(f"{path} cannot be compared, {name} failed ({error}); run the same command again")
    return write_summary(study, folder)


def _check_same(path: Path, config: Config) -> None:
    """Raises ConfigError if the folder holds a run with another configuration."""
    file = path / "config.yaml"
    if not file.is_file():
        return
    before, now = yaml.safe_load(file.read_text(encoding="utf-8")), yaml.safe_load(dump_config(config))
    if before != now:
        key = _difference(before, now)
        raise ConfigError(
            f"{path} was started with another {key} than now; use the configuration it was started with, or another "
            "output folder"
        )


def _difference(before: Any, now: Any) -> str:
    """Dotted name of the first key in which two nested mappings differ."""
    for key in now:
        below = before.get(key) if isinstance(before, dict) else None
        if below != now[key]:
            deeper = _difference(below, now[key]) if isinstance(now[key], dict) and isinstance(below, dict) else ""
            return f"{key}.{deeper}" if deeper else str(key)
    return ""
