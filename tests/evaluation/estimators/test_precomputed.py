"""Files of keypoints and embeddings: what is written comes back, what is wrong is one sentence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lami.errors import DataError
from lami.evaluation.estimators import Frame, make_identity_estimator, make_keypoint_estimator
from lami.evaluation.estimators.precomputed import PrecomputedIdentity, PrecomputedKeypoints

DOCS = Path(__file__).resolve().parents[3] / "docs" / "evaluation.md"
IMAGE = np.zeros((4, 4, 3), np.uint8)
POINTS = """clip,frame,point,x,y,present
a.mp4,0,1,3,4.5,1
a.mp4,0,0,1,2,1
a.mp4,2,0,,,0
a.mp4,2,1,7,8,1
b,5,0,,,0
b,5,1,,,0
"""
VECTORS = "clip,frame,u,v,w\na,0,1,2,3\na,1,,,\n"


def real(clip: str, number: int) -> Frame:
    return Frame(IMAGE, clip, number, generated=False)


def text(folder: Path, content: str, name: str = "points.csv") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def arrays(folder: Path, name: str = "points.npz", **content: Any) -> Path:
    path = folder / name
    np.savez(path, **content)
    return path


def test_keypoints_of_csv(tmp_path: Path) -> None:
    path = text(tmp_path, POINTS)
    estimator = PrecomputedKeypoints(path, path)
    found = estimator.keypoints(real("a.mp4", 0))
    assert found is not None
    np.testing.assert_array_equal(found.points, [[1, 2], [3, 4.5]])
    assert found.present.tolist() == [True, True]
    partly = estimator.keypoints(real("a.mp4", 2))
    assert partly is not None
    np.testing.assert_array_equal(partly.points[1], [7, 8])
    assert partly.present.tolist() == [False, True]
    assert estimator.keypoints(real("a.mp4", 1)) is None  # a frame that is not listed
    assert estimator.keypoints(real("b", 5)) is None  # no point is present
    assert estimator.keypoints(real("b.mp4", 5)) is None  # the name without suffix
    assert estimator.labels == ()


def test_npz_says_the_same_as_csv(tmp_path: Path) -> None:
    points = np.array([[[1, 2], [3, 4.5]], [[0, 0], [7, 8]], [[0, 0], [0, 0]]], np.float32)
    present = np.array([[True, True], [False, True], [False, False]])
    frames = {"clip": ["a.mp4", "a.mp4", "b"], "frame": [0, 2, 5]}
    from_csv = PrecomputedKeypoints(*[text(tmp_path, POINTS)] * 2)
    marked = arrays(tmp_path, points=points, present=present, labels=["head", "hand"], **frames)
    with_nan = arrays(tmp_path, "nan.npz", points=np.where(present[..., None], points, np.nan), **frames)
    for path in (marked, with_nan):
        estimator = PrecomputedKeypoints(path, path)
        for clip, number in (("a.mp4", 0), ("a.mp4", 1), ("a.mp4", 2), ("b", 5)):
            wanted, found = from_csv.keypoints(real(clip, number)), estimator.keypoints(real(clip, number))
            assert (wanted is None) == (found is None)
            if wanted is not None and found is not None:
                np.testing.assert_array_equal(found.points, wanted.points)
                np.testing.assert_array_equal(found.present, wanted.present)
    assert PrecomputedKeypoints(with_nan, marked).labels == ("head", "hand")


def test_real_and_generated_frames_have_files_of_their_own(tmp_path: Path) -> None:
    first = text(tmp_path, "clip,frame,point,x,y\na,0,0,1,1\n", "real.csv")
    second = text(tmp_path, "clip,frame,point,x,y\na,0,0,2,2\n", "generated.csv")
    estimator = make_keypoint_estimator(f"precomputed:{first},{second}")
    for generated, value in ((False, 1), (True, 2)):
        found = estimator.keypoints(Frame(IMAGE, "a", 0, generated))
        assert found is not None
        np.testing.assert_array_equal(found.points, [[value, value]])
    before = estimator.version
    second.write_text("clip,frame,point,x,y\na,0,0,2,3\n")
    after = PrecomputedKeypoints(first, second).version
    assert before != after
    assert before.split(",")[0] == after.split(",")[0]


def test_embeddings(tmp_path: Path) -> None:
    table = text(tmp_path, VECTORS)
    stored = arrays(tmp_path, clip=["a", "a"], frame=[0, 1], embeddings=[[1, 2, 3], [np.nan] * 3])
    for path in (table, stored):
        estimator = make_identity_estimator(f"precomputed:{path},{path}")
        np.testing.assert_array_equal(estimator.embedding(real("a.png", 0)), [1, 2, 3])
        assert estimator.embedding(real("a", 1)) is None  # nobody found
        assert estimator.embedding(real("a", 2)) is None  # not listed
        with pytest.raises(DataError, match="no entry for the clip c"):
            estimator.embedding(real("c", 0))


HEADER = "clip,frame,point,x,y,present\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("clip,frame,x,y\na,0,1,1\n", "first line must be clip,frame,point,x,y or"),
        (HEADER, "header only"),
        (HEADER + "a,0,0,1,1\n", "line 2 .* 5 columns instead of 6"),
        (HEADER + "a,0,0,1,1,1\na,0,0,2,2,1\n", "line 3 .* point 0 of frame 0 of a again"),
        (HEADER + "a,0,0,1,1,1\na,0,1,1,1,1\na,1,1,2,2,1\n", "1 of 2 points in frame 1 of a"),
        (HEADER + "a,-1,0,1,1,1\n", "'-1' for frame"),
        (HEADER + "a,0,1.5,1,1,1\n", "'1.5' for point"),
        (HEADER + "a,0,0,x,1,1\n", "'x' where a finite number"),
        (HEADER + "a,0,0,inf,1,1\n", "'inf' where a finite number"),
        (HEADER + "a,0,0,,1,1\n", "'' where a finite number"),
        (HEADER + "a,0,0,1,1,yes\n", "'yes' for present"),
    ],
)
def test_bad_keypoint_csv(tmp_path: Path, content: str, message: str) -> None:
    path = text(tmp_path, content)
    with pytest.raises(DataError, match=message):
        PrecomputedKeypoints(path, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("clip,frame\na,0\n", "first line must be clip,frame,0,1"),
        ("clip,frame,u\na,0,1\na,0,2\n", "frame 0 of a twice"),
        ("clip,frame,u,v\na,0,1,\n", "'' where a finite number"),
    ],
)
def test_bad_embedding_csv(tmp_path: Path, content: str, message: str) -> None:
    path = text(tmp_path, content)
    with pytest.raises(DataError, match=message):
        PrecomputedIdentity(path, path)


GOOD: dict[str, Any] = {"clip": ["a", "a"], "frame": [0, 1], "points": np.ones((2, 3, 2))}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": None}, "no array 'points'"),
        ({"points": np.ones((2, 3, 3))}, r"must be \(frames, points, 2\)"),
        ({"points": np.full((2, 3, 2), "1")}, "must hold numbers"),
        ({"points": np.ones((0, 3, 2)), "clip": np.array([], "U1"), "frame": np.array([], int)}, "is empty"),
        ({"points": np.full((2, 3, 2), np.inf)}, "frame 0 of a that are not finite"),
        ({"points": np.stack([np.ones((2, 3)), np.full((2, 3), np.nan)], axis=-1)}, "not finite"),
        ({"clip": [1, 2]}, "clip must hold strings"),
        ({"frame": [0.0, 1.0]}, "frame integers"),
        ({"frame": [0, 0]}, "frame 0 of a twice"),
        ({"frame": [0]}, "equally long"),
        ({"present": np.ones((2, 2), bool)}, "present and labels"),
        ({"present": np.full((2, 3), "1")}, "present and labels"),
        ({"labels": ["head"]}, "present and labels"),
        ({"clip": np.array(["a", "a"], dtype=object)}, "without pickles"),
    ],
)
def test_bad_npz(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = arrays(tmp_path, **{key: value for key, value in (GOOD | changes).items() if value is not None})
    with pytest.raises(DataError, match=message):
        PrecomputedKeypoints(path, path)


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    two = arrays(tmp_path, "two.npz", **GOOD | {"points": np.ones((2, 2, 2)), "labels": ["head", "hand"]})
    other = arrays(tmp_path, "other.npz", **GOOD | {"points": np.ones((2, 2, 2)), "labels": ["head", "foot"]})
    three = arrays(tmp_path, "three.npz", **GOOD)
    with pytest.raises(DataError, match=r"2 points a frame and .* 3"):
        PrecomputedKeypoints(two, three)
    with pytest.raises(DataError, match=r"labels of .* differ"):
        PrecomputedKeypoints(two, other)
    short, long = text(tmp_path, "clip,frame,u\na,0,1\n", "short.csv"), text(tmp_path, VECTORS, "long.csv")
    with pytest.raises(DataError, match=r"1 components an embedding and .* 3"):
        PrecomputedIdentity(short, long)


def test_files_that_are_none(tmp_path: Path) -> None:
    missing, other = tmp_path / "missing.csv", text(tmp_path, "{}", "points.json")
    broken, binary = text(tmp_path, "no archive", "broken.npz"), tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, message in (
        (missing, "does not exist"),
        (other, r"neither \.csv nor \.npz"),
        (broken, r"not a \.npz file"),
        (binary, "not a CSV file"),
    ):
        with pytest.raises(DataError, match=message):
            PrecomputedKeypoints(path, path)


def test_damaged_npz(tmp_path: Path) -> None:
    """Whatever byte is another: zipfile, zlib and numpy raise errors of many kinds."""
    path = tmp_path / "points.npz"
    np.savez_compressed(path, **{key: np.asarray(value) for key, value in GOOD.items() if value is not None})
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            PrecomputedKeypoints(path, path)
        except DataError as error:
            refused += str(path) in str(error)
    assert refused > len(whole) / 3 / 3
    encrypted = bytearray(whole)  # as its flags say
    encrypted[6] |= 1
    encrypted[whole.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(encrypted)
    with pytest.raises(DataError, match=r"not a \.npz file without pickles \(.*encrypted"):
        PrecomputedKeypoints(path, path)


def test_documented_openpose_conversion(tmp_path: Path) -> None:
    script = re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert script
    sure, unsure = [float(n) for n in range(75)], [0.5] * 75
    sure[5] = 0.0  # the confidence of point 1
    clip = tmp_path / "json" / "dance.mp4"
    clip.mkdir(parents=True)
    for number, people in ((0, [unsure, sure]), (12, [])):
        content = {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": values} for values in people]}
        (clip / f"dance_{number:012d}_keypoints.json").write_text(json.dumps(content))
    output = tmp_path / "points.csv"
    code = text(tmp_path, script[1], "convert.py")
    subprocess.run([sys.executable, str(code), str(tmp_path / "json"), str(output)], check=True)
    estimator = PrecomputedKeypoints(output, output)
    found = estimator.keypoints(real("dance.mp4", 0))
    assert found is not None
    assert np.flatnonzero(~found.present).tolist() == [1]
    np.testing.assert_array_equal(found.points[24], [72, 73])
    assert estimator.keypoints(real("dance.mp4", 12)) is None
