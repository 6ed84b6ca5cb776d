"""What the configurations of a study's runs have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lami.ablation.study import Study
from lami.configs.schema import Config, Section
from lami.errors import ConfigError

GIVEN = {"training.seed": "--seeds", "training.output": "-o"}
"""Keys that a study sets for each run, and what says to what."""

_WITHOUT_EFFECT = {
    *GIVEN,
    "training.device",
    "training.workers",
    "training.log_every",
    "training.panel_every",
    "training.checkpoint_every",
    "training.checkpoint_minutes",
    "training.keep_checkpoints",
    "training.keep_best",
    "training.wandb",
    "data.synthetic.num_test_clips",
}
"""Keys that do not change trained weights: runs may differ in them, and go on with others."""


def check_overrides(*overrides: Mapping[str, Any]) -> None:
    """Raises ConfigError for one of a key that a study sets itself."""
    for keys in map(dotted, overrides):
        if taken := [key for key in GIVEN if key in keys]:
            raise ConfigError(f"{taken[0]} differs from run to run of a study; leave it out, {GIVEN[taken[0]]} sets it")


def check_same_settings(study: Study, runs: Iterable[tuple[str, str, Config]]) -> None:
    """Raises ConfigError where runs differ in more than their rows' overrides and what has no effect on weights.

    Args:
        runs: what to call each, the name of its row, and its configuration.
    """
    seen: dict[tuple[str | None, str], tuple[str, str]] = {}
    for name, row, config in runs:
        overrides = dotted(study.rows[row].overrides)
        for key, value in _settings(config):
            if key in _WITHOUT_EFFECT:
                continue
            own = row if any(_overlap(key, other) for other in overrides) else None
            wanted, first = seen.setdefault((own, key), (value, name))
            if value != wanted:
                raise ConfigError(
                    f"{name} was started with another {key} than {first}; the runs of a study share one configuration, "
                    "use that or another output folder"
                )


def dotted(overrides: Mapping[str, Any], above: str = "") -> list[str]:
    """Keys of overrides, which may be nested as in a file."""
    keys: list[str] = []
    for name, value in overrides.items():
        keys += dotted(value, f"{above}{name}.") if isinstance(value, Mapping) and value else [f"{above}{name}"]
    return keys


def _settings(section: Section, above: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and JSON of each value; a section counts as one besides, for those that may be null."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield f"{above}{name}", "section"
            yield from _settings(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", json.dumps(value, sort_keys=True, default=str)


def _overlap(key: str, other: str) -> bool:
    """Whether one is the other, or the section that holds it."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")
