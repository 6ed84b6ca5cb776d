"""`lami ablate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lami.cli.options import ConfigName, MeasureOptions, Output, parse, values_of
from lami.cli.overrides import describe, split_overrides


@dataclass(kw_only=True)
class AblateOptions(MeasureOptions):
    config: tyro.conf.Positional[ConfigName]
    """Configuration of the full method: a file, or the name of a preset such as taichi."""
    output: Output
    """Folder of the runs, the tables and the plots; the same one continues a study."""
    study: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Rows to compare (YAML); by default Table 2 of the paper: tpsmm, model1, model2, full and v2."""
    rows: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="ROW ...")] = None
    """Names of the rows to run; by default all."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N ...")] = (0,)
    """Seeds of the runs of each row."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Evaluate this many test videos."""


def main(arguments: list[str]) -> None:
    others, overrides = split_overrides(arguments)
    description = describe(
        "Train and evaluate variants of a configuration with the same data, seeds and steps; write tables and plots.",
        "--training.epochs 10",
        "--data.root /data/taichi",
    )
    options = parse(AblateOptions, others, "ablate", description)

    from lami.ablation import Measurement, ablate, load_study

    summary = ablate(
        options.config,
        load_study(options.study),
        options.output,
        overrides=overrides,
        rows=options.rows,
        seeds=options.seeds,
        measurement=Measurement(**values_of(options, MeasureOptions), limit=options.limit),
    )
    if summary is None:  # scripts must not take the study for finished
        raise KeyboardInterrupt
