"""Instruction counts: what is wrong is named; counting itself runs in `make counts`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.instructions import __main__ as instructions
from benchmarks.ops.catalogue import NAMES, load


def test_growth_and_missing_counts_are_wrong() -> None:
    baseline = {"warp, forward": 1.0, "fit_tps, forward": 2.0, "gone, forward": 1.0}
    found = {"warp, forward": 1.11, "fit_tps, forward": 2.19, "new, forward": 1.0}
    assert instructions.compare(found, baseline) == [
        "warp, forward executes 11 % more instructions",
        "new, forward has no baseline",
        "gone, forward was not counted",
    ]
    assert instructions.compare({"warp, forward": 0.5}, {"warp, forward": 1.0}) == []


def test_every_op_has_a_baseline() -> None:
    stored = json.loads(instructions.BASELINE.read_text())["instructions"]
    ops = [name for name in NAMES if load(name).op is None]
    assert set(stored) == {f"{op}, {name}" for op in ops for name in ("forward", "backward")}


def test_one_sentence_names_the_op_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {"warp, forward": 1.0}
    monkeypatch.setattr(instructions, "BASELINE", tmp_path / "baseline.json")
    monkeypatch.setattr(instructions, "count", lambda: counts)
    assert instructions.main(["--update"]) == 0
    assert instructions.main([]) == 0
    capsys.readouterr()
    counts["warp, forward"] = 1.5
    assert instructions.main([]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "warp, forward executes 50 % more instructions" in said
    assert "--update" in said


def test_without_valgrind_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    assert instructions.main([]) == 2
    assert "needs valgrind: install it" in capsys.readouterr().err


def test_dumps_are_read(tmp_path: Path) -> None:
    asked, other = tmp_path / "callgrind.out.1", tmp_path / "callgrind.out"
    asked.write_text("desc: Trigger: Client Request: warp, forward\nfn=x\n1 2\ntotals: 1234\n")
    other.write_text("desc: Trigger: Program termination\ntotals: 5\n")
    assert instructions._read(asked) == ("warp, forward", 1234)
    assert instructions._read(other) is None
