from __future__ import annotations

import logging

import pytest

from lami import progress
from lami.progress import track


def test_lines_where_there_is_no_terminal(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO, "lami"):
        assert list(track([5, 6, 7], description="counting")) == [5, 6, 7]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert lines[0].startswith("counting: 1 of 3, ")
    assert lines[0].endswith(" left")
    assert lines[2].startswith("counting: 3 done in ")


def test_lines_are_rare(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lami"):
        assert len(list(track(iter(range(1000))))) == 1000
    assert [record.getMessage().split(" in ")[0] for record in caplog.records] == ["working: 1000 done"]


def test_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert list(track(range(4), description="drawing")) == [0, 1, 2, 3]
    shown = capsys.readouterr()
    assert "drawing" in shown.err
    assert not shown.out


def test_other_processes_are_silent(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with caplog.at_level(logging.INFO, "lami"):
        assert list(track([1, 2])) == [1, 2]
    assert not caplog.records
