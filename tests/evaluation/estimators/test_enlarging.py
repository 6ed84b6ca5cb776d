"""Points found in enlarged frames are where they are in the frames themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lami.errors import ConfigError
from lami.evaluation.estimators import Frame, Keypoints
from lami.evaluation.estimators.enlarging import EnlargedIdentity, EnlargedKeypoints


class Centroid:
    """The centre of brightness."""

    name, version, labels = "centroid", "1", ("centre",)

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def keypoints(self, frame: Frame) -> Keypoints | None:
        self.sizes.append(frame.image.shape)
        weight = frame.image.mean(axis=2)
        if not weight.any():
            return None
        y, x = np.mgrid[: weight.shape[0], : weight.shape[1]]
        points = np.array([[(x * weight).sum(), (y * weight).sum()]]) / weight.sum()
        return Keypoints(points, np.array([True]))

    def embedding(self, frame: Frame) -> np.ndarray | None:
        found = self.keypoints(frame)
        return None if found is None else found.points[0]


def blob(x: float, y: float) -> Frame:
    rows, columns = np.mgrid[:32, :48]
    image = 250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)
    return Frame(np.repeat(np.rint(image).astype(np.uint8)[..., None], 3, axis=2), "clip", 0, False)


@given(factor=st.integers(2, 6), x=st.floats(12, 35), y=st.floats(12, 19))
def test_points_come_back_to_the_frame(factor: int, x: float, y: float) -> None:
    frame, plain = blob(x, y), Centroid()
    enlarged = EnlargedKeypoints(plain, factor)
    found = enlarged.keypoints(frame)
    assert found is not None
    assert plain.sizes == [(32 * factor, 48 * factor, 3)]
    # A wrong convention is off by a quarter of a pixel or more.
    np.testing.assert_allclose(found.points, [[x, y]], atol=0.05)
    assert found.present.all()
    assert enlarged.labels == ("centre",)
    assert enlarged.name == f"centroid on frames enlarged {factor} times"


def test_nothing_found_stays_nothing() -> None:
    dark = Frame(np.zeros((8, 8, 3), np.uint8), "clip", 0, False)
    assert EnlargedKeypoints(Centroid(), 3).keypoints(dark) is None
    assert EnlargedIdentity(Centroid(), 3).embedding(dark) is None


def test_embeddings_are_of_the_enlarged_frame() -> None:
    embedding = EnlargedIdentity(Centroid(), 2).embedding(blob(20, 15))
    np.testing.assert_allclose(embedding, [40.5, 30.5], atol=0.1)


@pytest.mark.parametrize("factor", [0, -2])
def test_bad_factor(factor: int) -> None:
    with pytest.raises(ConfigError, match="1 time or more"):
        EnlargedKeypoints(Centroid(), factor)
