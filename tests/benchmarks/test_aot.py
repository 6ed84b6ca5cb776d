"""Triton kernels compile for GPUs that are not here, and cost them no more than the committed table says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton comes with PyTorch for CUDA only")

from benchmarks.aot.__main__ import read, regressions, spills, write

ROOT = Path(__file__).parents[2]
GOOD = {"registers": 64, "spill_bytes": 0, "shared_bytes": 128, "loads": 20, "wide_loads": 4}
KEY = ("warp._forward_kernel", "bf16 channels_last", "sm_90")


def gate(*options: str) -> None:
    """Kernels are compiled or interpreted from their definition on, so that this takes a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.aot", *options]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.timeout(600)
def test_kernels_of_training_on_an_h100() -> None:
    gate("--arch", "90", "--name", "bf16 channels_last", "--name", "fp32")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_kernels_on_all_architectures() -> None:
    gate()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"registers": 65}, "registers were 64, are 65"),
        ({"shared_bytes": 256}, "shared_bytes were 128, are 256"),
        ({"wide_loads": 3}, "wide_loads were 4, are 3"),
    ],
)
def test_a_kernel_that_got_worse_is_named(change: dict[str, int], sentence: str) -> None:
    assert regressions({KEY: GOOD}, {KEY: GOOD | change}) == [f"{', '.join(KEY)}: {sentence}"]


def test_a_kernel_that_got_better_passes() -> None:
    assert regressions({KEY: GOOD}, {KEY: GOOD | {"registers": 60, "wide_loads": 8, "loads": 30}}) == []


def test_table_and_kernels_must_be_the_same() -> None:
    assert "not in the table" in regressions({}, {KEY: GOOD})[0]
    assert "not launched" in regressions({KEY: GOOD}, {})[0]


def test_a_spill_is_named_whatever_the_table_says() -> None:
    assert spills({KEY: GOOD}) == []
    assert spills({KEY: GOOD | {"spill_bytes": 8}}) == [f"{', '.join(KEY)}: spills 8 bytes"]


def test_the_table_reads_back_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.aot.__main__.TABLE", tmp_path / "resources.json")
    rows = {KEY: GOOD, (*KEY[:2], "sm_120"): GOOD, ("a.b", *KEY[1:]): GOOD | {"registers": 1}}
    write(rows)
    _, again = read()
    assert again == rows
    assert list(again) == [("a.b", *KEY[1:]), KEY, (*KEY[:2], "sm_120")]


def test_the_committed_table_has_no_spills() -> None:
    _, table = read()
    assert spills(table) == []
    assert {arch for _, _, arch in table} == {"sm_80", "sm_89", "sm_90", "sm_120"}
