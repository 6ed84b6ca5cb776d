"""Articulated figures with large displacements: endless clips with exact keypoints, made on the fly.

A figure has textured limbs that move rigidly in front of a smooth background, so that the motion between two frames is
a warp of the picture plus occlusion. Arms swing, legs step and the body travels far within a second, but the figure
always stays inside the image. Clip `i` depends on the seed and on `i` alone, at any resolution and in any process.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lami.data._rig import ATTACHED, CONTROLLED, KEYPOINT_NAMES, PARTS, SKELETON, Pose, Rig, Wave, rotate
from lami.data._textures import TILE_PERIOD, Array, Image, Patch, background_tile, paint_patch
from lami.data._wardrobe import Wardrobe
from lami.errors import DataError

__all__ = ["KEYPOINT_NAMES", "SKELETON", "FigureClip", "SyntheticFigures", "export"]

RATE = Fraction(25)
_MARGIN = 0.04
"""Free border around the figure, in scene units."""
_TRAVEL = 0.6
"""Largest shift of the figure from the middle, in scene units: 0.3 of the image."""
_SMALL = 192
"""Images with a shorter side are drawn at twice the size and averaged."""


@dataclass(frozen=True)
class _Placement:
    """Where the figure and the scene are in n frames.

    Scene units are isotropic and the shorter image side spans [-1, 1], whatever the resolution: image position of a
    scene point X is zoom * R(roll) X + drift.
    """

    joints: Array  # (n, P, 2) image positions in scene units
    origins: Array  # (n, Q, 2)
    directions: Array  # (n, Q, 2) unit vectors
    scale: Array  # (n,) scene units a body unit
    zoom: Array  # (n,)
    roll: Array  # (n,)
    drift: Array  # (n, 2)


class FigureClip:
    """One figure on one background: `num_frames` frames at 25 frames a second.

    Frames and keypoints are computed when asked for; the only state is the random design of the clip.

    Args:
        size: (height, width) in pixels, each at least 2.
        num_frames: length of the clip; a shorter clip is the beginning of a longer one.
        camera_motion: strength of drift, zoom and roll of the camera; 0 is a fixed camera, 1 drifts by up to a quarter
            of the image, rolls by up to 15 degrees and zooms by up to 15 %.
        entropy: seeds of the random generator.
        name: name of the clip.
    """

    def __init__(
        self, size: tuple[int, int], num_frames: int, camera_motion: float, entropy: tuple[int, ...], name: str
    ) -> None:
        self.size = size
        self.name = name
        self.rate = RATE
        self._num_frames = num_frames
        rng = np.random.default_rng(entropy)
        self._rig = Rig(rng)
        self._wardrobe = Wardrobe(rng)
        self._tile = background_tile(rng)
        self._tile_offset = rng.uniform(0, self._tile.shape[0], 2)
        self._body_scale = float(rng.uniform(0.78, 1.0))
        self._growth = Wave.random(rng, 0.0, float(rng.uniform(0.02, 0.1)))
        self._travel = [Wave.random(rng, 0.0, 1.0), Wave.random(rng, 0.0, 1.0)]
        self._drift = [Wave.random(rng, 0.0, 0.5 * camera_motion, fastest=0.6) for _ in range(2)]
        self._roll = Wave.random(rng, 0.0, np.deg2rad(15) * camera_motion, fastest=0.6)
        self._zoom = Wave.random(rng, 0.0, 0.15 * camera_motion, fastest=0.6)

        height, width = size
        self._pixels = (min(height, width) - 1) / 2
        """Pixels a scene unit."""
        self._center = np.array([width - 1, height - 1]) / 2
        self._samples = 2 if min(height, width) < _SMALL else 1

    def __len__(self) -> int:
        return self._num_frames

    def frames(self, indices: Iterable[int]) -> list[NDArray[np.uint8]]:
        """Render the frames `indices`, each (H, W, 3) uint8 RGB.

        Raises:
            DataError: an index lies outside the clip.
        """
        placement = self._place(self._checked(indices))
        return [self._render(placement, n) for n in range(len(placement.scale))]

    def keypoints(self, indices: Iterable[int]) -> Array:
        """Joint positions of the frames `indices`, (n, P, 2) float64 in the order of `KEYPOINT_NAMES`.

        (x, y) in [-1, 1], where -1 and 1 are the centres of the first and last pixel (align_corners=True). `head` is
        the centre of the head, `wrist` and `ankle` the ends of forearm and shin.

        Raises:
            DataError: an index lies outside the clip.
        """
        return self._place(self._checked(indices)).joints * self._pixels / self._center

    def control_points(self, indices: Iterable[int]) -> Array:
        """Control points of one spline a body part in the frames `indices`, (n, 10, 5, 2) float64.

        The parts are those of `CONTROLLED`. The points form a cross that is fixed to the part: its two ends, two points
        to its sides and its middle; coordinates as in `keypoints`.

        Raises:
            DataError: an index lies outside the clip.
        """
        return self._control_points(self._place(self._checked(indices))) * self._pixels / self._center

    def _control_points(self, placement: _Placement) -> Array:
        """(n, 10, 5, 2) in scene units."""
        parts = [PARTS.index(part) for part in CONTROLLED]
        shapes = [self._rig.shapes[part] for part in CONTROLLED]
        begin = np.array([-shape.start for shape in shapes])
        end = np.array([shape.length + shape.end for shape in shapes])
        half = (end - begin) / 2
        middle = (begin + end) / 2
        zero = np.zeros_like(half)
        along = np.stack([begin, end, middle, middle, middle], axis=-1)[..., None]
        across = np.stack([zero, zero, -half / 2, half / 2, zero], axis=-1)[..., None]
        axis = placement.directions[:, parts, None]
        normal = np.stack([-axis[..., 1], axis[..., 0]], axis=-1)
        offsets = (along * axis + across * normal) * placement.scale[:, None, None, None]
        return placement.origins[:, parts, None] + offsets

    def visible(self, indices: Iterable[int]) -> NDArray[np.bool_]:
        """Which joints can be seen in the frames `indices`, (n, P) bool.

        A joint is visible if it lies inside the image and no body part drawn later covers it. The parts that meet in a
        joint never hide it: a hip is visible under the torso, but not behind a forearm. This is decided by geometry,
        not by pixels, and so does not depend on the resolution.

        Raises:
            DataError: an index lies outside the clip.
        """
        placement = self._place(self._checked(indices))
        positions = placement.joints * self._pixels / self._center
        seen: NDArray[np.bool_] = np.abs(positions).max(axis=-1) <= 1
        for k, joint in enumerate(KEYPOINT_NAMES):
            last = max(rank for rank, part in enumerate(self._rig.order) if joint in ATTACHED[part])
            for part in self._rig.order[last + 1 :]:
                seen[:, k] &= ~self._covers(placement, part, placement.joints[:, k])
        return seen

    def control_points_visible(self, indices: Iterable[int]) -> NDArray[np.bool_]:
        """Which control points can be seen in the frames `indices`, (n, 10, 5) bool, decided as in `visible`.

        A part drawn later hides what it covers; but the two ends of a part are not hidden by parts that meet it there.

        Raises:
            DataError: an index lies outside the clip.
        """
        placement = self._place(self._checked(indices))
        points = self._control_points(placement)
        seen: NDArray[np.bool_] = np.abs(points * self._pixels / self._center).max(axis=-1) <= 1
        for k, part in enumerate(CONTROLLED):
            for later in self._rig.order[self._rig.order.index(part) + 1 :]:
                first = 2 if set(ATTACHED[part]) & set(ATTACHED[later]) else 0
                for j in range(first, points.shape[2]):
                    seen[:, k, j] &= ~self._covers(placement, later, points[:, k, j])
        return seen

    def _covers(self, placement: _Placement, part: str, points: Array) -> NDArray[np.bool_]:
        """Whether a body part lies over points (n, 2) in scene units, one a frame."""
        q = PARTS.index(part)
        offset = (points - placement.origins[:, q]) / placement.scale[:, None]
        axis = placement.directions[:, q]
        u = (offset * axis).sum(axis=-1)
        v = offset[:, 1] * axis[:, 0] - offset[:, 0] * axis[:, 1]
        return self._rig.shapes[part].distance(u, v) <= 0

    def _checked(self, indices: Iterable[int]) -> list[int]:
        checked = [operator.index(index) for index in indices]
        for index in checked:
            if not 0 <= index < len(self):
                raise DataError(f"{self.name} has frames 0 to {len(self) - 1}, not {index}, ask for one of these")
        return checked

    def _place(self, indices: list[int]) -> _Placement:
        seconds = np.array(indices, dtype=np.float64) / float(RATE)
        pose = self._rig.pose(seconds)
        roll, growth = self._roll(seconds), np.exp(self._growth(seconds))
        rolled = Pose(rotate(pose.joints, roll), rotate(pose.origins, roll), rotate(pose.directions, roll))
        low, high = self._rig.reach(rolled)
        half = self._center / self._pixels - _MARGIN
        # The camera never comes so close that the figure would not fit into the image.
        size = self._body_scale * growth
        zoom = np.minimum(np.exp(self._zoom(seconds)), (2 * half / (high - low)).min(axis=-1) / size)
        scale = size * zoom
        low, high = low * scale[:, None], high * scale[:, None]
        # The hips travel within the room that the pose leaves.
        middle, room = -(low + high) / 2, half - (high - low) / 2
        travel = np.stack([wave(seconds) for wave in self._travel], axis=-1)
        root = middle + travel * np.minimum(room, _TRAVEL * self._center / self._pixels)
        return _Placement(
            joints=root[:, None] + scale[:, None, None] * rolled.joints,
            origins=root[:, None] + scale[:, None, None] * rolled.origins,
            directions=rolled.directions,
            scale=scale,
            zoom=zoom,
            roll=roll,
            drift=np.stack([wave(seconds) for wave in self._drift], axis=-1),
        )

    @cached_property
    def _patches(self) -> dict[str, Patch]:
        density = self._pixels * self._samples * self._body_scale
        return {
            part: paint_patch(shape, self._wardrobe.patterns[part], density, self._wardrobe.details.get(part))
            for part, shape in self._rig.shapes.items()
        }

    def _render(self, placement: _Placement, n: int) -> NDArray[np.uint8]:
        samples = self._samples
        height, width = (side * samples for side in self.size)
        density = self._pixels * samples
        center = self._center * samples + (samples - 1) / 2
        canvas = self._draw_background(placement, n, (height, width), center, density)
        scale = placement.scale[n] * density
        for part in self._rig.order:
            q = PARTS.index(part)
            origin = center + placement.origins[n, q] * density
            _draw_part(canvas, self._patches[part], origin, placement.directions[n, q], scale)
        if samples > 1:
            canvas = cv2.resize(canvas, self.size[::-1], interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)
        return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)

    def _draw_background(
        self, placement: _Placement, n: int, size: tuple[int, int], center: Array, density: float
    ) -> Image:
        texels = self._tile.shape[0] / TILE_PERIOD / (placement.zoom[n] * density)
        cosine, sine = np.cos(placement.roll[n]) * texels, np.sin(placement.roll[n]) * texels
        to_tile = np.array([[cosine, sine], [-sine, cosine]])
        shift = self._tile_offset - to_tile @ (center + placement.drift[n] * density)
        background = cv2.warpAffine(
            self._tile,
            np.column_stack([to_tile, shift]),
            size[::-1],
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_WRAP,
        )
        return background.astype(np.float32, copy=False)


def _draw_part(canvas: Image, patch: Patch, origin: Array, direction: Array, scale: float) -> None:
    """Blend `patch` over `canvas` (H, W, 3) with its axis from pixel `origin` along `direction`, `scale` in pixels."""
    axis = direction * (scale / patch.density)
    linear = np.array([[axis[0], -axis[1]], [axis[1], axis[0]]])
    shift = origin - linear @ np.array(patch.origin)
    h, w = patch.rgba.shape[:2]
    corners = np.array([[0, 0], [w - 1, 0], [0, h - 1], [w - 1, h - 1]]) @ linear.T + shift
    x0, y0 = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    x1, y1 = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, canvas.shape[1::-1])
    if x0 >= x1 or y0 >= y1:
        return
    matrix = np.column_stack([linear, shift - (x0, y0)])
    layer = cv2.warpAffine(patch.rgba, matrix, (int(x1 - x0), int(y1 - y0)), flags=cv2.INTER_LINEAR)
    region = canvas[y0:y1, x0:x1]
    region *= 1 - layer[..., 3:]
    region += layer[..., :3]


class SyntheticFigures:
    """A data set of `FigureClip`s.

    Args:
        size: (height, width) of the frames in pixels, each side at least 16.
        num_clips: number of clips.
        num_frames: frames of each clip.
        start: index of the first figure; disjoint ranges give disjoint sets, such as train and test.
        camera_motion: strength of the camera's drift, zoom and roll; 0 is a fixed camera, 1 a lively one.
        seed: seed of the whole family of figures.

    Raises:
        DataError: an argument is out of range.
    """

    def __init__(
        self,
        size: tuple[int, int],
        num_clips: int,
        num_frames: int = 32,
        start: int = 0,
        camera_motion: float = 0.0,
        seed: int = 0,
    ) -> None:
        if min(size) < 16:
            raise DataError(f"synthetic figures need at least 16x16 pixels, not {size[0]}x{size[1]}, enlarge the size")
        for name, value, least in (
            ("num_clips", num_clips, 1),
            ("num_frames", num_frames, 1),
            ("start", start, 0),
            ("camera_motion", camera_motion, 0),
            ("seed", seed, 0),
        ):
            if not least <= value < np.inf:
                raise DataError(f"{name} of synthetic figures must be at least {least}, not {value}, change it")
        self.size = (int(size[0]), int(size[1]))
        self.num_clips = num_clips
        self.num_frames = num_frames
        self.start = start
        self.camera_motion = camera_motion
        self.seed = seed

    def __len__(self) -> int:
        return self.num_clips

    def clip(self, i: int) -> FigureClip:
        """Clip `i` of 0 to `len(self) - 1`.

        Raises:
            DataError: there is no such clip.
        """
        if not 0 <= i < len(self):
            raise DataError(f"there are synthetic clips 0 to {len(self) - 1}, not {i}, ask for one of these")
        return FigureClip(self.size, self.num_frames, self.camera_motion, (self.seed, self.start + i), self.name(i))

    def name(self, i: int) -> str:
        """Of clip `i`."""
        return f"figure-{self.seed}-{self.start + i:06d}"


def export(figures: SyntheticFigures, directory: str | Path) -> list[Path]:
    """Write each clip as a strip of frames side by side, with its ground truth beside it.

    `NAME.png` is (H, num_frames * W) and readable with `frame_shape` set to the size of the figures; `NAME.npz` holds
    `keypoints` (num_frames, P, 2), `visible` (num_frames, P), `names` (P,) and `skeleton` (S, 2).

    Returns:
        Paths of the strips.

    Raises:
        DataError: the directory cannot be written.
    """
    directory = Path(directory)
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for i in range(len(figures)):
            clip = figures.clip(i)
            everything = range(len(clip))
            strip = np.concatenate(clip.frames(everything), axis=1)
            path = directory / f"{clip.name}.png"
            path.write_bytes(cv2.imencode(".png", strip[..., ::-1])[1].tobytes())
            np.savez(
                path.with_suffix(".npz"),
                keypoints=clip.keypoints(everything),
                visible=clip.visible(everything),
                names=np.array(KEYPOINT_NAMES),
                skeleton=np.array(SKELETON),
            )
            written.append(path)
    except OSError as error:
        raise DataError(f"cannot write synthetic figures to {directory}: {error}, choose another directory") from error
    return written
