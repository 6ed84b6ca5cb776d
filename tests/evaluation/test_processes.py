"""Reconstruction and evaluation of many clips: several processes, what is skipped, clips that fail, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from launch import torchrun
from small import small_model

from lami.checkpoint import save
from lami.cli.main import main
from lami.configs.schema import Config
from lami.data import write_image
from lami.evaluation import Report, reconstruct

NAMES = ["0.png", "1.png", "2.png"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save(small_model(selector="random"), tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Strips of 2, 3 and 4 frames."""
    rng = np.random.default_rng(0)
    for frames, name in enumerate(NAMES, start=2):
        strip = rng.integers(0, 256, (64, 64 * frames, 3), dtype=np.uint8)
        write_image(tmp_path / "data" / "test" / name, strip)
    return tmp_path / "data"


def run(checkpoint: Path, data: Path, **options: Any) -> Report:
    config = Config.model_validate({"data": {"root": str(data), "frame_shape": 64}})
    return reconstruct(checkpoint, config, data.parent / "out", **{"device": "cpu", **options})


def command(checkpoint: Path, data: Path, output: Path) -> list[str]:
    files = ["--checkpoint", str(checkpoint), "--data", str(data), "-o", str(output)]
    return ["reconstruct", *files, "--device", "cpu", "--precision", "fp32", "--data.frame-shape", "64"]


def written(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def times(data: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in (data.parent / "out" / "png").iterdir()}


def test_processes_have_the_scores_of_one(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    """Also where candidate times are drawn at random."""
    report = run(checkpoint, data)
    done = torchrun(2, "-m", "lami", *command(checkpoint, data, tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert written(tmp_path / "two") == written(tmp_path / "out")
    assert written(tmp_path / "out")["l1"] == report.l1
    assert done.stdout == report.table() + "\n"
    for kind in ("png", "panels"):
        for name in NAMES:
            one, two = (tmp_path / folder / kind / f"{name}.png" for folder in ("out", "two"))
            assert one.read_bytes() == two.read_bytes()


def test_processes_evaluate_as_one(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    arguments = [*command(checkpoint, data, tmp_path / "two")[1:], "--keypoints", f"precomputed:{_points(tmp_path)}"]
    done = torchrun(2, "-m", "lami", "evaluate", *arguments)
    assert done.returncode == 0, done.stderr
    main(["evaluate", *arguments, "--output", str(tmp_path / "one")])
    for name in ("evaluation.json", "evaluation.md", "frames.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    means = json.loads((tmp_path / "one" / "evaluation.json").read_text())["means"]
    assert (means["frames"], means["akd"], means["mkr"]) == (9, 5.0, 0.0)


def _points(folder: Path) -> str:
    """Files of real and generated points, which are 5 pixels apart."""
    paths = folder / "real.csv", folder / "generated.csv"
    for path, x, y in zip(paths, (0, 3), (0, 4), strict=True):
        lines = [f"{name},{frame},0,{x},{y}" for count, name in enumerate(NAMES, start=2) for frame in range(count)]
        path.write_text("\n".join(["clip,frame,point,x,y", *lines]) + "\n")
    return ",".join(map(str, paths))


def test_only_what_changed_is_rebuilt(checkpoint: Path, data: Path) -> None:
    report, before = run(checkpoint, data, limit=2), times(data)
    whole = run(checkpoint, data, batch_size=3)
    assert whole.clips[:2] == report.clips
    assert {name: time for name, time in times(data).items() if name in before} == before

    before = times(data)
    (data.parent / "out" / "panels" / "1.png.png").write_bytes(b"")
    assert run(checkpoint, data) == whole
    assert [name for name, time in sorted(times(data).items()) if time != before[name]] == ["1.png"]

    before = times(data)
    run(checkpoint, data, times=(0.2,))
    assert all(time != before[name] for name, time in times(data).items())


def test_clips_that_fail(checkpoint: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = run(checkpoint, data)
    strip = data / "test" / "1.png"
    strip.write_bytes(strip.read_bytes()[:500])
    report = run(checkpoint, data)
    assert [score.name for score in report.clips] == ["0.png", "2.png"]
    assert report.clips == (whole.clips[0], whole.clips[2])
    assert list(report.failed) == ["1.png"]
    [failure] = written(data.parent / "out")["failed"]
    assert failure == {"name": "1.png", "error": report.failed["1.png"]}
    assert str(strip) in failure["error"]
    assert "1.png" in report.table().splitlines()[-1]
    with pytest.raises(SystemExit) as stop:
        main(command(checkpoint, data, data.parent / "out"))
    assert stop.value.code == 1
    assert "lami: error: 1 of 3 failed, the first is 1.png" in capsys.readouterr().err
