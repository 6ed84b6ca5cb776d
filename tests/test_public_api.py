"""What other people's code may rely on: names and signatures do not change by accident, and all are documented."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from public_api import COMMITTED, MODULES, members, names, render

_HOW = (
    "the public API has changed; if that is what you want, run `python tests/public_api.py`, commit the file, and say "
    "in CHANGELOG.md what users have to do:\n"
)


def _documented(module: Any) -> Iterator[tuple[str, Any]]:
    for name in names(module):
        value = getattr(module, name)
        if callable(value):
            yield name, value
        if inspect.isclass(value):
            yield from ((f"{name}.{member}", getattr(value, member)) for member, _ in members(value))


def _explained(name: str, value: Any) -> bool:
    text = inspect.getdoc(value) or ""
    return text != "" and not text.startswith(f"{name}(")  # which a dataclass says of itself


def test_signatures_are_as_committed() -> None:
    before, now = COMMITTED.read_text().splitlines(), render().splitlines()
    assert now == before, _HOW + "\n".join(difflib.unified_diff(before, now, "committed", "now", lineterm="", n=0))


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_has_a_docstring(module: str) -> None:
    imported = importlib.import_module(module)
    assert _explained(module, imported)
    assert [name for name, value in _documented(imported) if not _explained(name, value)] == []


def test_types_are_published() -> None:
    assert files("lami").joinpath("py.typed").is_file()
