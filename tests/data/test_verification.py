from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lami.configs.schema import DataConfig
from lami.data import PackSettings, pack, verify, write_image
from lami.errors import DataError


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Three shards of a clip each for training, one for testing."""
    for clip in ("train/a", "train/b", "train/c", "test/d"):
        image = np.random.default_rng(ord(clip[-1])).integers(0, 256, (16, 16, 3), np.uint8)
        write_image(tmp_path / "data" / clip / "0.png", image)
    settings = PackSettings(size=None, format="png", shard_size=1, frame_shape=None)
    pack(DataConfig(root=str(tmp_path / "data")), tmp_path / "packed", settings, 1)
    return tmp_path / "packed"


def problems(packed: Path) -> dict[str, str]:
    return {str(path.relative_to(packed)): problem for path, problem in verify(packed).items()}


def test_what_was_packed_is_fine(packed: Path) -> None:
    assert problems(packed) == {}


def test_every_kind_of_damage_is_found(packed: Path) -> None:
    def files(name: str) -> Path:
        return packed / "train" / name

    flipped = bytearray(files("shard-00000.tar").read_bytes())
    flipped[600] ^= 1
    files("shard-00000.tar").write_bytes(flipped)
    assert problems(packed) == {"train/shard-00000.tar": "its bytes are not those that were packed"}
    files("shard-00001.tar").write_bytes(b"short")
    assert "has 5 bytes instead of" in problems(packed)["train/shard-00001.tar"]
    files("shard-00001.tar").unlink()
    assert "No such file" in problems(packed)["train/shard-00001.tar"]
    files("shard-00002.json").unlink()
    (packed / "test" / "shard-00000.json").write_text("{}")
    found = problems(packed)
    assert list(found) == [f"train/shard-0000{i}.tar" for i in range(3)] + ["test/shard-00000.tar"]
    assert "shard-00002.json cannot be read" in found["train/shard-00002.tar"]
    assert "is damaged" in found["test/shard-00000.tar"]


def test_an_index_with_wrong_places_is_found(packed: Path) -> None:
    path = packed / "train" / "shard-00000.json"
    index = json.loads(path.read_text())
    index["clips"][0]["frames"][0][0] += 1
    path.write_text(json.dumps(index))
    assert problems(packed) == {"train/shard-00000.tar": "its index belongs to another shard"}


def test_other_folders_are_refused(packed: Path) -> None:
    (packed / "report.json").write_text("no report")
    with pytest.raises(DataError, match=r"report\.json is damaged"):
        verify(packed)
    (packed / "report.json").unlink()
    with pytest.raises(DataError, match="not packed to the end"):
        verify(packed)
    shutil.rmtree(packed)
    with pytest.raises(DataError, match="is not a packed data set"):
        verify(packed)
