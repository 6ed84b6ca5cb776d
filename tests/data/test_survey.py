"""What a data set holds, before training."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lami.configs.schema import DataConfig, SyntheticConfig
from lami.data import VideoWriter, pack, write_image
from lami.data.shards import PackSettings
from lami.data.survey import ClipFacts, survey
from lami.errors import DataError


def write_video(path: Path, frames: int, size: tuple[int, int], rate: Fraction) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, rate) as writer:
        for number in range(frames):
            writer.write(np.full((*size, 3), 8 * number, np.uint8), number / rate)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_video(tmp_path / "train" / "anna#1.mp4", 5, (32, 48), Fraction(30000, 1001))
    for number in range(3):
        write_image(tmp_path / "train" / "anna#2" / f"{number}.png", np.full((16, 16, 3), number, np.uint8))
    (tmp_path / "train" / "ben.mp4").write_bytes(b"no video")
    write_image(tmp_path / "train" / "carl" / "0.png", np.zeros((16, 16, 3), np.uint8))
    write_image(tmp_path / "train" / "carl" / "1.png", np.zeros((16, 20, 3), np.uint8))
    write_image(tmp_path / "test" / "dora" / "0.png", np.zeros((20, 16, 3), np.uint8))
    return tmp_path


def test_every_kind_of_clip_and_what_is_wrong(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    sets = survey(DataConfig(root=str(folder)))
    assert list(sets) == ["train", "test"]
    assert sets["train"].clips == (
        ClipFacts("anna#1.mp4", "anna", 5, (32, 48), Fraction(30000, 1001)),
        ClipFacts("anna#2", "anna", 3, (16, 16), None),
    )
    assert sorted(sets["train"].left_out) == ["ben.mp4", "carl"]
    assert "ben.mp4" in sets["train"].left_out["ben.mp4"]
    assert sets["train"].left_out["carl"] == "carl has frames of different sizes, make them equal"
    assert sets["test"].clips == (ClipFacts("dora", "dora", 1, (20, 16), None),)
    assert sorted(folder.rglob("*")) == before


def test_packed_sets_hold_what_was_packed(folder: Path, tmp_path: Path) -> None:
    settings = PackSettings(size=(8, 8), format="png", shard_size=10**6, frame_shape=None)
    pack(DataConfig(root=str(folder)), tmp_path / "packed", settings, workers=1)
    sets = survey(DataConfig(root=str(tmp_path / "packed")))
    assert [(clip.name, clip.frames, clip.size) for clip in sets["train"].clips][:2] == [
        ("anna#1.mp4", 5, (8, 8)),
        ("anna#2", 3, (8, 8)),
    ]


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no clips"):
        survey(DataConfig(root=str(tmp_path)))
    with pytest.raises(DataError, match="figures are drawn, not read"):
        survey(DataConfig(synthetic=SyntheticConfig()))
