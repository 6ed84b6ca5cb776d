"""The synthetic figures: what is drawn agrees with the ground truth that is reported."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lami.configs.schema import ANNOTATED_SHAPE
from lami.data._rig import CONTROLLED, PARTS
from lami.data._textures import Array, Image, disc
from lami.data.synthetic import KEYPOINT_NAMES, SKELETON, FigureClip, SyntheticFigures, export
from lami.errors import DataError

EVERY_FOURTH = range(0, 32, 4)
MARKER = 0.03


def to_pixels(keypoints: Array, size: tuple[int, int]) -> Array:
    return (keypoints + 1) / 2 * (np.array(size[::-1]) - 1)


def blackened(clip: FigureClip, part: str, marker_at: float | None) -> FigureClip:
    """The clip with a body part painted black, and a white disc on its axis."""

    def paint(color: Image, u: Array, v: Array, density: float) -> Image:
        black, white = np.zeros_like(color), np.full(3, 255, np.float32)
        return black if marker_at is None else disc(black, u, v, density, (marker_at, 0.0), MARKER, white)

    clip._wardrobe.details[part] = paint
    return clip


def render(args: tuple[int, int]) -> bytes:
    i, frame = args
    return SyntheticFigures((48, 64), 4, camera_motion=1.0).clip(i).frames([frame])[0].tobytes()


def test_same_pictures_in_any_order_and_process() -> None:
    wanted = [(i, frame) for i in (0, 3) for frame in (0, 9, 31)]
    here = [render(args) for args in wanted]
    assert [render(args) for args in reversed(wanted)] == here[::-1]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(render, wanted) == here
    assert len(set(here)) == len(wanted)


def test_a_clip_is_decided_by_seed_and_number() -> None:
    figures = SyntheticFigures((32, 32), 6, seed=1)
    shifted = pickle.loads(pickle.dumps(SyntheticFigures((32, 32), 2, start=4, seed=1)))
    assert len(figures) == 6
    assert shifted.clip(1).name == figures.clip(5).name
    np.testing.assert_array_equal(shifted.clip(1).frames([7]), figures.clip(5).frames([7]))
    other = SyntheticFigures((32, 32), 6, seed=2).clip(5)
    assert other.name != figures.clip(5).name
    assert not np.array_equal(other.frames([7]), figures.clip(5).frames([7]))


def test_renders_only_what_is_asked_for() -> None:
    endless = SyntheticFigures((32, 32), 1, num_frames=10**9).clip(0)
    short = SyntheticFigures((32, 32), 1, num_frames=8).clip(0)
    assert len(endless) == 10**9
    assert endless.rate == Fraction(25)
    assert len(endless.frames([10**9 - 1, 5])) == 2
    np.testing.assert_array_equal(endless.frames([5, 2]), [short.frames(range(8))[n] for n in (5, 2)])
    np.testing.assert_array_equal(endless.keypoints([5, 2]), short.keypoints(range(8))[[5, 2]])
    assert endless.frames([]) == []
    assert endless.keypoints([]).shape == (0, len(KEYPOINT_NAMES), 2)


@settings(max_examples=12, deadline=None)
@given(st.integers(16, 90), st.integers(16, 90), st.integers(0, 50), st.floats(0, 4))
def test_any_size_with_the_figure_inside(height: int, width: int, number: int, camera_motion: float) -> None:
    clip = SyntheticFigures((height, width), 51, camera_motion=camera_motion).clip(number)
    clip._tile[:] = 0
    for frame in clip.frames([0, 13, 31]):
        assert frame.shape == (height, width, 3)
        assert frame.dtype == np.uint8
        assert frame.max() > 60
        if min(height, width) >= 48:  # below, the soft outline is wider than the margin
            assert not any(edge.any() for edge in (frame[0], frame[-1], frame[:, 0], frame[:, -1]))
    keypoints = clip.keypoints(range(32))
    assert keypoints.shape == (32, len(KEYPOINT_NAMES), 2)
    assert np.abs(keypoints).max() < 1


def test_geometry_and_picture_do_not_depend_on_the_resolution() -> None:
    small, large = (SyntheticFigures((side, side), 1).clip(0) for side in (64, 256))
    np.testing.assert_allclose(small.keypoints(range(32)), large.keypoints(range(32)), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(small.visible(range(32)), large.visible(range(32)))
    shrunk = cv2.resize(large.frames([6])[0], (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(float) - small.frames([6])[0]).mean() < 6


@pytest.mark.parametrize("size", [(128, 128), (200, 300)])
@pytest.mark.parametrize("camera_motion", [0.0, 1.0])
@pytest.mark.parametrize(
    ("part", "joint", "along"),
    [
        ("left_forearm", "left_wrist", 1.0),
        ("right_forearm", "right_elbow", 0.0),
        ("left_thigh", "left_knee", 1.0),
        ("right_shin", "right_ankle", 1.0),
        ("head", "head", 0.5),
    ],
)
def test_joints_are_drawn_where_they_are_reported(
    size: tuple[int, int], camera_motion: float, part: str, joint: str, along: float
) -> None:
    k = KEYPOINT_NAMES.index(joint)
    checked = 0
    for number in range(3):

        def make(n: int = number) -> FigureClip:
            return SyntheticFigures(size, 3, camera_motion=camera_motion).clip(n)

        at = along * make()._rig.shapes[part].length
        with_disc, without = (
            np.array(blackened(make(), part, marker).frames(EVERY_FOURTH), dtype=float) for marker in (at, None)
        )
        weights = (with_disc - without).sum(axis=-1)
        pixels = to_pixels(make().keypoints(EVERY_FOURTH)[:, k], size)
        visible = make().visible(EVERY_FOURTH)[:, k]
        mass = weights.sum(axis=(1, 2))
        rows, columns = np.indices(size)
        for n in np.flatnonzero(visible & (mass > 0.9 * mass.max())):
            drawn = np.array([(weights[n] * columns).sum(), (weights[n] * rows).sum()]) / mass[n]
            np.testing.assert_allclose(drawn, pixels[n], atol=0.1)
            checked += 1
        for n in np.flatnonzero(~visible):
            x, y = np.rint(pixels[n]).astype(int)
            assert weights[n, y, x] < 0.5 * 3 * 255
    assert checked >= 6


def similarity(before: Array, after: Array) -> Array:
    """Matrix (2, 3) of the similarity that takes two points (2, 2) to two others."""
    a, b = (points @ np.array([1, 1j]) for points in (before, after))
    turn = (b[1] - b[0]) / (a[1] - a[0])
    shift = b[0] - turn * a[0]
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


@pytest.mark.parametrize("camera_motion", [0.0, 1.0])
def test_textures_move_rigidly_with_the_limbs(camera_motion: float) -> None:
    size = (256, 256)
    for number in range(4):
        clip = SyntheticFigures(size, 4, camera_motion=camera_motion).clip(number)
        front = clip._rig.order[-1]
        joints = [KEYPOINT_NAMES.index(front.replace("forearm", joint)) for joint in ("elbow", "wrist")]
        source, driving = clip.frames([2, 18])
        before, after = to_pixels(clip.keypoints([2, 18])[:, joints], size)
        warped = cv2.warpAffine(source, similarity(before, after), size)
        limb = np.zeros(size, np.uint8)
        cv2.line(limb, *(tuple(int(c) for c in np.rint(point)) for point in after), 255, 9)
        difference = np.abs(warped.astype(float) - driving)[limb > 0].mean()
        unmoved = np.abs(source.astype(float) - driving)[limb > 0].mean()
        assert difference < 4
        assert unmoved > 5 * difference


@pytest.mark.parametrize("camera_motion", [0.0, 1.0])
def test_background_follows_the_camera(camera_motion: float) -> None:
    size = (128, 128)
    clip = SyntheticFigures(size, 1, camera_motion=camera_motion).clip(0)
    for shape in list(clip._rig.shapes):
        clip._patches[shape].rgba[:] = 0
    source, driving = clip.frames([0, 31])
    place = clip._place([0, 31])
    corners = np.array([[-0.2, 0.1], [0.3, 0.2]])
    turned = [
        corners @ np.array([[np.cos(r), np.sin(r)], [-np.sin(r), np.cos(r)]]) * zoom + drift
        for r, zoom, drift in zip(place.roll, place.zoom, place.drift, strict=True)
    ]
    matrix = similarity(*(to_pixels(points, size) for points in turned))
    warped = cv2.warpAffine(source, matrix, size, borderMode=cv2.BORDER_CONSTANT)
    inside = cv2.warpAffine(np.ones(size, np.uint8), matrix, size) > 0
    assert inside.mean() > 0.4
    assert np.abs(warped.astype(float) - driving)[inside].mean() < 1
    moved = np.abs(source.astype(float) - driving).mean()
    assert moved == 0 if camera_motion == 0 else moved > 4


def test_control_points_that_another_part_covers_are_hidden() -> None:
    clip = SyntheticFigures((96, 96), 6, camera_motion=1.0).clip(4)
    seen = clip.control_points_visible(range(32))
    assert seen.shape == (32, *ANNOTATED_SHAPE)
    assert not seen.all()
    # Nothing is drawn over the last part, and a middle point shows its part's colour exactly when it is seen.
    assert seen[:, CONTROLLED.index(clip._rig.order[-1])].all()
    middle = to_pixels(clip.control_points(range(32))[:, :, 4], clip.size)
    for k, part in enumerate(CONTROLLED):
        black = blackened(SyntheticFigures((96, 96), 6, camera_motion=1.0).clip(4), part, None)
        for n, image in enumerate(black.frames(range(32))):
            x, y = np.rint(middle[n, k]).astype(int)
            around = image[y - 1 : y + 2, x - 1 : x + 2].astype(int).sum(axis=2)
            if seen[n, k, 4]:
                assert around.min() < 60
            else:
                assert around.max() > 30


def test_control_points_are_fixed_to_the_parts() -> None:
    clip = SyntheticFigures((96, 64), 1, num_frames=20).clip(0)
    points, joints = clip.control_points(range(20)), clip.keypoints(range(20))
    assert points.shape == (20, *ANNOTATED_SHAPE, 2)
    isotropic = points * [63 / 2, 95 / 2]
    begin, end, left, right, middle = np.moveaxis(isotropic, 2, 0)
    np.testing.assert_allclose(middle, (begin + end) / 2)
    np.testing.assert_allclose(middle, (left + right) / 2)
    np.testing.assert_allclose(((end - begin) * (right - left)).sum(-1), 0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(end - begin, axis=-1), 2 * np.linalg.norm(right - left, axis=-1))

    k = CONTROLLED.index("left_forearm")
    elbow, wrist = (joints[:, KEYPOINT_NAMES.index(f"left_{joint}")] * [63 / 2, 95 / 2] for joint in ("elbow", "wrist"))
    along = (wrist - elbow) / np.linalg.norm(wrist - elbow, axis=-1, keepdims=True)
    np.testing.assert_allclose((end - begin)[:, k] / np.linalg.norm((end - begin)[:, k], axis=-1, keepdims=True), along)
    reach = ((elbow - begin[:, k]) * along).sum(-1)
    assert (reach > 0).all(), "the first point is the rounded end beyond the elbow"


def test_displacements_are_large() -> None:
    figures = SyntheticFigures((64, 64), 40)
    pairs = np.random.default_rng(0).integers(0, 32, (40, 2))
    moves = np.array([np.diff(figures.clip(i).keypoints(pair), axis=0)[0] for i, pair in enumerate(pairs)])
    distances = np.linalg.norm(moves, axis=-1)
    assert distances.mean() > 0.3
    assert distances[:, KEYPOINT_NAMES.index("left_wrist")].max() > 1


def test_left_and_right_limbs_have_different_colours() -> None:
    for number in range(10):
        clip = SyntheticFigures((64, 64), 10).clip(number)
        means = {part: patch.rgba.sum(axis=(0, 1)) for part, patch in clip._patches.items()}
        colors = {part: total[:3] / total[3] for part, total in means.items()}
        for limb in ("upper_arm", "forearm", "thigh", "shin"):
            assert np.abs(colors[f"left_{limb}"] - colors[f"right_{limb}"]).max() > 6
        assert set(clip._rig.order) == set(PARTS)


def test_skeleton_is_a_connected_graph_of_all_joints() -> None:
    reached, edges = {0}, [set(edge) for edge in SKELETON]
    for _ in KEYPOINT_NAMES:
        reached |= set().union(*(edge for edge in edges if edge & reached))
    assert reached == set(range(len(KEYPOINT_NAMES)))


def test_export_writes_strips_and_ground_truth(tmp_path: Path) -> None:
    figures = SyntheticFigures((32, 48), 2, num_frames=3)
    paths = export(figures, tmp_path / "new")
    assert [path.name for path in paths] == [f"{figures.clip(i).name}.png" for i in range(2)]
    strip = cv2.imread(str(paths[1]))[..., ::-1]
    np.testing.assert_array_equal(np.split(strip, 3, axis=1), figures.clip(1).frames(range(3)))
    with np.load(paths[1].with_suffix(".npz")) as truth:
        np.testing.assert_array_equal(truth["keypoints"], figures.clip(1).keypoints(range(3)))
        np.testing.assert_array_equal(truth["visible"], figures.clip(1).visible(range(3)))
        assert tuple(truth["names"]) == KEYPOINT_NAMES
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        export(figures, tmp_path / "file")


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: SyntheticFigures((15, 64), 1), "at least 16x16"),
        (lambda: SyntheticFigures((64, 64), 0), "num_clips"),
        (lambda: SyntheticFigures((64, 64), 1, num_frames=0), "num_frames"),
        (lambda: SyntheticFigures((64, 64), 1, start=-1), "start"),
        (lambda: SyntheticFigures((64, 64), 1, camera_motion=float("nan")), "camera_motion"),
        (lambda: SyntheticFigures((64, 64), 1, seed=-1), "seed"),
        (lambda: SyntheticFigures((64, 64), 1).clip(1), "clips 0 to 0, not 1"),
        (lambda: SyntheticFigures((64, 64), 1).clip(0).frames([0, 32]), "frames 0 to 31, not 32"),
        (lambda: SyntheticFigures((64, 64), 1).clip(0).keypoints([-1]), "not -1"),
    ],
)
def test_bad_input_is_named(action: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        action()
