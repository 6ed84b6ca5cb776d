from __future__ import annotations

from pathlib import Path

import pytest

from lami.data.pairs import Pair, read_pairs
from lami.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b#1.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "videos" / name).touch()
    return tmp_path


def test_list_of_fomm_and_plain_list(folder: Path) -> None:
    videos = folder / "videos"
    (folder / "fomm.csv").write_text("distance,source,driving,frame\n0.3,a.mp4,b#1.mp4,0\n0.2,b#1.mp4,a.mp4,4\n")
    assert read_pairs(folder / "fomm.csv", root=videos) == (
        Pair(videos / "a.mp4", videos / "b#1.mp4"),
        Pair(videos / "b#1.mp4", videos / "a.mp4"),
    )
    (videos / "plain.csv").write_bytes(b"\xef\xbb\xbfsource,driving\r\na.mp4,b#1.mp4\r\n")
    assert read_pairs(videos / "plain.csv") == (Pair(videos / "a.mp4", videos / "b#1.mp4"),)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("source,target\na.mp4,a.mp4\n", "no column 'driving'"),
        ("", "empty"),
        ("source,driving\n", "lists no pairs"),
        ("source,driving\na.mp4,a.mp4\na.mp4,none.mp4\n", "line 3 .*none.mp4 does not exist"),
        ("source,driving\na.mp4\n", "line 2 .*driving"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, content: str, cause: str) -> None:
    (folder / "videos" / "pairs.csv").write_text(content)
    with pytest.raises(DataError, match=cause):
        read_pairs(folder / "videos" / "pairs.csv")


def test_missing_and_binary_lists(folder: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_pairs(folder / "none.csv")
    (folder / "binary.csv").write_bytes(b"\xff\xfe\x00source")
    with pytest.raises(DataError, match="not a CSV"):
        read_pairs(folder / "binary.csv")


def test_what_is_missing_may_stay_in_the_list(folder: Path) -> None:
    (folder / "videos" / "pairs.csv").write_text("source,driving,output\na.mp4,none.mp4,\na.mp4,a.mp4,c.mp4\n")
    videos = folder / "videos"
    assert read_pairs(videos / "pairs.csv", strict=False) == (
        Pair(videos / "a.mp4", videos / "none.mp4"),
        Pair(videos / "a.mp4", videos / "a.mp4", "c.mp4"),
    )
    with pytest.raises(DataError, match=r"line 2 .*source .*a\.mp4 does not exist"):
        read_pairs(videos / "pairs.csv", root=folder, strict=False)
