from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from small import small_model

from lami import demo
from lami.checkpoint import save
from lami.data import VideoReader, read_image
from lami.errors import CheckpointError, DataError


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save(small_model(), tmp_path / "demo.safetensors")
    return tmp_path / "demo.safetensors"


def test_files_and_scores(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_FRAMES", 12)
    demo.run_demo(tmp_path / "out" / "demo", weights)
    with VideoReader(tmp_path / "out" / "demo" / "animation.mp4") as video:
        assert len(video) == 12
        assert video.rate == 25
        assert video.width > 3 * 224
    panel = read_image(tmp_path / "out" / "demo" / "panel.png")
    assert panel.shape[1] > 6 * 160
    with pytest.raises(DataError, match=r"animation\.mp4 exists already"):
        demo.run_demo(tmp_path / "out" / "demo", weights)
    printed = capsys.readouterr().out
    assert "copying the source" in printed
    assert "animating the source" in printed


def test_panel_shows_the_largest_displacements() -> None:
    clip = demo.SyntheticFigures((64, 64), 1, num_frames=40, start=7).clip(0)
    keypoints = clip.keypoints(range(40))
    distance = ((keypoints - keypoints[0]) ** 2).sum(-1) ** 0.5
    chosen = demo._farthest(clip)
    assert distance.mean(axis=1).argmax() in chosen
    assert len(chosen) == 4
    assert all(later - earlier >= 5 for earlier, later in pairwise(chosen))


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weight file"):
        demo.run_demo(tmp_path / "demo", tmp_path / "none.safetensors")
    assert not (tmp_path / "demo").exists()
