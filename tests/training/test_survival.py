"""What can happen to a run of hours: signals, kills, full disks, lost data. Each happens for real, to a process."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tiny import CHEAP, same, tiny_config

from lami.configs import dump_config
from lami.configs.schema import Config
from lami.data import VideoWriter
from lami.data.synthetic import SyntheticFigures

SETTINGS = {**CHEAP, "training.epochs": 10_000, "training.checkpoint_every": 2, "training.log_every": 1}
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., Config]:
    def make(name: str, **overrides: Any) -> Config:
        changes = {key.replace("__", "."): value for key, value in overrides.items()}
        return tiny_config({**SETTINGS, "training.output": str(tmp_path / name), **changes})

    return make


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `lami train` in a process group of its own."""
    running: list[subprocess.Popen[str]] = []

    def run(config: Config, *options: str, **keywords: Any) -> subprocess.Popen[str]:
        file = tmp_path / f"{Path(config.training.output).name}.yaml"
        file.write_text(dump_config(config))
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TRITON_")}
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "lami", "train", str(file), *options],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment | {"OMP_NUM_THREADS": "1"},
            **keywords,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_steps(config: Config, process: subprocess.Popen[str], number: int) -> None:
    """Until the log has that many entries."""
    log = Path(config.training.output) / "log.jsonl"
    until = time.monotonic() + 120
    while not log.is_file() or log.read_text().count("\n") < number:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.01)


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Exit code and the lines on stderr."""
    errors = process.communicate(timeout=120)[1]
    print(errors)
    return process.returncode, errors.splitlines()


def weights(config: Config, process: subprocess.Popen[str]) -> dict[str, Any]:
    """Those of a run that has to end well."""
    code, lines = ended(process)
    assert code == 0, lines
    return load_file(Path(config.training.output) / "model.safetensors")


def checkpoints(config: Config) -> list[str]:
    return sorted(path.name for path in (Path(config.training.output) / "checkpoints").glob("step-*"))


linux = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_end_writes_a_checkpoint(
    number: signal.Signals, configure: Callable[..., Config], start: Start
) -> None:
    """The signal goes to all processes of the group, as from a terminal."""
    config = configure("run", training__max_steps=400, training__workers=1, training__checkpoint_every=1000)
    process = start(config)
    wait_for_steps(config, process, 2)
    os.killpg(process.pid, number)
    code, lines = ended(process)
    assert code == 0, lines
    assert "Traceback" not in "".join(lines)
    (last,) = (line for line in lines if "stopped after step" in line)
    step = int(last.split("stopped after step ")[1].split()[0])
    assert last.endswith(f"stopped after step {step} of 400, which is saved; the same command with --resume goes on")
    assert checkpoints(config) == [f"step-{step:08d}.safetensors", f"step-{step:08d}.state.pt"]

    shorter = configure("run", training__max_steps=step + 2)
    whole = configure("whole", training__max_steps=step + 2)
    assert same(weights(shorter, start(shorter, "--resume")), weights(whole, start(whole)))


def test_a_full_disk_leaves_the_checkpoint_before(configure: Callable[..., Config], start: Start) -> None:
    config, whole = configure("run", training__max_steps=2), configure("whole", training__max_steps=4)
    weights(config, start(config))
    largest = (Path(config.training.output) / "checkpoints" / "step-00000002.state.pt").stat().st_size

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing fails instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 4096, largest - 4096))

    config = configure("run", training__max_steps=4)
    code, lines = ended(start(config, "--resume", preexec_fn=limit))
    assert code == 2, lines
    assert lines[-1].startswith("lami: error: the checkpoint of step 4 cannot be written to ")
    assert lines[-1].endswith("step 2 is intact: make room, then go on with --resume")
    assert checkpoints(config) == ["step-00000002.safetensors", "step-00000002.state.pt"]
    assert same(weights(config, start(config, "--resume")), weights(whole, start(whole)))


@linux
def test_logs_that_cannot_be_written_do_not_stop_a_run(configure: Callable[..., Config], start: Start) -> None:
    config, whole = configure("run", training__max_steps=3), configure("whole", training__max_steps=3)
    output = Path(config.training.output)
    output.mkdir()
    (output / "log.jsonl").symlink_to("/dev/full")
    process = start(config)
    code, lines = ended(process)
    assert code == 0, lines
    assert sum("logs and panels cannot be written" in line for line in lines) == 1
    assert same(load_file(output / "model.safetensors"), weights(whole, start(whole)))


def children(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@linux
def test_a_worker_that_dies_is_named(configure: Callable[..., Config], start: Start) -> None:
    config = configure("run", training__max_steps=4000, training__workers=1)
    process = start(config)
    wait_for_steps(config, process, 2)
    for child in children(process):
        os.kill(child, signal.SIGKILL)
    code, lines = ended(process)
    assert code == 2, lines
    assert lines[-1].startswith("lami: error: a process that loads data died, often for lack of memory; the same")


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """Two videos for training and two for testing."""
    figures = SyntheticFigures((32, 32), num_clips=2, num_frames=4)
    for clip in range(2):
        for split in ("train", "test"):
            (tmp_path / "data" / split).mkdir(parents=True, exist_ok=True)
            with VideoWriter(tmp_path / "data" / split / f"clip{clip}.mp4", 25) as writer:
                for frame in figures.clip(clip).frames(range(4)):
                    writer.write(frame)
    return {"root": str(tmp_path / "data"), "synthetic": None, "repeats": 5000}


def test_a_video_that_turns_unreadable_is_left_out(
    configure: Callable[..., Config], start: Start, tmp_path: Path, data: dict[str, Any]
) -> None:
    config = configure("run", data=data, training__max_steps=60, training__workers=1)
    process = start(config)
    wait_for_steps(config, process, 2)
    (tmp_path / "data" / "train" / "clip1.mp4").write_bytes(b"no longer a video")
    code, lines = ended(process)
    assert code == 0, lines
    (line,) = (line for line in lines if "is left out" in line)
    assert "training clip clip1.mp4 is left out: " in line
    assert "Traceback" not in "".join(lines)


def test_data_that_disappears_is_named(
    configure: Callable[..., Config], start: Start, tmp_path: Path, data: dict[str, Any]
) -> None:
    config = configure("run", data=data, training__max_steps=4000, training__workers=1, training__checkpoint_every=1000)
    process = start(config)
    wait_for_steps(config, process, 2)
    shutil.rmtree(tmp_path / "data")
    code, lines = ended(process)
    assert code == 2, lines
    assert "lami: error: none of 2 training clips can be read" in lines[-1]
    assert lines[-1].endswith("is saved, the same command with --resume goes on from there")
    assert "Traceback" not in "".join(lines)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_any_moment_a_run_goes_on(configure: Callable[..., Config], start: Start) -> None:
    """25 times, also while checkpoints are written, which is most of the time here."""
    settings = {"training__max_steps": 150, "training__checkpoint_every": 1, "training__keep_checkpoints": 2}
    whole = configure("whole", **settings)
    before = time.monotonic()
    wanted = weights(whole, start(whole))
    seconds = time.monotonic() - before
    config = configure("run", **settings)
    moments = random.Random(0)
    kills = 0
    while kills < 25:
        process = start(config, *(["--resume"] if list(Path(config.training.output).glob("checkpoints/*.pt")) else []))
        try:
            process.wait(moments.uniform(0.3, 1.2) * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        else:  # it was done before
            assert process.returncode == 0, process.communicate()[1]
            assert same(load_file(Path(config.training.output) / "model.safetensors"), wanted)
            shutil.rmtree(config.training.output)
    assert same(weights(config, start(config, "--resume")), wanted)
    assert not list((Path(config.training.output) / "checkpoints").glob(".*"))
