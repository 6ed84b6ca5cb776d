"""The public names of lami as text: signatures of functions, public methods and properties of classes.

`python tests/public_api.py` writes `tests/public_api.txt` anew, after a deliberate change.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODULES = (
    "lami",
    "lami.animation",
    "lami.data",
    "lami.errors",
    "lami.evaluation",
    "lami.export",
    "lami.interpolation",
    "lami.losses",
    "lami.models",
    "lami.ops",
    "lami.weights",
)
COMMITTED = Path(__file__).with_suffix(".txt")


class _Verbatim:
    """An annotation, printed as it is written."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def names(module: Any) -> list[str]:
    """`__all__`, or all classes that are defined there."""
    defined = (name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__)
    return sorted(getattr(module, "__all__", defined))


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties of a class that lami defines, inherited ones included."""
    for name, value in sorted(inspect.getmembers_static(cls)):
        function = getattr(value, "__func__", None) or getattr(value, "fget", None) or getattr(value, "func", value)
        ours = getattr(function, "__module__", None) or ""
        if ours.split(".")[0] == "lami" and not name.startswith("_") and callable(function):
            yield name, value


def signature(function: Any) -> str:
    """Parameters and result, with annotations as they are written and without addresses of defaults."""
    found = inspect.signature(function)
    parameters = [parameter.replace(annotation=_text(parameter.annotation)) for parameter in found.parameters.values()]
    text = str(found.replace(parameters=parameters, return_annotation=_text(found.return_annotation)))
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _text(annotation: Any) -> Any:
    return _Verbatim(annotation) if isinstance(annotation, str) else annotation


def render() -> str:
    """All public names, one a line."""
    return "\n".join(line for module in MODULES for line in _lines(module)) + "\n"


def _lines(module_name: str) -> Iterator[str]:
    module = importlib.import_module(module_name)
    for name in names(module):
        value, full = getattr(module, name), f"{module_name}.{name}"
        if inspect.ismodule(value):
            yield f"{full}: module"
        elif inspect.isclass(value):
            yield f"class {full}{_construction(value)}"
            for member, found in members(value):
                kind = (
                    "" if inspect.isfunction(found) or isinstance(found, staticmethod | classmethod) else ": property"
                )
                yield f"  {member}{kind or signature(getattr(value, member))}"
        elif callable(value):
            yield f"{full}{signature(value)}"
        else:
            yield f"{full}: {type(value).__name__}"


def _construction(cls: Any) -> str:
    """Parameters of a class that is meant to be called."""
    if fields := getattr(cls, "model_fields", None) or getattr(cls, "_fields", None):  # pydantic, named tuple
        return f"({', '.join(fields)})"
    called = "__init__" in cls.__dict__ and not issubclass(cls, Exception) and not getattr(cls, "_is_protocol", False)
    return signature(cls) if called else ""


if __name__ == "__main__":
    COMMITTED.write_text(render())
