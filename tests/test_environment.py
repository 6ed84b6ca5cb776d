from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch

from lami.environment import command_line, device_name


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


def test_kinds_of_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for amx, name in ((True, "cpu-2core-amx"), (False, "cpu-2core-avx512")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        assert device_name(torch.device("cpu")) == name
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NO AVX")
    assert device_name(torch.device("cpu")) == "cpu-2core-no-avx"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert device_name(torch.device("cuda")) == "nvidia-h200"
