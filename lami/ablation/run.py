"""Training and evaluating each row of a study with each seed."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lami.ablation.measurement import Expected, Measurement, expect
from lami.ablation.plots import check_plots
from lami.ablation.runs import Result, Run, find_runs, read_result, run_folder
from lami.ablation.settings import check_overrides, check_same_settings
from lami.ablation.study import Study
from lami.ablation.summary import write_summary
from lami.backbones import ViTFeatures
from lami.configs import load_config
from lami.configs.schema import Config
from lami.data.files import claimed
from lami.errors import ConfigError, DataError
from lami.evaluation import evaluate
from lami.training import train
from lami.training.interruption import interruptible

logger = logging.getLogger(__name__)


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
    `lami.evaluation.evaluate` write there. Runs that are finished are neither trained nor evaluated again as long as
    weights, test clips and measures are the same; others go on where they stopped. So the same command continues a
    study, adds rows and seeds, and several commands with different rows or seeds may work on one study side by side.
    `summary.md`, `summary.json` and the plots in `output` are made from all runs of the study that are finished. What
    would stop a run, or keep it out of the tables, is looked for before the first one is trained.

    Args:
        config: file or preset of the full method, over which the rows lay their overrides.
        overrides: laid over the file before the rows'.
        rows: names of the rows to run; None runs all.
        seeds: `training.seed` of the runs.
        measurement: of the evaluation; None measures image differences alone.

    Returns:
        Path of `summary.md`; None if a signal ended a training run, after writing a checkpoint.

    Raises:
        LamiError: of training or evaluation; a row that does not exist; runs in the folder that were started with
            another configuration or measured differently; or one of their files that is damaged.
    """
    wanted = list(study.rows) if rows is None else list(rows)
    if unknown := [name for name in wanted if name not in study.rows]:
        raise ConfigError(f"the study has no row {unknown[0]}; its rows are {', '.join(study.rows)}")
    for what, given in (("rows", wanted), ("seeds", seeds)):
        if not given or len(set(given)) < len(given):
            raise ConfigError(f"give one or more different {what}, got {tuple(given)}")
    check_overrides(overrides or {}, *(study.rows[name].overrides for name in wanted))
    chosen = measurement or Measurement()
    chosen.check()
    folder = Path(output)
    # All at once, so that a mistake in the last row does not show after days.
    runs = [
        _run(run_folder(folder, name, seed), name, seed, config, {**(overrides or {}), **study.rows[name].overrides})
        for seed in seeds
        for name in wanted
    ]
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("lami ablate is one process; start it several times with different rows or seeds")
    check_plots()
    expected = _check_all(study, folder, runs, chosen)
    for run in runs:
        if not _weights(run).is_file():
            logger.info("training %s", run.path)
            resume = any((run.path / "checkpoints").glob("step-*.safetensors"))
            with interruptible() as interruption:  # also by a signal in the last step of a run, which is then whole
                trained = train(run.config, resume, again="the same command")
            if trained is None or interruption.requested:
                return None
        with claimed(run.path, wait=True):  # by another command with the same row, which leaves nothing to do
            _evaluate(run, expected, chosen)
    return write_summary(study, folder)


def _run(path: Path, row: str, seed: int, config: str | Path, overrides: Mapping[str, Any]) -> Run:
    given = {"training.seed": seed, "training.output": str(path)}
    return Run(path, row, seed, load_config(config, {**overrides, **given}))


def _check_all(study: Study, folder: Path, runs: Sequence[Run], chosen: Measurement) -> Expected:
    """Raises LamiError for what would stop a run or keep it out of the tables; returns what to evaluate with."""
    started = find_runs(folder, study)
    own = {run.path for run in runs}
    check_same_settings(
        study,
        [("this command", run.row, run.config) for run in runs]
        + [(str(run.path), run.row, run.config) for run in started],
    )
    expected = expect([run.config for run in runs], chosen)
    done = set()
    for run in started:
        result = read_result(run)
        if result is None:
            continue
        if run.path not in own and (another := expected.another(result)) is not None:
            raise DataError(f"{run.path} was evaluated with {another} than now; run one command for all rows and seeds")
        if _is_done(run, result, expected):
            done.add(run.path)
    transformers = {c.vit.model_dump_json(): c.vit for c in (r.config for r in runs if r.path not in done) if _sees(c)}
    for transformer in transformers.values():
        ViTFeatures(transformer)
    return expected


def _sees(config: Config) -> bool:
    """Whether training or evaluation needs the transformer."""
    ways = config.interpolation
    selects = ways.enabled and len(ways.times) > 1 and "eq4" in (ways.selector, config.training.selector)
    return selects or config.losses.appearance > 0 or config.losses.structure > 0


def _evaluate(run: Run, expected: Expected, chosen: Measurement) -> None:
    if _is_done(run, read_result(run), expected):
        logger.info("%s is finished", run.path)
        return
    logger.info("evaluating %s", run.path)
    result = evaluate(
        run.config,
        run.path / "evaluation",
        checkpoint=_weights(run),
        device=run.config.training.device,
        **vars(chosen),
    )
    if result.failed:
        name, error = next(iter(result.failed.items()))
        raise DataError(f"{run.path} cannot be compared, {name} failed ({error}); run the same command again")


def _is_done(run: Run, result: Result | None, expected: Expected) -> bool:
    return result is not None and _weights(run).is_file() and expected.holds(run, result)


def _weights(run: Run) -> Path:
    return run.path / "model.safetensors"
