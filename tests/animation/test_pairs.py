"""Lists of pairs: files and report, what is skipped, failures, exit codes, several processes, sudden ends."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from launch import ENVIRONMENT, torchrun, torchrun_command
from small import small_model

from lami.animation import PairResult, animate_file, animate_pairs
from lami.animation import pairs as pairs_module
from lami.checkpoint import save
from lami.cli.main import main
from lami.data import VideoReader, VideoWriter, write_image
from lami.errors import ConfigError, DataError, LamiError

FRAMES, LONG = 4, 200
COUNTS = ("made", "skipped", "failed")
Animate = Callable[..., tuple[PairResult, ...]]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save(small_model(background=False, selector="fixed"), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Inputs and a list of three pairs."""
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg"):
        write_image(tmp_path / name, rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))
    for name in ("wave.mp4", "jump.mp4"):
        with VideoWriter(tmp_path / name, 25) as writer:
            for _ in range(FRAMES):
                writer.write(rng.integers(0, 256, (32, 48, 3), dtype=np.uint8))
    write_list(tmp_path, "a.png,wave.mp4", "b.jpg,jump.mp4", "a.png,b.jpg")
    return tmp_path


@pytest.fixture
def animate(checkpoint: Path, folder: Path) -> Animate:
    def run(**options: Any) -> tuple[PairResult, ...]:
        return animate_pairs(checkpoint, folder / "pairs.csv", folder / "out", **{"device": "cpu", **options})

    return run


def write_list(folder: Path, *rows: str, columns: str = "source,driving") -> None:
    (folder / "pairs.csv").write_text("\n".join([columns, *rows, ""]))


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "report.json").read_text())


def statuses(results: tuple[PairResult, ...]) -> list[str]:
    return [row.status for row in results]


def contents(folder: Path) -> dict[str, bytes]:
    """All results, and whatever else lies there."""
    files = (path for path in folder.iterdir() if path.is_file() and path.name != "report.json")
    return {path.name: path.read_bytes() for path in files}


# --- results


def test_files_and_report(animate: Animate, checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Mock(side_effect=pairs_module.load_with_options)
    monkeypatch.setattr(pairs_module, "load_with_options", load)
    results = animate()
    load.assert_called_once()
    out = folder / "out"
    assert sorted(contents(out)) == ["a-b.png", "a-wave.mp4", "b-jump.mp4"]
    with VideoReader(out / "a-wave.mp4") as video:
        assert len(list(video)) == FRAMES
    single = animate_file(checkpoint, folder / "a.png", folder / "wave.mp4", folder / "single.mp4", device="cpu")
    assert single.read_bytes() == (out / "a-wave.mp4").read_bytes()

    written = report(folder)
    assert [written[status] for status in COUNTS] == [3, 0, 0]
    assert written["checkpoint"] == str(checkpoint)
    assert written["settings"]["mode"] == "relative"
    assert [PairResult(**row) for row in written["rows"]] == list(results)
    assert [(row.source, row.driving, row.output, row.frames, row.error) for row in results] == [
        (str(folder / "a.png"), str(folder / "wave.mp4"), "a-wave.mp4", FRAMES, None),
        (str(folder / "b.jpg"), str(folder / "jump.mp4"), "b-jump.mp4", FRAMES, None),
        (str(folder / "a.png"), str(folder / "b.jpg"), "a-b.png", 1, None),
    ]
    assert all(row.seconds > 0 for row in results)


def test_only_what_changed_is_made_again(animate: Animate, checkpoint: Path, folder: Path) -> None:
    animate()
    before = contents(folder / "out")
    assert statuses(animate(batch_size=2)) == ["skipped"] * 3
    assert [report(folder)[status] for status in COUNTS] == [0, 3, 0]
    video = folder / "out" / "b-jump.mp4"
    video.write_bytes(before[video.name][:-100])
    assert statuses(animate()) == ["skipped", "made", "skipped"]
    write_list(folder, "b.jpg,wave.mp4", "a.png,wave.mp4", "b.jpg,jump.mp4", "a.png,b.jpg")
    assert statuses(animate()) == ["made", "skipped", "skipped", "skipped"]
    assert {name: content for name, content in contents(folder / "out").items() if name in before} == before
    assert statuses(animate(size="source")) == ["made"] * 4
    with VideoReader(video) as result:
        assert (result.width, result.height) == (30, 40)


def test_crops(animate: Animate, folder: Path) -> None:
    animate()
    cropped = animate(crop="0,0,20,20", crop_driving="centre", size="source")
    assert statuses(cropped) == ["made"] * 3
    assert statuses(animate(crop=[0, 0, 20, 20], crop_driving="centre", size="source")) == ["skipped"] * 3
    with VideoReader(folder / "out" / "a-wave.mp4") as video:
        assert (video.width, video.height) == (20, 20)
    write_image(folder / "a.png", np.zeros((19, 50, 3), np.uint8))
    failed = animate(crop="0,0,20,20", crop_driving="centre", size="source")
    assert statuses(failed) == ["failed", "skipped", "failed"]
    assert "a.png, which is 50 pixels wide and 19 high" in str(failed[0].error)


def test_another_checkpoint(animate: Animate, folder: Path, tmp_path: Path) -> None:
    animate()
    before = contents(folder / "out")
    torch.manual_seed(1)
    save(small_model(background=False, selector="fixed"), tmp_path / "other.safetensors")
    again = animate_pairs(tmp_path / "other.safetensors", folder / "pairs.csv", folder / "out", device="cpu")
    assert statuses(again) == ["made"] * 3
    assert all(content != before[name] for name, content in contents(folder / "out").items())


def test_rows_that_fail(animate: Animate, folder: Path) -> None:
    (folder / "broken.mp4").write_bytes((folder / "wave.mp4").read_bytes()[:300])
    write_list(folder, "a.png,none.mp4", "a.png,broken.mp4", "none.png,wave.mp4", "a.png,wave.mp4", "a.png,b.jpg")
    results = animate()
    assert statuses(results) == ["failed", "failed", "failed", "made", "made"]
    assert sorted(contents(folder / "out")) == ["a-b.png", "a-wave.mp4"]
    for row, name in zip(results, ("none.mp4", "broken.mp4", "none.png"), strict=False):
        assert row.frames is None
        assert row.error is not None
        assert name in row.error
    assert [row["error"] for row in report(folder)["rows"]] == [row.error for row in results]
    (folder / "wave.mp4").rename(folder / "none.mp4")
    assert statuses(animate()) == ["made", "failed", "failed", "failed", "skipped"]


def test_random_choices_do_not_depend_on_what_is_skipped(animate: Animate, folder: Path) -> None:
    options = {"selector": "random", "times": (0.1, 0.5, 0.9)}
    animate(**options)
    before = contents(folder / "out")
    (folder / "out" / "b-jump.mp4").unlink()
    assert statuses(animate(**options)) == ["skipped", "made", "skipped"]
    assert contents(folder / "out") == before


# --- names


def test_names_of_the_list(animate: Animate, folder: Path) -> None:
    rows = ("a.png,wave.mp4,first.mp4", "a.png,wave.mp4,more/second.gif", "a.png,jump.mp4,")
    write_list(folder, *rows, columns="source,driving,output")
    assert [row.output for row in animate()] == ["first.mp4", "more/second.gif", "a-jump.mp4"]
    with VideoReader(folder / "out" / "more" / "second.gif") as video:
        assert len(video) == FRAMES
    assert statuses(animate()) == ["skipped"] * 3


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        (["a.png,wave.mp4", "b.jpg,jump.mp4", "a.png,wave.mp4"], "rows 1 and 3 of .* would both write a-wave.mp4"),
        (["a.png,wave.mp4", "sub/a.png,wave.mp4"], "rows 1 and 2 of .* would both write a-wave.mp4"),
        (["none.png,none.mp4", "a.png,nothing.mp4"], "line 2 of .* does not exist"),
        (["a.png,wave.mp4,../x.mp4"], "output ../x.mp4; give a name inside"),
        (["a.png,wave.mp4,/x.mp4"], "output /x.mp4; give a name inside"),
    ],
)
def test_lists_that_cannot_work(animate: Animate, folder: Path, rows: list[str], cause: str) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a.png").write_bytes((folder / "a.png").read_bytes())
    write_list(folder, *rows, columns="source,driving,output")
    with pytest.raises(DataError, match=cause):
        animate()
    assert not (folder / "out").exists()


def test_inputs_are_not_overwritten(checkpoint: Path, folder: Path) -> None:
    (folder / "a-wave.mp4").write_bytes((folder / "wave.mp4").read_bytes())
    write_list(folder, "a.png,wave.mp4", "b.jpg,a-wave.mp4")
    with pytest.raises(DataError, match="would overwrite the input"):
        animate_pairs(checkpoint, folder / "pairs.csv", folder, device="cpu")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"mode": "avd"}, ConfigError),
        ({"mode": "absolute", "best_frame": True}, ConfigError),
        ({"times": (0.2, 0.4)}, ConfigError),
        ({"selector": "eq4", "weights_vit": "none.pth"}, LamiError),
        ({"batch_size": 0}, ConfigError),
        ({"crop_driving": "left"}, ConfigError),
    ],
)
def test_options_that_cannot_work_end_the_run(
    animate: Animate, folder: Path, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        animate(**options)
    assert not list(folder.glob("out/**/*.*"))


def test_a_loaded_model_has_its_options(checkpoint: Path, folder: Path) -> None:
    with pytest.raises(ConfigError, match="leave these options out"):
        animate_file(small_model(), folder / "a.png", folder / "wave.mp4", folder / "x.mp4", selector="eq4")


# --- command line, processes and ends


def command(checkpoint: Path, folder: Path) -> list[str]:
    files = ["--checkpoint", str(checkpoint), "--pairs", str(folder / "pairs.csv"), "-o", str(folder / "out")]
    return ["animate", *files, "--device", "cpu", "--precision", "fp32"]


def test_exit_codes(checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(command(checkpoint, folder))
    (folder / "wave.mp4").unlink()
    with pytest.raises(SystemExit) as stop:
        main(command(checkpoint, folder))
    assert stop.value.code == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("lami: error: 1 of 3 failed, the first is a-wave.mp4 (")
    assert "report.json tells of all" in error
    (folder / "jump.mp4").unlink()
    (folder / "b.jpg").unlink()
    with pytest.raises(SystemExit) as stop:
        main(command(checkpoint, folder))
    assert stop.value.code == 2


def test_processes_share_the_rows(animate: Animate, checkpoint: Path, folder: Path) -> None:
    write_list(folder, *[f"{s},{d}" for s in ("a.png", "b.jpg") for d in ("wave.mp4", "jump.mp4", "none.mp4")])
    animate()
    alone, rows = contents(folder / "out"), report(folder)["rows"]
    (folder / "out").rename(folder / "alone")
    done = torchrun(2, "-m", "lami", *command(checkpoint, folder))
    assert done.returncode == 1
    assert contents(folder / "out") == alone
    for row, expected in zip(report(folder)["rows"], rows, strict=True):
        assert {**row, "seconds": 0} == {**expected, "seconds": 0}
    # torchrun itself says more about a process that ends with an error.
    assert done.stderr.count("lami: error: 2 of 6 failed, the first is a-none.mp4") == 1
    assert done.stderr.count("-none.mp4 failed: ") == 2


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def long_video(folder: Path) -> None:
    with VideoWriter(folder / "long.mp4", 25) as writer:
        for _ in range(LONG):
            writer.write(np.zeros((32, 48, 3), np.uint8))


def test_sigterm_leaves_nothing_half_written(checkpoint: Path, folder: Path) -> None:
    long_video(folder)
    write_list(folder, "a.png,wave.mp4", "a.png,long.mp4")
    out = folder / "out"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "lami", *command(checkpoint, folder)],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: any(out.glob(".a-long.*.mp4")))
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error.endswith("lami: interrupted\n")
    assert sorted(contents(out)) == ["a-wave.mp4"]
    assert not (out / "report.json").exists()
    assert json.loads((out / "records" / "a-wave.mp4.json").read_text())["result"] == {"frames": FRAMES}


def kill(process: subprocess.Popen[Any]) -> None:
    """With those that it started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for number in (process.pid, *map(int, children)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of torchrun in /proc")
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_any_moment(animate: Animate, checkpoint: Path, folder: Path, processes: int) -> None:
    long_video(folder)
    for number in range(3):
        write_image(folder / f"s{number}.png", np.full((40, 40, 3), 80 * number, np.uint8))
    write_list(folder, *[f"s{number}.png,{driving}.mp4" for number in range(3) for driving in ("wave", "long")])
    animate()
    whole = contents(folder / "out")
    (folder / "out").rename(folder / "whole")
    rng = random.Random(processes)
    records = folder / "out" / "records"
    killed = 0
    for _ in range(3):
        known = len(list(records.glob("*.json")))
        process = subprocess.Popen(
            torchrun_command(processes, "-m", "lami", *command(checkpoint, folder)),
            env=ENVIRONMENT,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and len(list(records.glob("*.json"))) == known:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.5))
        if process.poll() is None:
            kill(process)
            killed += 1
    assert killed
    done = torchrun(processes, "-m", "lami", *command(checkpoint, folder))
    assert done.returncode == 0, done.stderr
    assert contents(folder / "out") == whole
    written = report(folder)
    assert written["made"] + written["skipped"] == 6
    assert written["skipped"] > 0
    assert [row["frames"] for row in written["rows"]] == [FRAMES, LONG] * 3
