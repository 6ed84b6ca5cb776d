from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_config

from lami.bench.data import bench_data
from lami.configs.schema import Config
from lami.data import PackSettings, pack, write_image
from lami.errors import ConfigError, DataError


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Two clips of three frames in `tmp_path/frames`."""
    for clip in ("train/a", "train/b"):
        for frame in range(3):
            image = np.random.default_rng(frame).integers(0, 256, (32, 32, 3), np.uint8)
            write_image(tmp_path / "frames" / clip / f"{frame}.png", image)
    changes = {"data.synthetic": None, "data.root": str(tmp_path / "frames"), "data.augmentation.rotation": 5}
    return tiny_config(changes)


def test_folders_are_compared(tmp_path: Path, config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    settings = PackSettings(size=None, format="png", shard_size=10**6, frame_shape=None)
    pack(config.data, tmp_path / "packed", settings, 1)
    roots = [tmp_path / "frames", tmp_path / "packed"]
    result = bench_data(config, roots, workers=[0, 1], seconds=0.3, output=tmp_path / "result.json")
    names = [str(root) for root in roots]
    assert [(t.root, t.workers) for t in result.throughputs] == [(name, n) for n in (0, 1) for name in names]
    for throughput in result.throughputs:
        assert min(throughput.rounds) <= throughput.pairs_per_second <= max(throughput.rounds)
        assert len(throughput.rounds) == 5
    frames, packed = result.costs
    frame = (tmp_path / "frames" / "train" / "a" / "0.png").stat().st_size
    assert packed.bytes_read == pytest.approx(2 * frame, rel=0.1)
    assert (frames.open_files, packed.open_files) == (0, 1)
    assert frames.milliseconds > frames.milliseconds_without_augmentation > 0
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["costs"][1]["bytes_read"] == packed.bytes_read
    assert written["settings"]["augmentation"]["rotation"] == 5
    assert {"commit", "processor", "load"} <= written["machine"].keys()
    table = capsys.readouterr().out
    assert table.count(names[0]) == table.count(names[1]) == 3
    ratio = np.median(np.divide(result.throughputs[1].rounds, result.throughputs[0].rounds))
    assert f"{ratio:.1f}x" in table


def test_without_folders_the_configuration_counts(config: Config) -> None:
    assert [t.root for t in bench_data(config, seconds=0.1).throughputs] == [config.data.root]
    assert [t.root for t in bench_data(tiny_config(), seconds=0.1).throughputs] == ["generated"]


def test_bad_input(tmp_path: Path, config: Config) -> None:
    for arguments in ({"seconds": 0}, {"workers": []}, {"workers": [-1]}):
        with pytest.raises(ConfigError, match="must be positive"):
            bench_data(config, **arguments)
    with pytest.raises(ConfigError, match="named twice"):
        bench_data(config, ["a", "a"])
    with pytest.raises(DataError, match="nowhere does not exist"):
        bench_data(config, [tmp_path / "nowhere"])
