"""The page on what the paper leaves open is complete, and names keys that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from lami.configs.schema import Config

PAGE = (Path(__file__).parents[1] / "docs" / "choices.md").read_text()


def keys(section: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in section.model_fields.items():
        found.add(prefix + name)
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= keys(part, f"{prefix}{name}.")
    return found


def test_every_choice_is_there_once() -> None:
    numbers = [int(number) for number in re.findall(r"^\| U(\d+) \|", PAGE, re.MULTILINE)]
    assert sorted(numbers) == list(range(1, 34))


def test_keys_exist() -> None:
    named = re.findall(rf"`((?:{'|'.join(Config.model_fields)})\.[\w.]+)(?:\.\*)?(?::[^`]*)?`", PAGE)
    assert len(named) > 20
    assert set(named) <= keys(Config)
