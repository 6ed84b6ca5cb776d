"""The package as a whole: light import, public names."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

import lami

_HEAVY = {"torch", "numpy", "timm", "cv2", "av", "yaml", "pydantic", "triton", "huggingface_hub", "onnx", "onnxscript"}


def _python(code: str) -> str:
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return answer.stdout


def test_import_is_light() -> None:
    code = f"""
from time import perf_counter
import sys
start = perf_counter()
import lami
print(perf_counter() - start)
print(sorted({_HEAVY!r} & set(sys.modules)))
"""
    seconds, heavy = _python(code).splitlines()
    assert heavy == "[]"
    assert float(seconds) < 2  # some hundredths of one on an idle computer


def test_import_of_the_ops_compiles_nothing() -> None:
    compilers = {"torch.utils.cpp_extension", "torch._inductor.codecache", "setuptools"}
    code = f"""
import sys, torch
before = set(sys.modules)
from lami import LAMI, load, ops
print(sorted({compilers!r} & (set(sys.modules) - before)))
"""
    assert _python(code) == "[]\n"


def test_names_are_found_on_demand() -> None:
    from lami import ops

    assert lami.ops is ops
    assert set(lami.__all__) == set(dir(lami))


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'lami' has no attribute 'lod'"):
        lami.lod  # noqa: B018


def test_version_agrees_with_the_metadata() -> None:
    try:
        installed = version("lami")
    except PackageNotFoundError:
        pytest.skip("lami is run from its sources, not installed")
    assert installed == lami.__version__
