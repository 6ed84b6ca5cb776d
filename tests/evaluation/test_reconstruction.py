from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import small_model

from lami.checkpoint import load, save
from lami.configs.schema import Config, DataConfig
from lami.data import PackSettings, TestClips, find_clips, pack, read_image, to_uint8, write_image
from lami.errors import ConfigError, DataError
from lami.evaluation import ClipScore, Report, reconstruct

FRAMES = 6
CONFIG = Config.model_validate(
    {"data": {"synthetic": {"num_clips": 3, "num_test_clips": 2, "num_frames": FRAMES, "camera_motion": 0.5}}}
)


def checkpoint(folder: Path, **options: Any) -> Path:
    path = folder / "small.safetensors"
    save(small_model(**options), path)
    return path


@pytest.mark.parametrize("options", [{}, {"enabled": False}, {"background": False, "selector": "fixed"}])
def test_errors_are_those_of_the_definition(tmp_path: Path, options: dict[str, Any]) -> None:
    """Every frame, the first included, against `transfer` from the first frame with predicted background."""
    path = checkpoint(tmp_path, **options)
    report = reconstruct(path, CONFIG, device="cpu", batch_size=4)
    model = load(path, "cpu")
    clips = TestClips(find_clips(CONFIG.data, (64, 64)).test, (64, 64))
    assert [score.name for score in report.clips] == [clip.name for clip in clips]
    errors, copies = [], []
    for clip in clips:
        frames = torch.stack(list(clip))
        sources = frames[:1].expand_as(frames)
        with torch.inference_mode():
            background = model.predict_background(sources, frames)
            prediction = model.transfer(sources, frames, background=background).prediction
        errors.append(float((prediction - frames).abs().mean()))
        copies.append(float((sources - frames).abs().mean()))
    assert [score.l1 for score in report.clips] == pytest.approx(errors, abs=1e-5)
    assert [score.copy for score in report.clips] == pytest.approx(copies, abs=1e-6)


def test_packed_clips_give_the_same_errors(tmp_path: Path) -> None:
    path, data = checkpoint(tmp_path, background=False, selector="fixed"), tmp_path / "data"
    for frame in range(3):
        write_image(data / "test" / "clip" / f"{frame}.png", np.full((64, 64, 3), 60 * frame, np.uint8))
    settings = PackSettings(size=None, format="png", shard_size=10**6, frame_shape=None)
    pack(DataConfig(root=str(data)), tmp_path / "packed", settings, workers=1)
    before, after = (
        reconstruct(path, Config(data=DataConfig(root=str(root))), device="cpu") for root in (data, tmp_path / "packed")
    )
    assert before == after
    assert before.frames == 3


def test_longer_clips_count_more() -> None:
    report = Report((ClipScore("a", 1, 0.5, 0.1), ClipScore("b", 3, 0.1, 0.5)))
    assert report.frames == 4
    assert report.l1 == pytest.approx(0.2)
    assert report.copy == pytest.approx(0.4)
    assert [line.split()[-3:] for line in report.table().splitlines()[1:]] == [
        ["1", "0.5000", "0.1000"],
        ["3", "0.1000", "0.5000"],
        ["4", "0.2000", "0.4000"],
    ]


def test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = checkpoint(tmp_path, background=False, selector="fixed"), tmp_path / "new" / "out"
    report = reconstruct(path, CONFIG, output, limit=1, device="cpu", batch_size=4)
    [score] = report.clips
    assert score.name in capsys.readouterr().out
    [clip] = list(TestClips(find_clips(CONFIG.data, (64, 64)).test[:1], (64, 64)))
    frames = torch.stack(list(clip))
    with torch.inference_mode():
        prediction = load(path, "cpu").transfer(frames[:1].expand_as(frames), frames).prediction
    strip = read_image(output / "png" / f"{score.name}.png")
    assert np.abs(strip.astype(int) - np.concatenate(list(to_uint8(prediction)), axis=1)).max() <= 1
    assert read_image(output / "panels" / f"{score.name}.png").shape[1] > 6 * 160
    written = json.loads((output / "report.json").read_text())
    assert written["clips"] == [{"name": score.name, "frames": FRAMES, "l1": score.l1, "copy": score.copy}]
    assert written["l1"] == report.l1


def test_real_strips(shared_data: Path, tmp_path: Path) -> None:
    config = Config.model_validate({"data": {"root": str(shared_data / "actions"), "frame_shape": 64}})
    path = checkpoint(tmp_path, selector="fixed")
    report = reconstruct(path, config, tmp_path / "out", limit=1, device="cpu")
    [score] = report.clips
    assert score.name == "00000002.jpg"
    assert read_image(tmp_path / "out" / "png" / "00000002.jpg.png").shape == (64, 64 * score.frames, 3)
    assert 0 < score.copy < score.l1 < 1  # nothing is learned yet


def test_bad_input(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    with pytest.raises(ConfigError, match="limit"):
        reconstruct(path, CONFIG, limit=0)
    with pytest.raises(ConfigError, match="batch_size"):
        reconstruct(path, CONFIG, batch_size=0)
    (tmp_path / "data" / "test").mkdir(parents=True)
    (tmp_path / "data" / "test" / "broken.mp4").write_bytes(b"no video")
    config = Config.model_validate({"data": {"root": str(tmp_path / "data")}})
    with pytest.raises(DataError, match=r"broken\.mp4"):
        reconstruct(path, config, tmp_path / "out", device="cpu")
