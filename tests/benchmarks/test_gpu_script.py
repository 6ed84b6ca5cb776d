"""`make gpu` on a machine without a GPU, and what its steps are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks import gpu


def test_says_that_it_needs_a_gpu(tmp_path: Path) -> None:
    command = [sys.executable, gpu.__file__, "--output", str(tmp_path)]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    answer = subprocess.run(command, env=hidden, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert "needs a CUDA GPU" in answer.stderr
    assert not any(tmp_path.iterdir())


def test_steps(tmp_path: Path) -> None:
    steps = {step.name: step for step in gpu.steps(tmp_path / "gpu", rehearsal=False)}
    training = ["training", "training-compiled", "training-graphs", "training-checkpointed"]
    assert list(steps) == ["build", "tests", "memcheck", "racecheck", "benchmarks", *training]
    for tool in ("memcheck", "racecheck"):
        (watched,) = [argument for argument in steps[tool].command if argument.startswith("tests/")]
        assert (gpu.ROOT / watched).is_file()
    assert "cuda" in steps["benchmarks"].command
    rehearsed = gpu.steps(tmp_path / "gpu", rehearsal=True)
    assert [step.name for step in rehearsed] == ["build", "tests", "benchmarks", "training"]
    assert not any("cuda" in argument for step in rehearsed for argument in step.command)


def test_outcomes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    passed = gpu.run(gpu.Step("good", gpu.python("-c", "import os; print(os.environ['SAY'])"), {"SAY": "word"}), log)
    assert passed["outcome"] == "passed"
    assert log.read_text() == "word\n"
    assert gpu.run(gpu.Step("bad", gpu.python("-c", "raise SystemExit(3)")), log)["exit_code"] == 3
    absent = gpu.run(gpu.Step("absent", ["no-such-program"], program="no-such-program"), log)
    assert "was not found" in str(absent["outcome"])
