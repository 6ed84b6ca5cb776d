"""Curves of training runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="the extra lami[bench] is not installed")

from benchmarks import curves
from lami.data import read_image


def test_runs_are_compared_by_their_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, last in (("a", 2.0), ("b", 3.0)):
        (tmp_path / name).mkdir()
        values = [10.0, 9.0, 8.0, 7.0, last, last + 1]
        lines = [json.dumps({"step": step, "total": value}) for step, value in enumerate(values, 1)]
        (tmp_path / name / "log.jsonl").write_text("\n".join(lines) + "\n")
    picture = tmp_path / "curves.png"
    arguments = [f"one={tmp_path / 'a'}", f"two={tmp_path / 'b'}", "-o", str(picture), "--losses", "total"]
    assert curves.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["total, mean over the last third of each run", "  one  2.5000", "  two  3.5000"]
    assert read_image(picture).std() > 5


def test_a_run_without_label_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curves.main([str(tmp_path), "-o", str(tmp_path / "x.png")]) == 2
    assert "has no label" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
