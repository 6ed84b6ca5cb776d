"""The licence table has every dependency, and its script sees what packages state."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "docs" / "licences.py"

_spec = importlib.util.spec_from_file_location("licences", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
licences = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(licences)


def test_every_dependency_has_a_row_and_every_row_a_dependency() -> None:
    required = licences.required()
    assert {"torch", "av", "pillow-heif", "dlib-bin", "pytest", "ninja"} <= required
    assert licences.problems(required, licences.documented()) == []


def test_a_missing_and_a_superfluous_row_are_named() -> None:
    found = licences.problems({"torch", "left-pad"}, {"torch": "BSD", "abandoned": "MIT"})
    assert len(found) == 2
    assert "left-pad has no row" in found[0]
    assert "abandoned" in found[1]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("License-Expression: MIT OR Apache-2.0", "MIT OR Apache-2.0"),
        ("License: MIT License", "MIT"),
        ("License: a\n        whole text", None),
        ("Classifier: License :: OSI Approved :: Apache Software License", "Apache-2.0"),
        ("Summary: nothing", None),
    ],
)
def test_what_a_package_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: str, expected: str | None
) -> None:
    folder = tmp_path / "left_pad-1.0.dist-info"
    folder.mkdir()
    folder.joinpath("METADATA").write_text(f"Metadata-Version: 2.4\nName: left-pad\nVersion: 1.0\n{metadata}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert licences.stated("left-pad") == expected
    assert licences.stated("not-installed-at-all") is None


def test_all_that_is_needed_in_turn() -> None:
    answer = subprocess.run([sys.executable, str(SCRIPT), "--all"], capture_output=True, text=True, check=True)
    assert "| torch | " in answer.stdout
    assert "| torchvision | " in answer.stdout  # which only timm asks for
