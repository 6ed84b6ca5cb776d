"""The articulated body of a synthetic figure: proportions, joint motion and forward kinematics.

Body coordinates are in body units (a grown figure is about 1.4 tall), x to the right and y down like an image;
angles are in radians from straight down, positive towards +x. The figure faces the viewer, so its left is on the
image's right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lami.data._textures import Array, Shape

KEYPOINT_NAMES: tuple[str, ...] = (
    "head", "neck", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
SKELETON: tuple[tuple[int, int], ...] = (
    (0, 1), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7), (2, 8), (3, 9), (8, 9),
    (8, 10), (9, 11), (10, 12), (11, 13),
)  # fmt: skip
PARTS: tuple[str, ...] = (
    "torso", "head",
    "left_upper_arm", "left_forearm", "left_thigh", "left_shin", "left_foot",
    "right_upper_arm", "right_forearm", "right_thigh", "right_shin", "right_foot",
)  # fmt: skip
ATTACHED: dict[str, tuple[str, ...]] = {
    "torso": ("neck", "left_shoulder", "right_shoulder", "left_hip", "right_hip"),
    "head": ("head", "neck"),
} | {
    f"{side}_{part}": tuple(f"{side}_{joint}" for joint in joints)
    for side in ("left", "right")
    for part, joints in {
        "upper_arm": ("shoulder", "elbow"),
        "forearm": ("elbow", "wrist"),
        "thigh": ("hip", "knee"),
        "shin": ("knee", "ankle"),
        "foot": ("ankle",),
    }.items()
}
"""Joints that each part carries: the part never hides them."""
CONTROLLED: tuple[str, ...] = tuple(part for part in PARTS if not part.endswith("foot"))
"""Parts that have control points of their own; a foot goes with its shin."""


@dataclass(frozen=True)
class Wave:
    """Smooth motion of one quantity: mean + sum of amplitude * sin(2 pi frequency t + phase), t in seconds."""

    mean: float
    amplitudes: Array
    frequencies: Array
    phases: Array

    @classmethod
    def random(cls, rng: np.random.Generator, mean: float, amplitude: float, fastest: float = 0.9) -> Wave:
        """A slow and a fast sinusoid whose amplitudes sum to `amplitude`."""
        share = rng.uniform(0.65, 0.85)
        frequencies = np.array([rng.uniform(0.4, 0.7), rng.uniform(0.8, 1.3)]) * fastest
        return cls(mean, amplitude * np.array([share, 1 - share]), frequencies, rng.uniform(0, 2 * np.pi, 2))

    def __call__(self, seconds: Array) -> Array:
        """Values (n,) at times (n,)."""
        phase = 2 * np.pi * self.frequencies * seconds[:, None] + self.phases
        return self.mean + np.sin(phase) @ self.amplitudes


@dataclass(frozen=True)
class Pose:
    """Poses of n frames relative to the middle of the hips, before scale."""

    joints: Array
    """(n, P, 2) in the order of `KEYPOINT_NAMES`."""
    origins: Array
    """(n, Q, 2) start of the axis of each of `PARTS`."""
    directions: Array
    """(n, Q, 2) unit vectors along the axis of each part."""


def _direction(angle: Array) -> Array:
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1)


class Rig:
    """Random proportions and joint motion of one figure.

    Args:
        rng: source of every random choice.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        def vary(value: float, spread: float = 0.15) -> float:
            return value * float(rng.uniform(1 - spread, 1 + spread))

        stout = rng.uniform(0.85, 1.2)
        arm, leg = vary(0.076) * stout, vary(0.092) * stout
        self.torso_length = vary(0.42, 0.1)
        self.shoulder = vary(0.15) * stout**0.5
        self.hip = vary(0.085)
        self.head_radius = vary(0.165)
        self.neck = vary(0.03, 0.5)
        upper, fore, thigh, shin = vary(0.25), vary(0.24), vary(0.30), vary(0.29)
        limbs = {
            "upper_arm": Shape(upper, arm, arm * 0.9),
            "forearm": Shape(fore, arm * 0.9, arm * 0.95),
            "thigh": Shape(thigh, leg * 1.05, leg * 0.88),
            "shin": Shape(shin, leg * 0.88, leg * 0.8),
            "foot": Shape(vary(0.1), leg * 0.85, leg * 0.75),
        }
        self.shapes: dict[str, Shape] = {
            "torso": Shape(self.torso_length * 0.8, self.hip + 0.05, self.shoulder * 0.97),
            "head": Shape(0.05, self.head_radius * 0.94, self.head_radius),
        } | {f"{side}_{name}": shape for side in ("left", "right") for name, shape in limbs.items()}

        self.lean = Wave.random(rng, 0.0, np.deg2rad(rng.uniform(8, 28)))
        self.nod = Wave.random(rng, 0.0, np.deg2rad(rng.uniform(8, 25)))
        self.swings = {
            f"{side}_{joint}": Wave.random(rng, np.deg2rad(mean), np.deg2rad(rng.uniform(*amplitude)))
            for side in ("left", "right")
            for joint, mean, amplitude in (
                ("shoulder", rng.uniform(45, 75), (75, 110)),
                ("elbow", rng.uniform(20, 45), (30, 65)),
                ("hip", rng.uniform(8, 20), (25, 45)),
                ("knee", rng.uniform(-20, 0), (10, 35)),
            )
        }

        far, near = rng.permutation(["left", "right"])
        leg_parts, arm_parts = ("foot", "shin", "thigh"), ("upper_arm", "forearm")
        arm_behind = rng.uniform() < 0.5
        far_arm = [f"{far}_{part}" for part in arm_parts]
        self.order: tuple[str, ...] = (
            *(far_arm if arm_behind else ()),
            *(f"{side}_{part}" for side in (far, near) for part in leg_parts),
            "torso",
            "head",
            *(() if arm_behind else far_arm),
            *(f"{near}_{part}" for part in arm_parts),
        )
        """Depth order of the parts, back to front, fixed for the figure."""

    def pose(self, seconds: Array) -> Pose:
        """Joints and parts at times (n,) in seconds."""
        lean, nod = self.lean(seconds), self.nod(seconds)
        up, right = -_direction(lean), _direction(lean + np.pi / 2)
        joints: dict[str, Array] = {"neck": self.torso_length * up}
        parts: dict[str, tuple[Array, Array]] = {}

        def extend(part: str, start: Array, direction: Array) -> Array:
            parts[part] = (start, direction)
            return start + self.shapes[part].length * direction

        head_up = -_direction(lean + nod)
        joints["head"] = joints["neck"] + (self.neck + self.head_radius) * head_up
        extend("torso", np.zeros_like(up), up)
        extend("head", joints["head"] - 0.5 * self.shapes["head"].length * head_up, head_up)
        for side, sign in (("left", 1.0), ("right", -1.0)):
            angles = {
                name: sign * self.swings[f"{side}_{name}"](seconds) for name in ("shoulder", "elbow", "hip", "knee")
            }
            shoulder = joints["neck"] - 0.06 * up + sign * self.shoulder * right
            hip = sign * self.hip * right
            arm = lean + angles["shoulder"]
            leg = 0.5 * lean + angles["hip"]
            elbow = extend(f"{side}_upper_arm", shoulder, _direction(arm))
            wrist = extend(f"{side}_forearm", elbow, _direction(arm + angles["elbow"]))
            knee = extend(f"{side}_thigh", hip, _direction(leg))
            ankle = extend(f"{side}_shin", knee, _direction(leg + angles["knee"]))
            extend(f"{side}_foot", ankle, _direction(leg + angles["knee"] + sign * np.deg2rad(75)))
            joints |= {
                f"{side}_{name}": position
                for name, position in zip(
                    ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"),
                    (shoulder, elbow, wrist, hip, knee, ankle),
                    strict=True,
                )
            }
        return Pose(
            np.stack([joints[name] for name in KEYPOINT_NAMES], axis=1),
            np.stack([parts[name][0] for name in PARTS], axis=1),
            np.stack([parts[name][1] for name in PARTS], axis=1),
        )

    def reach(self, pose: Pose) -> tuple[Array, Array]:
        """Smallest and largest coordinate (n, 2) that the figure covers in `pose`."""
        lengths = np.array([self.shapes[name].length for name in PARTS])[:, None]
        starts = np.array([self.shapes[name].start for name in PARTS])[:, None]
        ends = np.array([self.shapes[name].end for name in PARTS])[:, None]
        tips = pose.origins + lengths * pose.directions
        low = np.minimum(pose.origins - starts, tips - ends).min(axis=1)
        high = np.maximum(pose.origins + starts, tips + ends).max(axis=1)
        return low, high


def rotate(vectors: Array, angle: NDArray[np.float64]) -> Array:
    """Vectors (n, m, 2) turned by angles (n,), clockwise on screen for positive angles."""
    cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1)
