"""`--section.key value` on the command line: any key of the configuration, without a flag for each of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from lami.errors import ConfigError

_OVERRIDE = re.compile(r"--([A-Za-z][\w-]*(?:\.[\w-]+)+)(?:=(.*))?", re.DOTALL)


def describe(purpose: str, *examples: str) -> str:
    """Help text of a command that takes overrides."""
    return "\n".join(
        [
            f"{purpose}\n",
            "Any key of the configuration can follow as --section.key VALUE, for instance:",
            *(f"  {example}" for example in examples),
            "",
            "Values are read as in the file, several values make a list.",
        ]
    )


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Separate overrides from the other arguments.

    An override takes all values up to the next option. Hyphens in keys count as underscores.

    Returns:
        The other arguments in their order, and the overrides by dotted key.

    Raises:
        ConfigError: an override without a value, or one that YAML cannot read.
    """
    others: list[str] = []
    overrides: dict[str, Any] = {}
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        match = _OVERRIDE.fullmatch(argument)
        if match is None:
            others.append(argument)
            continue
        key, value = match[1].replace("-", "_"), match[2]
        values = [] if value is None else [value]
        while value is None and remaining and not _is_option(remaining[0]):
            values.append(remaining.pop(0))
        if not values:
            raise ConfigError(f"--{match[1]} needs a value, for instance --{match[1]} true")
        parsed = [_parse(key, text) for text in values]
        overrides[key] = parsed[0] if len(parsed) == 1 else parsed
    return others, overrides


def _is_option(argument: str) -> bool:
    """Options start with a hyphen and a letter, or two hyphens; -1 is a value."""
    return re.match(r"--|-[A-Za-z]", argument) is not None


def _parse(key: str, text: str) -> Any:
    if text == "None":  # Python's spelling of YAML's null
        return None
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # ValueError: a date that is none
        raise ConfigError(f"cannot read the value {text!r} of {key}, quote it as in a YAML file") from None
