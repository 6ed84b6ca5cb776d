"""Reading configurations: YAML file or preset, `extends`, overrides, and errors that name the key."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lami.configs.schema import Config
from lami.errors import ConfigError

_PRESETS = Path(__file__).parent


def config_names() -> tuple[str, ...]:
    """Names of the presets that come with lami."""
    return tuple(sorted(path.stem for path in _PRESETS.glob("*.yaml")))


def load_config(path_or_name: str | Path | None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a configuration.

    Args:
        path_or_name: a YAML file, or the bare name of a preset such as `taichi`. The file may hold `extends: other`, a
            preset or a file relative to its own folder; its keys are then laid over those of `other`. None stands for
            the defaults of the schema.
        overrides: values laid over the file, nested as in the file or with dotted keys (`{"training.seed": 1}`).

    Raises:
        ConfigError: the file is missing or no YAML mapping, or a key or value is wrong.
    """
    base = {} if path_or_name is None else _read(_locate(str(path_or_name), Path()))
    try:
        return Config.model_validate(_merge(base, _nest(overrides or {})))
    except ValidationError as error:
        raise ConfigError(f"configuration {path_or_name or 'defaults'}: {_sentence(error.errors())}") from None


def dump_config(config: Config) -> str:
    """The configuration as YAML that `load_config` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _locate(name: str, folder: Path) -> Path:
    """The file that `name` stands for; paths are relative to `folder`, bare names are presets."""
    path = folder / name
    preset = _PRESETS / f"{name}.yaml"
    if path.is_file():
        return path
    if Path(name).name == name and preset.is_file():
        return preset
    close = difflib.get_close_matches(Path(name).stem, config_names(), n=1)
    hint = f", did you mean {close[0]}?" if close else "."
    raise ConfigError(f"no configuration {path}; the presets are {', '.join(config_names())}{hint}")


def _read(path: Path, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Values of a file on top of those it extends; `below` are the files that led here."""
    if path.resolve() in below:
        raise ConfigError(f"{path} extends itself, remove `extends` from one of the files of the circle")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
        # The first line of YAML's message may be all there is; the position is what helps.
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{path} is not valid YAML: {problem}{where}") from None
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ConfigError(f"{path} should hold keys and values, not a {type(values).__name__}")
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"extends in {path} should be the name of one preset or file, not {base!r}")
    return _merge(_read(_locate(base, path.parent), (*below, path.resolve())), values)


def _merge(base: dict[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`top` laid over `base`, section by section."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested mappings."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        value = _nest(value) if isinstance(value, Mapping) else value
        for part in reversed(str(key).split(".")):
            value = {part: value}
        nested = _merge(nested, value)
    return nested


def _sentence(errors: list[ErrorDetails]) -> str:
    """The first of pydantic's errors in our words."""
    error = errors[0]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    value = reprlib.repr(error["input"])
    match error["type"]:
        case "extra_forbidden":
            text = _unknown(key)
        case "model_type":
            text = f"{key} is a section with keys of its own, it cannot be {value}"
        case "tuple_type":
            text = f"{key} should be a list such as [1, 2], not {value}"
        case "missing":  # only items of a fixed-length list are required
            text = f"{key} is missing, the list {value} is too short"
        case "value_error":
            text = error["msg"].removeprefix("Value error, ")
        case _ if error["msg"].startswith("Input "):
            text = f"{key} {error['msg'].removeprefix('Input ')}, not {value}"
        case _:
            text = f"{key}: {error['msg']}"
    others = len(errors) - 1
    return text + (f" (and {others} more wrong)" if others else "")


def _unknown(key: str) -> str:
    """What to say of a key that does not exist: the nearest one in its section, else anywhere, else those there are."""
    section, _, name = key.rpartition(".")
    known = list(_keys(Config))
    siblings = {other.rpartition(".")[2]: other for other in known if other.rpartition(".")[0] == section}
    anywhere = {other.rpartition(".")[2]: other for other in reversed(known)}
    for names in (siblings, anywhere):
        if close := difflib.get_close_matches(name, names, n=1, cutoff=0.7):
            return f"unknown key {key}, did you mean {names[close[0]]}?"
    return f"unknown key {key}, the keys of {section or 'a configuration'} are {', '.join(siblings)}"


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all keys, sections included."""
    for name, field in section.model_fields.items():
        yield prefix + name
        for part in (field.annotation, *get_args(field.annotation)):  # a section, or a section | None
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _keys(part, f"{prefix}{name}.")
