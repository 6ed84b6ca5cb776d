"""Pictures: sizes, places and colours are what they claim to be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lami.errors import DataError
from lami.visualize import SELECTED, draw_keypoints, enlarge, flow_to_color, frame, grid, interpolation_panel, label


def gray(height: int, width: int, value: int = 128) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def identity_grid(height: int, width: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height)), axis=-1)


@settings(max_examples=30, deadline=None)
@given(st.integers(24, 200), st.integers(24, 200), st.floats(-1, 1), st.floats(-1, 1))
def test_dots_are_centred_on_their_keypoints(height: int, width: int, x: float, y: float) -> None:
    image = gray(height, width, 0)
    drawn = draw_keypoints(image, np.array([[x, y]]))
    assert not image.any()
    assert drawn.shape == image.shape
    weights = drawn.max(axis=-1).astype(float)
    center = np.array([(x + 1) / 2 * (width - 1), (y + 1) / 2 * (height - 1)])
    rows, columns = np.indices((height, width))
    if (center > 6).all() and (center < np.array([width, height]) - 7).all():
        measured = np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()
        np.testing.assert_allclose(measured, center, atol=0.35)
    assert weights[tuple(np.rint(center[::-1]).astype(int))] > 200


def test_dots_have_a_colour_for_each_spline_and_an_outline() -> None:
    generator = np.random.default_rng(0)
    keypoints = np.stack(np.meshgrid(np.linspace(-0.9, 0.9, 5), np.linspace(-0.9, 0.9, 10)), axis=-1)  # (10, 5, 2)
    image = generator.integers(0, 256, (300, 300, 3)).astype(np.uint8)
    drawn = draw_keypoints(image, keypoints)
    pixels = np.rint((keypoints + 1) / 2 * 299).astype(int)
    colors = drawn[pixels[..., 1], pixels[..., 0]].astype(int)
    assert (colors == colors[:, :1]).all()
    distances = np.abs(colors[:, None, 0] - colors[None, :, 0]).sum(axis=-1)
    assert distances[~np.eye(10, dtype=bool)].min() > 60
    rim = drawn[pixels[0, 0, 1], pixels[0, 0, 0] + 5]
    assert rim.max() < 60


def test_keypoints_that_cannot_be_shown_are_left_out() -> None:
    points = np.array([[np.nan, 0], [np.inf, 0], [1e30, 0], [0, -1.2]])
    np.testing.assert_array_equal(draw_keypoints(gray(40, 50), points), gray(40, 50))
    np.testing.assert_array_equal(draw_keypoints(gray(40, 50), np.zeros((0, 5, 2))), gray(40, 50))


def test_flow_colours_show_direction_and_length() -> None:
    still = flow_to_color(identity_grid(20, 30))
    assert (still == 255).all()
    flow = np.zeros((5, 4, 2))
    flow[0, 0], flow[1, 0], flow[2, 0], flow[3, 0], flow[4, 0] = (1, 0), (-1, 0), (0, 1), (0.5, 0), (np.nan, 0)
    colors = flow_to_color(flow, "displacement", maximum=2.0)[:, 0].astype(int)
    right, left, down, half, bad = colors
    assert right.tolist() == [255, 64, 64]  # 1.5 of at most 2 pixels
    assert flow_to_color(flow, "displacement", maximum=1.5)[0, 0].tolist() == [255, 0, 0]
    assert left[0] < 130 < min(left[1:])  # cyan
    assert min(down[:2]) > 100 > down[2]  # yellow
    assert half[1] > right[1]
    assert half[0] == 255
    assert not bad.any()
    shifted = identity_grid(20, 30) + np.array([0.1, 0.0])
    np.testing.assert_array_equal(
        flow_to_color(shifted), flow_to_color(np.broadcast_to((0.1, 0.0), (20, 30, 2)), "displacement")
    )


def test_flow_colours_have_no_seam() -> None:
    angles = np.linspace(-np.pi, np.pi, 2000)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=-1)[:, None].repeat(2, axis=1)
    ring = ring * 2 / np.array([1, 1999])  # the same length in pixels in every direction
    colors = flow_to_color(ring, "displacement")[:, 0].astype(int)
    assert np.abs(np.diff(colors, axis=0)).max() <= 3
    assert np.abs(colors[0] - colors[-1]).max() <= 3


def test_label_adds_a_bar_and_keeps_the_picture() -> None:
    image = gray(60, 90)
    for position, kept in (("above", slice(-60, None)), ("below", slice(0, 60))):
        labelled = label(image, "t = 0.5", position)  # type: ignore[arg-type]
        np.testing.assert_array_equal(labelled[kept], image)
        assert labelled.shape[1] == 90
        bar = np.delete(labelled, np.r_[kept], axis=0)
        assert bar.min() < 90
        assert (bar[0] == 255).all()


def test_long_text_shrinks_into_the_bar() -> None:
    bar = label(gray(60, 60), "a caption that is much longer than the picture is wide")[:-60]
    assert bar.min() < 160
    assert (bar[:, 0] == 255).all()
    assert (bar[:, -1] == 255).all()


def test_frame_surrounds_the_content() -> None:
    framed = frame(gray(40, 80), (1, 2, 3), thickness=4)
    for edge in (framed[:4], framed[-4:], framed[:, :4], framed[:, -4:]):
        assert (edge == (1, 2, 3)).all()
    assert (framed[4, 5:-5] == 255).all()
    assert (framed[5:-5, 5:-5] == 128).all()


def test_enlarge_keeps_pixels_with_nearest() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    np.testing.assert_array_equal(enlarge(image, 3, "nearest"), image.repeat(3, axis=0).repeat(3, axis=1))
    assert enlarge(image, 3).shape == (15, 21, 3)
    same = enlarge(image, 1)
    same[:] = 0
    assert image.any()


def test_grid_places_cells_evenly() -> None:
    figure = grid([[gray(40, 40, 10), gray(40, 40, 20)], [gray(20, 40, 30)]], scale=2, interpolation="nearest")
    gap = 2
    assert figure.shape == (2 * 80 + 3 * gap, 2 * 80 + 3 * gap, 3)
    assert (figure[gap : gap + 80, gap : gap + 80] == 10).all()
    assert (figure[gap : gap + 80, 2 * gap + 80 : -gap] == 20).all()
    below = figure[2 * gap + 80 : -gap]
    assert (below[20:60, gap : gap + 80] == 30).all()
    assert (below[:20] == 255).all()
    assert (below[:, 2 * gap + 80 :] == 255).all()


def test_grid_captions_stand_beside_the_cells() -> None:
    bare = grid([[gray(80, 80)] * 2])
    captioned = grid([[gray(80, 80)] * 2], ["row"], ["left", "right"])
    assert captioned.shape[0] > bare.shape[0]
    assert captioned.shape[1] > bare.shape[1]
    bar, margin = captioned[:20], captioned[20:, :20]
    assert bar[:, 20:].min() < 90
    assert margin.min() < 90
    wide = grid([[gray(80, 80)] * 2], breaks=(1,))
    assert wide.shape[1] > bare.shape[1]


def test_panel_frames_the_selected_candidate_of_each_row() -> None:
    small = gray(32, 32)
    panel = interpolation_panel(small, [small] * 3, [[small] * 3] * 3, [0, 2, None], [small] * 3)
    orange = (panel == SELECTED).all(axis=-1)
    rows, columns = np.flatnonzero(orange.any(axis=1)), np.flatnonzero(orange.any(axis=0))
    assert rows.size == 2 * 160
    assert columns.size == 2 * 160
    first, second = columns[0], columns[-1] - 159
    assert orange[rows[0], first : first + 160].all()
    assert not orange[rows[0], second:].any()
    assert orange[rows[-1], second : second + 160].all()
    assert not orange[rows[-1], :second].any()


def test_panel_draws_keypoints_on_enlarged_images() -> None:
    small, points = gray(40, 40), np.zeros((4, 5, 2))
    arguments = ([small, small], [small] * 2, [[small] * 2] * 2, [None, None], [small] * 2, (0.25, 0.75))
    plain = interpolation_panel(*arguments)
    dotted = interpolation_panel(
        *arguments,
        source_keypoints=points,
        driving_keypoints=np.stack([points] * 2),
        candidate_keypoints=np.stack([np.stack([points] * 2)] * 2),
    )
    assert plain.shape == dotted.shape
    changed = (plain != dotted).any(axis=-1)
    # Source, two candidates and driving in each of two rows, but not the result: eight dots of a few pixels.
    assert 8 * 9 < changed.sum() < 8 * 80
    assert not changed[:, -165:].any()


def test_panel_keypoints_stay_on_their_pixels() -> None:
    small = gray(40, 40, 0)
    point = 2 * np.array([[[8.0, 30.0]]]) / 39 - 1
    arguments = (small, [small], [[small]], [None], [small], (0.5,))
    plain = interpolation_panel(*arguments, scale=4)
    dotted = interpolation_panel(*arguments, scale=4, source_keypoints=point)
    rows, columns = np.nonzero((plain != dotted).any(axis=-1))
    gap = 5
    assert np.mean(columns) == pytest.approx(gap + 8 * 4 + 1.5, abs=0.3)
    assert np.mean(rows) == pytest.approx(len(plain) - gap - 160 + 30 * 4 + 1.5, abs=0.3)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: draw_keypoints(gray(9, 9).astype(float), np.zeros((2, 2))), "uint8 array .* not float64"),
        (lambda: draw_keypoints(gray(9, 9), np.zeros((2, 3))), "keypoints must be"),
        (lambda: flow_to_color(np.zeros((2, 4, 4))), "flow must be"),
        (lambda: flow_to_color(np.zeros((4, 4, 2)), maximum=0), "must be positive"),
        (lambda: enlarge(gray(9, 9), 0), "at least 1"),
        (lambda: frame(gray(9, 9)[..., :2]), "uint8 array"),
        (lambda: label(gray(0, 9), "x"), "must have pixels"),
        (lambda: grid([]), "at least one image"),
        (lambda: grid([[None]]), "at least one image"),
        (lambda: grid([[gray(9, 9)]], ["a", "b"]), "1 rows but 2 row captions"),
        (lambda: grid([[gray(9, 9)]], None, []), "1 columns but 0 column captions"),
        (lambda: interpolation_panel(gray(9, 9), [], [], [], []), "at least one driving"),
        (lambda: interpolation_panel(gray(9, 9), [gray(9, 9)], [], [0], [gray(9, 9)]), "0 rows of candidates"),
        (lambda: interpolation_panel(gray(9, 9), [gray(9, 9)], [[]], [0], [gray(9, 9)]), "3 times but 0 candidates"),
        (
            lambda: interpolation_panel(gray(9, 9), [gray(9, 9)], [[gray(9, 9)] * 3], [3], [gray(9, 9)]),
            "selected candidate must be 0 to 2",
        ),
    ],
)
def test_bad_input_is_named(action: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        action()
