from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lami.evaluation import FrameErrors, KeypointErrors, compare_keypoints, summarize
from lami.evaluation.estimators import Keypoints

NOTHING = KeypointErrors()


def found(points: list[tuple[float, float]], present: list[bool] | None = None) -> Keypoints:
    return Keypoints(np.array(points, float), np.array(present or [True] * len(points)))


def frame(
    keypoints: KeypointErrors = NOTHING, l1: float = 0.0, identity: float = math.nan, embeddings: int = 0
) -> FrameErrors:
    return FrameErrors(
        l1=l1, psnr=20.0, ssim=0.5, lpips=math.nan, keypoints=keypoints, identity=identity, embeddings=embeddings
    )


def test_distances_are_between_points_in_both() -> None:
    real = found([(0, 0), (10, 10), (5, 5)], [True, True, False])
    generated = found([(3, 4), (0, 0), (5, 5)], [True, False, True])
    errors = compare_keypoints(real, generated, found([(0, 12), (10, 10), (9, 9)]))
    assert errors == KeypointErrors(2, 1, distance=5.0, coordinate_distance=3.5, displacement=6.0)


def test_what_is_not_found() -> None:
    real = found([(0, 0), (1, 1)])
    missing = compare_keypoints(real, None, real)
    assert (missing.points, missing.missing, missing.displacement) == (2, 2, 0.0)
    assert math.isnan(missing.distance)
    assert compare_keypoints(None, real, real).points == 0
    disjoint = compare_keypoints(found([(0, 0), (1, 1)], [True, False]), found([(0, 0), (1, 1)], [False, True]), None)
    assert (disjoint.points, disjoint.missing) == (1, 1)
    assert math.isnan(disjoint.distance)
    assert math.isnan(disjoint.displacement)


def test_protocols() -> None:
    """One frame with four points of which three are found, one with a single point, one with nothing."""
    frames = [
        frame(KeypointErrors(4, 1, distance=2.0, coordinate_distance=1.5), l1=0.1, identity=0.5, embeddings=1),
        frame(KeypointErrors(1, 0, distance=6.0, coordinate_distance=5.0), l1=0.2, embeddings=1),
        frame(NOTHING, l1=0.6, identity=0.1, embeddings=1),
        frame(KeypointErrors(5, 5), l1=0.1),
    ]
    means = summarize(frames)
    assert means.frames == 4
    assert means.l1 == pytest.approx(0.25)
    assert means.akd == pytest.approx((3 * 2.0 + 6.0) / 4)
    assert means.mkr == pytest.approx(6 / 10)
    assert means.aed == pytest.approx(0.3)
    assert means.real_without_keypoints == pytest.approx(1 / 4)
    assert means.generated_without_keypoints == pytest.approx(1 / 3)
    assert means.real_without_identity == pytest.approx(1 / 4)
    assert means.generated_without_identity == pytest.approx(1 / 3)
    assert math.isnan(means.lpips)
    official = summarize(frames, reference_protocol=True)
    assert official.akd == pytest.approx((1.5 + 5.0) / 2)
    assert official.mkr == pytest.approx((1 / 4 + 0 + 1) / 3)
    assert official.aed == pytest.approx((0.25 + 0.01) / 2)
    assert official.l1 == means.l1


def test_nothing_measured_is_nan() -> None:
    means = summarize([frame()])
    assert all(math.isnan(value) for value in (means.akd, means.mkr, means.aed, means.generated_without_keypoints))
    assert means.real_without_keypoints == 1


POINTS = arrays(np.float64, (7, 2), elements=st.floats(-1e3, 1e3))
PRESENT = arrays(np.bool_, (7,))


@given(POINTS, POINTS, PRESENT, PRESENT)
def test_of_any_points(a: np.ndarray, b: np.ndarray, in_a: np.ndarray, in_b: np.ndarray) -> None:
    real, generated = Keypoints(a, in_a), Keypoints(b, in_b)
    errors = compare_keypoints(real, generated, real)
    pairs = [np.hypot(*(a[i] - b[i])) for i in range(7) if in_a[i] and in_b[i]]
    assert errors.points == in_a.sum()
    assert errors.missing == in_a.sum() - len(pairs)
    assert (errors.displacement == 0) == bool(in_a.any())
    if pairs:
        assert errors.distance == pytest.approx(np.mean(pairs))
        # |dx| and |dy| average to at least half of their hypotenuse, and to at most 1 / sqrt(2) of it.
        slack = 1e-9 * max(pairs)
        assert errors.distance / 2 - slack <= errors.coordinate_distance <= errors.distance / math.sqrt(2) + slack
    else:
        assert math.isnan(errors.distance)
