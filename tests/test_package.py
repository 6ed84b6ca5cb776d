"""The package as a whole: light import, public names."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

import lami


def test_import_is_light() -> None:
    code = "import lami, sys; print(sorted({'torch', 'numpy', 'timm', 'cv2', 'av', 'yaml'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout == "[]\n"


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
