"""Packed clips are the clips that were packed."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lami.configs.schema import AugmentationConfig, DataConfig
from lami.data import DrawBatches, PackSettings, TestClips, TrainingPairs, find_clips, pack, write_image
from lami.data import packed as packed_module
from lami.data.packed import PackedClip
from lami.data.shards import FrameFormat
from lami.errors import DataError

MakeVideo = Callable[..., Path]

AUGMENTED = AugmentationConfig(horizontal_flip=0.5, time_flip=0.5, rotation=5, crop=(40, 40))


def noise(number: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)


@pytest.fixture
def mixed(tmp_path: Path, make_video: MakeVideo) -> DataConfig:
    """Strips, frame folders and videos of 48x64; of some identities several."""
    train = tmp_path / "data" / "train"
    train.mkdir(parents=True)
    make_video("a.mp4", rate=Fraction(30000, 1001)).rename(train / "id2#a.mp4")
    make_video("b.gif", frames=7).rename(train / "id3#b.gif")
    for clip in range(3):
        write_image(train / f"id1#{clip}.png", noise(clip, (48, 64 * 5)))
        for frame in range(12):
            suffix = "jpg" if clip == 1 else "png"
            write_image(train / f"id2#frames{clip}" / f"{frame}.{suffix}", noise(100 * clip + frame, (48, 64)))
    write_image(tmp_path / "data" / "test" / "t.png", noise(9, (48, 64 * 3)))
    return DataConfig(root=str(tmp_path / "data"), frame_shape=(48, 64))


def pack_into(
    output: Path, data: DataConfig, size: tuple[int, int] | None = None, format: FrameFormat = "png"
) -> DataConfig:
    """Configuration of the packed data, in shards of one or few clips."""
    pack(data, output, PackSettings(size=size, format=format, shard_size=120_000, frame_shape=data.frame_shape), 1)
    return data.model_copy(update={"root": str(output), "frame_shape": None})


@pytest.mark.parametrize("id_sampling", [False, True])
def test_draws_from_png_equal_those_from_the_original(tmp_path: Path, mixed: DataConfig, id_sampling: bool) -> None:
    mixed = mixed.model_copy(update={"augmentation": AUGMENTED, "id_sampling": id_sampling, "repeats": 5})
    packed = pack_into(tmp_path / "packed", mixed)
    assert len(list((tmp_path / "packed" / "train").glob("*.tar"))) > 2
    before, after = (TrainingPairs(find_clips(c, (1, 1)).train, c, (32, 48), seed=3) for c in (mixed, packed))
    assert before.epoch_length == after.epoch_length == 5 * (3 if id_sampling else 8)
    for draw in range(2 * before.epoch_length):
        first, second = before[draw], after[draw]
        assert first["name"] == second["name"]
        assert torch.equal(first["source"], second["source"])
        assert torch.equal(first["driving"], second["driving"])


def test_frames_keep_order_rate_and_name(tmp_path: Path, mixed: DataConfig) -> None:
    packed = pack_into(tmp_path / "packed", mixed)
    for original, copy in zip(find_clips(mixed, (1, 1)).train, find_clips(packed, (1, 1)).train, strict=True):
        first, second = original.open(), copy.open()
        assert (first.name, first.rate, len(first)) == (second.name, second.rate, len(second))
        np.testing.assert_array_equal(first.frames([3, 0, 3]), second.frames([3, 0, 3]))
        with pytest.raises(IndexError, match=f"frame {len(first)} does not exist"):
            second.frames([len(first)])


@pytest.mark.parametrize(("format", "tolerance"), [("png", 0.502 / 255), ("jpg", 0.2)])
def test_packed_at_training_size(tmp_path: Path, mixed: DataConfig, format: FrameFormat, tolerance: float) -> None:
    packed = pack_into(tmp_path / "packed", mixed, (24, 24), format)
    before, after = (TestClips(find_clips(config, (1, 1)).test, (24, 24))[0] for config in (mixed, packed))
    assert len(before) == len(after) == 3
    for first, second in zip(before, after, strict=True):
        assert (first - second).abs().max() <= tolerance


def test_real_clips(tmp_path: Path, shared_data: Path) -> None:
    for path in sorted((shared_data / "actions" / "train").glob("*.jpg"))[:3]:
        (tmp_path / "data" / "train").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "train" / path.name).write_bytes(path.read_bytes())
    data = DataConfig(root=str(tmp_path / "data"), frame_shape=(64, 64))
    packed = pack_into(tmp_path / "packed", data)
    before, after = (TrainingPairs(find_clips(c, (1, 1)).train, c, (64, 64)) for c in (data, packed))
    for draw in range(9):
        assert torch.equal(before[draw]["source"], after[draw]["source"])


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_data_loaders_draw_the_same(tmp_path: Path, mixed: DataConfig, start: str) -> None:
    packed = pack_into(tmp_path / "packed", mixed)
    pairs = TrainingPairs(find_clips(packed, (1, 1)).train, packed, (48, 64))
    expected = [pairs[draw]["source"] for draw in range(24)]  # shards are open before the fork
    loader = DataLoader(
        pairs,
        batch_sampler=DrawBatches(0, 24, 4),
        num_workers=2,
        multiprocessing_context=multiprocessing.get_context(start),
    )
    assert torch.equal(torch.cat([batch["source"] for batch in loader]), torch.stack(expected))


def test_a_shard_is_opened_once(tmp_path: Path, mixed: DataConfig) -> None:
    packed_module._open.cache_clear()  # of other tests
    clips = find_clips(pack_into(tmp_path / "packed", mixed), (1, 1)).train
    assert len({clip.path for clip in clips}) > 3
    before = len(os.listdir("/proc/self/fd"))
    for clip in clips:
        clip.open().frames([0])
        clip.open().frames([1])
    assert len(os.listdir("/proc/self/fd")) - before == len({clip.path for clip in clips})
    packed_module._open.cache_clear()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_clip_is_small_to_send(tmp_path: Path, mixed: DataConfig) -> None:
    clip = find_clips(pack_into(tmp_path / "packed", mixed), (1, 1)).train[-1].open()
    assert isinstance(clip, PackedClip)
    clip.frames([0])
    again = pickle.loads(pickle.dumps(clip))
    np.testing.assert_array_equal(again.frames([0]), clip.frames([0]))


def test_missing_and_truncated_shards_are_named(tmp_path: Path, mixed: DataConfig) -> None:
    packed = pack_into(tmp_path / "packed", mixed)
    clips = find_clips(packed, (1, 1)).train
    shard = tmp_path / "packed" / "train" / "shard-00001.tar"
    affected = next(clip for clip in clips if clip.path == shard).open()
    os.truncate(shard, 700)  # while training
    with pytest.raises(DataError, match=r"shard-00001\.tar cannot be read \(it ends too early\)"):
        affected.frames([len(affected) - 1])
    with pytest.raises(DataError, match=r"shard-00001\.tar cannot be read \(700 bytes instead of \d+\)"):
        find_clips(packed, (1, 1))
    shard.unlink()
    with pytest.raises(DataError, match=r"shard-00001\.tar cannot be read \(No such file"):
        find_clips(packed, (1, 1))
    shard.with_suffix(".json").unlink()
    with pytest.raises(DataError, match=r"shard-00001\.json cannot be read \(No such file"):
        find_clips(packed, (1, 1))


def test_damaged_bytes_are_named(tmp_path: Path, mixed: DataConfig) -> None:
    packed = pack_into(tmp_path / "packed", mixed)
    shard = tmp_path / "packed" / "train" / "shard-00000.tar"
    clip = find_clips(packed, (1, 1)).train[0].open()
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(DataError, match=r"shard-00000\.tar cannot be read \(frame 2 of id1#0\.png"):
        clip.frames([2])
    index = shard.with_suffix(".json")
    index.write_text(index.read_text()[:-20])
    with pytest.raises(DataError, match=r"shard-00000\.json is damaged"):
        find_clips(packed, (1, 1))
