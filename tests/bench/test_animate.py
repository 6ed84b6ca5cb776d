"""`lami bench animate`: sides that agree, a whole run on a small model, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pytest
import torch
from small import small_model
from tiny import tiny_config

from lami.animation import Animator
from lami.bench.animate import NAIVE, TIMES, bench_animate
from lami.bench.animation_sides import NaiveSide, variants
from lami.bench.naive_animation import NaiveAnimation
from lami.checkpoint import save
from lami.cli.main import main
from lami.configs import load_config
from lami.data import read_image, to_tensor
from lami.data.synthetic import SyntheticFigures
from lami.errors import CheckpointError, ConfigError

CLIPS = SyntheticFigures((64, 64), 2, num_frames=4)
FRAMES = CLIPS.clip(0).frames(range(4))
SOURCE = CLIPS.clip(1).frames([0])[0]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save(small_model(), tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


@pytest.mark.parametrize("count", sorted(TIMES))
def test_the_naive_composition_animates_as_we_do(count: int) -> None:
    torch.manual_seed(0)
    model = small_model(enabled=count > 0, **({"times": TIMES[count]} if count else {}))
    results = list(Animator(model, SOURCE, "absolute", precision="fp32").animate(FRAMES))
    naive = NaiveAnimation(model, to_tensor(SOURCE)[None], TIMES[count])
    for frame, result in zip(FRAMES, results, strict=True):
        image, time = naive(to_tensor(frame)[None])
        torch.testing.assert_close(image[0], result.moved.prediction, rtol=0, atol=1e-4)
        assert time == pytest.approx(result.selected_time)


def test_files_and_figures_of_a_run(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the extra lami[bench] is not installed")
    out = tmp_path / "out"
    result = bench_animate(checkpoint, times=(3, 0), frames=2, rounds=2, device="cpu", output=out)
    written = json.loads((out / "animate.json").read_text())
    assert written["machine"]["versions"]["torch"] == str(torch.__version__)
    assert {"commit", "dirty"} <= written["machine"].keys()
    assert written["command"]
    assert [(case["size"], len(case["times"])) for case in written["cases"]] == [(64, 0), (64, 3)]
    for case in result.cases:
        naive, exact, rounded = case.sides
        assert [side.name for side in case.sides] == [NAIVE, "ours, fp32", "ours, bf16"]
        for side in case.sides:
            assert len(side.seconds) == len(side.latency) == 2
            assert side.peak_bytes > 0
            assert side.parts["decoder"] > 0
            assert (side.parts["ViT"] > 0) == bool(case.times)
        assert case.speedups(naive) == [1, 1]
        assert naive.difference == 0
        assert exact.difference < 1e-5
        assert exact.other_times == 0
        assert exact.difference < rounded.difference < 2 / 255
    assert read_image(out / "animate-64.png").std() > 10
    table = capsys.readouterr().out
    assert "frames/s" in table
    assert table.count(NAIVE) == 4


def test_sides_that_disagree_are_not_measured(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="the extra lami[bench] is not installed")
    results = NaiveSide.results
    monkeypatch.setattr(NaiveSide, "results", lambda side: (results(side)[0] + 0.002, results(side)[1]))
    with pytest.raises(CheckpointError, match=r"images of 'ours, fp32' differ from the naive composition's by 0\.0020"):
        bench_animate(checkpoint, times=(1,), frames=1, rounds=1, device="cpu", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sides_of_a_gpu() -> None:
    names = [variant.name for variant in variants(torch.device("cuda"), compile=True)]
    assert "ours, TF32" in names
    assert "ours, bf16, CUDA graphs" in names
    assert len(set(names)) == len(names) == 6


def test_hourglasses_lose_blocks_on_small_images(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra lami[bench] is not installed")
    config = tiny_config({"model.dense_motion.num_blocks": 4})
    result = bench_animate(config, sizes=(32, 64), times=(1,), frames=1, rounds=1, device="cpu", output=tmp_path)
    assert [(case.size, case.hourglass_blocks) for case in result.cases] == [(32, 3), (64, 4)]
    assert (tmp_path / "animate-32.png").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames must be 1 or more"),
        ({"rounds": 0}, "rounds must be 1 or more"),
        ({"times": (2,)}, "times must be some of 0, 1, 3, 5, 9"),
        ({"times": ()}, "times must be some of"),
        ({"sizes": (72,)}, "multiples of"),
    ],
)
def test_arguments_that_cannot_work(checkpoint: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    pytest.importorskip("matplotlib", reason="the extra lami[bench] is not installed")
    with pytest.raises(ConfigError, match=message):
        bench_animate(checkpoint, device="cpu", output=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_options_that_the_naive_composition_lacks_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra lami[bench] is not installed")
    with pytest.raises(ConfigError, match=r"needs interpolation\.fusion none"):
        bench_animate(tiny_config({"interpolation.fusion": "mean"}), sizes=(32,), device="cpu", output=tmp_path / "out")


def test_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    function = create_autospec(bench_animate)
    monkeypatch.setattr("lami.bench.animate.bench_animate", function)
    main(["bench", "animate", "--config", "taichi", "--sizes", "64", "128", "--compile", "--vit.weights", "random"])
    assert function.call_args.kwargs["target"] == load_config("taichi", {"vit.weights": "random"})
    assert function.call_args.kwargs["sizes"] == (64, 128)
    assert function.call_args.kwargs["compile"]
    main(["bench", "animate", "model.safetensors", "--times", "0", "3"])
    assert function.call_args.kwargs["target"] == Path("model.safetensors")
    assert function.call_args.kwargs["times"] == (0, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to measure"),
        (["model.safetensors", "--config", "taichi"], "say what to measure"),
        (["model.safetensors", "--vit.weights", "random"], "leave out --vit.weights"),
    ],
)
def test_command_lines_that_cannot_work(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench", "animate", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_images_are_compared_as_floats() -> None:
    """A step in 8 bits would hide small differences."""
    side = NaiveSide(small_model(enabled=False), SOURCE, FRAMES[:1], ())
    images, times = side.results()
    assert times == [0.0]
    assert images.dtype == torch.float32
    assert np.unique(images.numpy()).size > 300
