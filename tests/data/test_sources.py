from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from lami.configs.schema import DataConfig
from lami.data.images import write_image
from lami.data.sources import ClipSets, ClipSource, find_clips
from lami.errors import DataError


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def names(clips: Iterable[ClipSource]) -> list[str]:
    return [clip.name for clip in clips]


def find(root: Path, **options: object) -> ClipSets:
    return find_clips(DataConfig(root=str(root), **options), (64, 64))


def test_train_and_test_folders_of_mixed_clips(tmp_path: Path) -> None:
    touch(tmp_path / "train", "10.mp4", "9.mov", "2.gif", "1.png", "notes.txt", ".hidden.mp4")
    write_image(tmp_path / "train" / "3.mp4" / "0.png", np.zeros((4, 4, 3), np.uint8))
    touch(tmp_path / "train" / "no frames", "notes.txt")
    touch(tmp_path / "test", "a.webm")
    clips = find(tmp_path, frame_shape=(4, 4))
    assert names(clips.train) == ["1.png", "2.gif", "3.mp4", "9.mov", "10.mp4"]
    assert names(clips.test) == ["a.webm"]
    assert len(clips.train[2].open()) == 1


@pytest.mark.parametrize(("present", "missing"), [("train", "test"), ("test", "train")])
def test_one_of_the_two_folders_is_enough(tmp_path: Path, present: str, missing: str) -> None:
    touch(tmp_path / present, "a.mp4")
    clips = find(tmp_path)
    assert names(getattr(clips, present)) == ["a.mp4"]
    assert getattr(clips, missing) == ()


def test_automatic_split_is_stable_and_complete(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}.mp4" for i in range(20)))
    clips = find(tmp_path, test_fraction=0.25)
    assert (len(clips.train), len(clips.test)) == (15, 5)
    assert {*names(clips.train), *names(clips.test)} == {f"{i}.mp4" for i in range(20)}
    assert names(clips.test) == sorted(names(clips.test), key=lambda name: int(name[:-4]))
    assert names(find(tmp_path, test_fraction=0.25).test) == names(clips.test)
    assert names(clips.test) != [f"{i}.mp4" for i in range(5)]


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_automatic_split_leaves_neither_side_empty(tmp_path: Path, fraction: float) -> None:
    touch(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    clips = find(tmp_path, test_fraction=fraction)
    assert min(len(clips.train), len(clips.test)) == 1


def test_automatic_split_keeps_identities_together(tmp_path: Path) -> None:
    touch(tmp_path, *(f"id{i}#{j}.mp4" for i in range(6) for j in range(3)))
    clips = find(tmp_path, test_fraction=0.5)
    assert (len(clips.train), len(clips.test)) == (9, 9)
    assert not {clip.identity for clip in clips.train} & {clip.identity for clip in clips.test}


def test_identity_is_the_name_up_to_the_first_hash() -> None:
    def identity(name: str) -> str:
        return ClipSource(name, lambda: pytest.fail("the name alone must do")).identity

    assert identity("id1#video#3.mp4") == "id1"
    assert identity("id12#a.mp4") == "id12"
    assert identity("plain.name.mp4") == "plain.name"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root"):
        find_clips(DataConfig(), (64, 64))
    with pytest.raises(DataError, match="nowhere does not exist"):
        find(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no clips"):
        find(tmp_path)
    touch(tmp_path, "only.mp4")
    with pytest.raises(DataError, match="one identity"):
        find(tmp_path)
    touch(tmp_path / "train", "notes.txt")
    with pytest.raises(DataError, match=r"train holds no clips.*\.mp4"):
        find(tmp_path)


def test_strips_need_a_frame_shape(tmp_path: Path) -> None:
    touch(tmp_path / "train", "a.png")
    with pytest.raises(DataError, match=r"data\.frame_shape"):
        find(tmp_path)
