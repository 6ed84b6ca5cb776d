"""Which variants of a configuration are compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lami.errors import ConfigError
from lami.evaluation.results import FIGURES

_TABLE_2 = Path(__file__).with_name("table2.yaml")


class Row(BaseModel):
    """A variant.

    Attributes:
        label: how tables and plots call it.
        overrides: values laid over the configuration, by dotted key.
        paper: published figures, by the names of `lami.evaluation.results.FIGURES`.
    """

    model_config = ConfigDict(extra="forbid")

    label: str
    overrides: dict[str, Any] = {}
    paper: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}

    @field_validator("paper")
    @classmethod
    def _knows_figures(cls, paper: dict[str, float]) -> dict[str, float]:
        if unknown := [name for name in paper if name not in FIGURES]:
            raise ValueError(f"there is no figure {unknown[0]}; the figures are {', '.join(FIGURES)}")
        return paper


class Study(BaseModel):
    """Variants by name, and the one that the others are compared with."""

    model_config = ConfigDict(extra="forbid")

    baseline: str
    rows: dict[str, Row] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_usable(self) -> Study:
        for name in self.rows:
            if not re.fullmatch(r"[\w.-]+", name):  # they name folders
                raise ValueError(f"row {name!r} should be named with letters, digits, dots and hyphens only")
        return self

    @model_validator(mode="after")
    def _labels_differ(self) -> Study:
        names: dict[str, str] = {}
        for name, row in self.rows.items():
            other = names.setdefault(row.label, name)
            if other != name:
                raise ValueError(
                    f"rows {other} and {name} have the same label {row.label!r}, which tables and plots show"
                )
        return self

    @model_validator(mode="after")
    def _knows_baseline(self) -> Study:
        if self.baseline not in self.rows:
            raise ValueError(f"baseline {self.baseline} is none of the rows {', '.join(self.rows)}")
        return self


def load_study(path: str | Path | None = None) -> Study:
    """Read a study; None is Table 2 of the paper.

    Raises:
        ConfigError: the file cannot be read or is none.
    """
    file = _TABLE_2 if path is None else Path(path)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"the study {file} cannot be read: {' '.join(str(error).split())}") from None
    try:
        return Study.model_validate(content if isinstance(content, Mapping) else {})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"the study {file}: {key}: {first['msg'].removeprefix('Value error, ')}") from None
