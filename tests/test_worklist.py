"""Lists of work: what is skipped and what is made again, failures, interruptions, shares."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lami.data.files import atomic_path
from lami.errors import CheckpointError, ConfigError, DataError
from lami.processes import Processes
from lami.worklist import Outcome, Task, digest, work_through, write_report

ALONE = Processes(0, 1, torch.device("cpu"))
SETTINGS = {"mode": "relative"}


def copy_of(source: Path, folder: Path) -> Task:
    """Copies a file, and says how long it is."""

    def make() -> dict[str, Any]:
        text = source.read_text()
        if "damaged" in text:
            raise DataError(f"{source} is damaged, copy it again")
        with atomic_path(folder / source.name) as partial:
            partial.write_text(text)
        return {"length": len(text)}

    return Task(source.name, make, (source,), (folder / source.name,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "new" / "out"


@pytest.fixture
def tasks(tmp_path: Path, folder: Path) -> list[Task]:
    sources = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]
    for source in sources:
        source.write_text(f"content of {source.name}")
    return [copy_of(source, folder) for source in sources]


def statuses(tasks: Sequence[Task], folder: Path | None, settings: dict[str, Any] = SETTINGS) -> list[str]:
    return [outcome.status for outcome in work_through(tasks, folder, settings, ALONE)]


def test_what_is_done_is_skipped(tasks: list[Task], folder: Path) -> None:
    made = work_through(tasks, folder, SETTINGS, ALONE)
    assert [(outcome.name, outcome.status, outcome.result) for outcome in made] == [
        (name, "made", {"length": 16}) for name in ("a.txt", "b.txt", "c.txt")
    ]
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.txt")}
    skipped = work_through(tasks, folder, SETTINGS, ALONE)
    assert skipped == [Outcome(o.name, "skipped", o.seconds, o.result) for o in made]
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.txt")} == before


def touch_both(tmp_path: Path, folder: Path) -> None:
    os.utime(tmp_path / "b.txt", (0, 0))
    os.utime(folder / "b.txt", (0, 0))


def truncate_output(tmp_path: Path, folder: Path) -> None:
    (folder / "b.txt").write_text("content")


def remove_output(tmp_path: Path, folder: Path) -> None:
    (folder / "b.txt").unlink()


def change_input(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "b.txt").write_text("content of another")


def remove_record(tmp_path: Path, folder: Path) -> None:
    (folder / "records" / "b.txt.json").unlink()


def truncate_record(tmp_path: Path, folder: Path) -> None:
    record = folder / "records" / "b.txt.json"
    record.write_text(record.read_text()[:40])


def empty_record(tmp_path: Path, folder: Path) -> None:
    (folder / "records" / "b.txt.json").write_text("[]")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (touch_both, "skipped"),
        (truncate_output, "made"),
        (remove_output, "made"),
        (change_input, "made"),
        (remove_record, "made"),
        (truncate_record, "made"),
        (empty_record, "made"),
    ],
)
def test_what_is_stale_is_made_again(
    tasks: list[Task], tmp_path: Path, folder: Path, change: Callable[[Path, Path], None], status: str
) -> None:
    statuses(tasks, folder)
    change(tmp_path, folder)
    assert statuses(tasks, folder) == ["skipped", status, "skipped"]
    assert (folder / "b.txt").read_text() == (tmp_path / "b.txt").read_text()
    assert statuses(tasks, folder) == ["skipped"] * 3


def test_other_settings(tasks: list[Task], folder: Path) -> None:
    statuses(tasks, folder)
    assert statuses(tasks, folder, {"mode": "absolute"}) == ["made"] * 3


def test_a_failure_does_not_stop_the_others(
    tasks: list[Task], tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.txt").write_text("damaged")
    (tmp_path / "b.txt").unlink()
    first, second, third = work_through(tasks, folder, SETTINGS, ALONE)
    assert (first.status, second.status, third.status) == ("failed", "failed", "made")
    assert first.error == f"{tmp_path / 'a.txt'} is damaged, copy it again"
    assert second.error == f"{tmp_path / 'b.txt'} does not exist, check the path"
    assert [record.getMessage() for record in caplog.records] == [
        f"a.txt failed: {first.error}",
        f"b.txt failed: {second.error}",
    ]
    assert json.loads((folder / "records" / "a.txt.json").read_text())["error"] == first.error
    (tmp_path / "a.txt").write_text("whole again")
    assert statuses(tasks, folder) == ["made", "failed", "skipped"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(RuntimeError("out of\nmemory"), "RuntimeError: out of memory"), (CheckpointError("damaged"), "damaged")],
)
def test_failures_of_all_kinds_are_one_line(tasks: list[Task], error: Exception, sentence: str) -> None:
    def fail() -> dict[str, Any]:
        raise error

    outcomes = work_through([Task("x", fail), *tasks], None, SETTINGS, ALONE)
    assert outcomes[0].error == sentence
    assert [outcome.status for outcome in outcomes] == ["failed", "made", "made", "made"]


def test_errors_of_the_options_end_the_run(tasks: list[Task], folder: Path) -> None:
    def fail() -> dict[str, Any]:
        raise ConfigError("no such mode")

    with pytest.raises(ConfigError, match="no such mode"):
        work_through([Task("x", fail), *tasks], folder, SETTINGS, ALONE)
    assert not folder.exists()


def test_a_folder_that_cannot_be_written(tasks: list[Task], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/out/report\.json cannot be written \(Not a directory\)"):
        work_through(tasks, tmp_path / "file" / "out", SETTINGS, ALONE)


def test_without_a_folder_nothing_is_kept(tasks: list[Task], tmp_path: Path) -> None:
    assert statuses(tasks, None) == statuses(tasks, None) == ["made"] * 3


def test_leftovers_of_killed_processes_are_cleared_away(tasks: list[Task], folder: Path) -> None:
    for path in (".a.0123abcd.txt", ".report.0123abcd.json", "records/.a.txt.0123abcd.json", ".mine.txt"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    (folder / "report.json").touch()
    statuses(tasks, folder)
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == sorted(
        [".mine.txt", "a.txt", "a.txt.json", "b.txt", "b.txt.json", "c.txt", "c.txt.json"]
    )


def test_report(folder: Path) -> None:
    write_report(folder, {"rows": []}, Processes(1, 2, torch.device("cpu")))
    assert not folder.exists()
    write_report(folder, {"rows": []}, ALONE)
    assert list(json.loads((folder / "report.json").read_text())) == ["lami", "rows"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("swallowed", [False, True])
def test_signals_drop_the_task_in_hand(tasks: list[Task], folder: Path, number: int, swallowed: bool) -> None:
    def interrupted() -> dict[str, Any]:
        with atomic_path(folder / "x.txt") as partial:
            partial.write_text("half")
            try:
                signal.raise_signal(number)
            except KeyboardInterrupt:
                signal.raise_signal(number)  # another one while files are cleared away
                if not swallowed:
                    raise
        return {}

    before = signal.getsignal(number)
    given = [tasks[0], Task("x", interrupted, outputs=(folder / "x.txt",)), *tasks[1:]]
    with pytest.raises(KeyboardInterrupt):
        work_through(given, folder, SETTINGS, ALONE)
    assert signal.getsignal(number) == before
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "records", *["x.txt"] * swallowed]
    assert statuses(tasks, folder) == ["skipped", "made", "made"]


@settings(max_examples=25)
@given(number=st.integers(0, 12), size=st.integers(1, 5))
def test_shares_make_up_the_list_and_random_numbers_are_the_tasks_own(number: int, size: int) -> None:
    def draw() -> dict[str, Any]:
        return {"drawn": float(torch.rand(()))}

    tasks = [Task(f"task {n}", draw) for n in range(number)]
    shares: list[list[Outcome]] = []

    class Recorded(Processes):
        """Gathers the shares of the ranks before it, as if they had all come."""

        def gather(self, item: Any) -> Any:
            shares.append(item)
            return [[Outcome(task.name, "made", 0, {}) for task in tasks], *shares]

    state = torch.get_rng_state()
    for rank in range(size):
        outcomes = work_through(tasks, None, {}, Recorded(rank, size, torch.device("cpu")))
    assert torch.equal(torch.get_rng_state(), state)
    assert sum(map(len, shares)) == number
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    alone = work_through(tasks, None, {}, ALONE)
    assert [(o.name, o.result) for o in outcomes] == [(o.name, o.result) for o in alone]
    assert len({outcome.result["drawn"] for outcome in alone}) == number


def test_digest_of_a_folder(tmp_path: Path) -> None:
    def write(name: str, *files: tuple[str, str]) -> str:
        for file, content in files:
            (tmp_path / name / file).parent.mkdir(exist_ok=True)
            (tmp_path / name / file).write_text(content)
        return digest(tmp_path / name)

    assert write("a", ("1.png", "x"), ("2.png", "y")) == write("b", ("2.png", "y"), ("1.png", "x"))
    assert digest(tmp_path / "a") != write("c", ("1.png", "y"), ("2.png", "x"))
    assert digest(tmp_path / "a") != write("d", ("1.png", "x"), ("3.png", "y"))
