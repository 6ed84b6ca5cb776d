"""The examples run, agree with plain PyTorch, and stay short."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def _run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), "--device", "cpu", *arguments]
    same_modules = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(command, env=same_modules, capture_output=True, text=True, check=False, timeout=200)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def _number(text: str, before: str) -> float:
    match = re.search(before + r" ([\d.e+-]+)", text)
    assert match, text
    return float(match[1])


def test_grid_sample_drop_in() -> None:
    printed = _run("grid_sample_drop_in.py", "--size", "32")
    assert _number(printed, "largest relative difference") < 1e-3
    assert _number(printed, "->") < _number(printed, "loss")
    assert "ms" in printed


def test_tps_image_warp(tmp_path: Path) -> None:
    output = tmp_path / "warped.png"
    printed = _run("tps_image_warp.py", "--size", "64", "--output", str(output))
    assert _number(printed, "mean difference") < 1e-3
    before, after = np.split(np.asarray(Image.open(output)), 2, axis=1)
    assert before.shape == after.shape == (64, 64, 3)
    difference = np.abs(before.astype(int) - after).mean(axis=2)
    assert (difference > 20).mean() > 0.2
    corners = [6, 57]  # pixels of control points that stay where they are
    assert (difference[np.ix_(corners, corners)] < 20).all()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 60
