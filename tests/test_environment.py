from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from lami.environment import command_line


@pytest.mark.parametrize(
    ("module", "program", "expected"),
    [
        ("lami.__main__", "/somewhere/lami/__main__.py", "python -m lami bench 'a b'"),
        ("benchmarks.report", "/somewhere/benchmarks/report.py", "python -m benchmarks.report bench 'a b'"),
        (None, "benchmarks/gpu.py", "python benchmarks/gpu.py bench 'a b'"),
        (None, "/somewhere/bin/lami", "lami bench 'a b'"),
    ],
)
def test_command_line_is_what_one_would_type(
    module: str | None, program: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = ModuleType("__main__")
    main.__spec__ = None if module is None else ModuleSpec(module, None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", [program, "bench", "a b"])
    assert command_line() == expected
