from __future__ import annotations

import logging
import pickle
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lami.configs.schema import AugmentationConfig, DataConfig, JitterConfig, SyntheticConfig
from lami.data.clips import AnnotatedClip, open_clip
from lami.data.dataset import DrawBatches, TestClips, TrainingPair, TrainingPairs
from lami.data.images import read_image, to_tensor, write_image
from lami.data.sources import ClipSource, find_clips
from lami.errors import DataError

AUGMENTED = DataConfig(
    repeats=2,
    augmentation=AugmentationConfig(horizontal_flip=0.5, time_flip=0.5, rotation=10, jitter=JitterConfig(hue=0.1)),
)


@dataclass
class LevelClip:
    """Frame n of 50 has grey level n; remembers which frames were asked for."""

    name: str
    rate: Fraction | None = None
    size: tuple[int, int] = (8, 12)
    asked: list[list[int]] = field(default_factory=list)

    def __len__(self) -> int:
        return 50

    def frames(self, indices: Iterable[int]) -> list[np.ndarray]:
        self.asked.append(list(indices))
        return [np.full((*self.size, 3), index, np.uint8) for index in self.asked[-1]]


def broken(name: str) -> LevelClip:
    raise DataError(f"{name} is damaged, copy it again")


def sources(*names: str, damaged: Iterable[str] = ()) -> tuple[ClipSource, ...]:
    return tuple(ClipSource(name, partial(broken if name in damaged else LevelClip, name)) for name in names)


def same(first: TrainingPair, second: TrainingPair) -> bool:
    equal = torch.equal(first["source"], second["source"]) and torch.equal(first["driving"], second["driving"])
    return equal and first["name"] == second["name"]


def frame_number(image: torch.Tensor) -> int:
    return round(float(image[0, 0, 0]) * 255)


def test_a_draw_depends_on_seed_and_number_only() -> None:
    clips = sources("a", "b", "c")
    pairs, again = (TrainingPairs(clips, AUGMENTED, (8, 12), seed=1) for _ in range(2))
    in_order = [pairs[draw] for draw in range(15)]
    for draw in np.random.default_rng(0).permutation(15):
        assert same(again[int(draw)], in_order[draw])
    other = TrainingPairs(clips, AUGMENTED, (8, 12), seed=2)
    assert not all(same(other[draw], in_order[draw]) for draw in range(15))


def test_items_are_pairs_of_the_wanted_size() -> None:
    pair = TrainingPairs(sources("a"), DataConfig(), (16, 10))[0]
    assert set(pair) == {"source", "driving", "name"}
    for image in (pair["source"], pair["driving"]):
        assert image.shape == (3, 16, 10)
        assert image.dtype == torch.float32
        assert 0 <= image.min() <= image.max() <= 1


def test_every_epoch_has_every_clip_as_often_as_repeats_say() -> None:
    clips = sources(*"abcdefg")
    pairs = TrainingPairs(clips, DataConfig(repeats=3), (8, 12))
    assert pairs.epoch_length == 21
    orders = [[pairs[draw]["name"] for draw in range(21 * epoch, 21 * epoch + 21)] for epoch in range(2)]
    for order in orders:
        assert Counter(order) == dict.fromkeys("abcdefg", 3)
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])


def test_overfitting_draws_the_same_few_pairs_in_every_epoch() -> None:
    few = TrainingPairs(sources(*"abcdefg"), AUGMENTED.model_copy(update={"overfit": 3}), (8, 12))
    ever_new = TrainingPairs(sources(*"abcdefg"), AUGMENTED, (8, 12))
    assert few.epoch_length == ever_new.epoch_length == 14
    for draw in range(30):
        assert same(few[draw], ever_new[draw % 3])
    assert not same(few[0], few[1])


def test_frames_are_uniform_sorted_and_only_two_are_read() -> None:
    clip = LevelClip("a")
    pairs = TrainingPairs([ClipSource("a", lambda: clip)], DataConfig(), (8, 12))
    drawn = [pairs[draw] for draw in range(400)]
    numbers = np.array([[frame_number(pair["source"]), frame_number(pair["driving"])] for pair in drawn])
    assert clip.asked == numbers.tolist()
    assert (numbers[:, 0] <= numbers[:, 1]).all()
    assert (numbers[:, 0] == numbers[:, 1]).any()  # with replacement
    assert set(numbers.ravel()) == set(range(50))
    assert abs(numbers.mean() - 24.5) < 2


def test_time_flip_exchanges_the_frames_half_of_the_time() -> None:
    config = DataConfig(augmentation=AugmentationConfig(time_flip=0.5))
    pairs = TrainingPairs(sources("a"), config, (8, 12))
    turned = sum(
        frame_number(pair["source"]) > frame_number(pair["driving"]) for pair in (pairs[draw] for draw in range(300))
    )
    assert 110 < turned < 185


def test_identities_are_drawn_instead_of_clips() -> None:
    clips = sources("ann#1.mp4", "ann#2.mp4", "ann#3.mp4", "anna#1.mp4", "bob.mp4")
    pairs = TrainingPairs(clips, DataConfig(id_sampling=True, repeats=60), (8, 12))
    assert pairs.epoch_length == 180
    drawn = Counter(pairs[draw]["name"] for draw in range(180))
    assert drawn["anna#1.mp4"] == drawn["bob.mp4"] == 60
    assert all(drawn[f"ann#{i}.mp4"] > 8 for i in (1, 2, 3))


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_in_a_loader_goes_on_exactly(workers: int) -> None:
    pairs = TrainingPairs(sources(*"abc"), AUGMENTED, (8, 12))
    loader = DataLoader(pairs, batch_sampler=DrawBatches(8, 20, 4), num_workers=workers)
    batches = list(loader)
    assert len(loader) == len(batches) == 3
    for i, batch in enumerate(batches):
        expected = [pairs[8 + 4 * i + j] for j in range(4)]
        assert torch.equal(batch["source"], torch.stack([pair["source"] for pair in expected]))
        assert torch.equal(batch["driving"], torch.stack([pair["driving"] for pair in expected]))
        assert batch["name"] == [pair["name"] for pair in expected]


def test_a_damaged_clip_is_replaced_and_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    clips = sources("a", "bad", "c", damaged=["bad"])
    pairs = TrainingPairs(clips, DataConfig(), (8, 12))
    with caplog.at_level(logging.WARNING, logger="lami.data"):
        names = [pairs[draw]["name"] for draw in range(60)]
    assert set(names) == {"a", "c"}
    assert [record.getMessage() for record in caplog.records] == [
        "training clip bad is left out: bad is damaged, copy it again"
    ]
    again = TrainingPairs(clips, DataConfig(), (8, 12))
    assert same(again[37], pairs[37])


def test_frames_of_different_sizes_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, size in enumerate([4, 5, 6, 7]):
        write_image(tmp_path / "odd" / f"{number}.png", np.zeros((size, 4, 3), np.uint8))
    odd = ClipSource("odd", partial(open_clip, tmp_path / "odd"))
    pairs = TrainingPairs([odd, *sources("a")], DataConfig(), (8, 12))
    for draw in range(20):
        assert pairs[draw]["source"].shape == (3, 8, 12)
    assert "odd has frames of different sizes" in caplog.text


def test_nothing_that_can_be_read() -> None:
    pairs = TrainingPairs(sources("a", "b", damaged="ab"), DataConfig(), (8, 12))
    with pytest.raises(DataError, match="none of 2 training clips"):
        pairs[0]
    with pytest.raises(DataError, match="no training clips"):
        TrainingPairs((), DataConfig(), (8, 12))
    with pytest.raises(DataError, match="no test clips"):
        TestClips((), (8, 12))


def test_test_clips_are_opened_and_read_one_frame_at_a_time() -> None:
    clip = LevelClip("b", Fraction(25))
    clips = TestClips((*sources("bad", damaged=["bad"]), ClipSource("b", lambda: clip)), (4, 6))
    assert len(clips) == 2
    with pytest.raises(DataError, match="bad is damaged"):
        clips[0]
    opened = clips[1]
    assert (opened.name, opened.rate, len(opened)) == ("b", Fraction(25), 50)
    frames = iter(opened)
    first = next(frames)
    assert clip.asked == [[0]]
    assert first.shape == (3, 4, 6)
    assert [frame_number(frame) for frame in (first, *frames)] == list(range(50))


def test_synthetic_figures() -> None:
    config = DataConfig(synthetic=SyntheticConfig(num_clips=3, num_test_clips=2, num_frames=4))
    clips = find_clips(config, (32, 48))
    assert (len(clips.train), len(clips.test)) == (3, 2)
    assert len({clip.name for clip in clips.train + clips.test}) == 5
    pairs = TrainingPairs(clips.train, config, (32, 48))
    pair = pairs[0]
    assert pair["source"].shape == (3, 32, 48)
    assert pair["source"].std() > 0.02
    assert same(pickle.loads(pickle.dumps(pairs))[0], pair)
    assert not torch.equal(
        next(iter(TestClips(clips.test, (32, 48))[0])), to_tensor(clips.train[0].open().frames([0])[0])
    )
    assert len(list(TestClips(clips.test, (32, 48))[1])) == 4


def test_true_control_points_belong_to_the_frames() -> None:
    config = DataConfig(synthetic=SyntheticConfig(num_clips=3, num_frames=8))
    clips = find_clips(config, (32, 32)).train
    pairs = TrainingPairs(clips, config, (32, 32), annotated=True)
    for draw in range(4):
        item = pairs[draw]
        clip = next(source for source in clips if source.name == item["name"]).open()
        assert isinstance(clip, AnnotatedClip)
        pictures = [to_tensor(picture) for picture in clip.frames(range(8))]
        numbers = [
            next(n for n, picture in enumerate(pictures) if torch.equal(picture, item[key]))
            for key in ("source", "driving")
        ]
        torch.testing.assert_close(item["control_points"], torch.from_numpy(clip.control_points(numbers)).float())
    assert "control_points" not in TrainingPairs(clips, config, (32, 32))[0]


def test_real_strips(shared_data: Path) -> None:
    config = DataConfig(root=str(shared_data / "actions"), frame_shape=(64, 64))
    clips = find_clips(config, (64, 64))
    assert (len(clips.train), len(clips.test)) == (57, 15)
    pairs = TrainingPairs(clips.train, config, (64, 64))
    pair = pairs[5]
    strip = to_tensor(read_image(shared_data / "actions" / "train" / pair["name"]))
    frames = strip.split(64, dim=2)
    matches = [[i for i, frame in enumerate(frames) if torch.equal(frame, pair[key])] for key in ("source", "driving")]
    assert matches[0][0] <= matches[1][-1]
    test = TestClips(clips.test, (32, 32))[0]
    assert sum(frame.shape == (3, 32, 32) for frame in test) == len(test)


def test_real_videos(shared_data: Path) -> None:
    config = DataConfig(root=str(shared_data / "faces" / "driving"))
    clips = find_clips(config, (64, 96))
    pair = TrainingPairs(clips.train, config, (64, 96))[0]
    assert pair["driving"].shape == (3, 64, 96)
    assert pair["driving"].std() > 0.05
