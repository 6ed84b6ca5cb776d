"""The look of a synthetic figure: clothes, skin and face.

Left and right limbs wear the same pattern in slightly different colours, so that they can be told apart.
"""

from __future__ import annotations

import numpy as np

from lami.data._textures import Array, Detail, Image, Pattern, disc, hsv, plain

_SKIN = (
    (0.07, 0.35, 0.98),
    (0.06, 0.45, 0.85),
    (0.05, 0.55, 0.62),
    (0.28, 0.40, 0.85),
    (0.58, 0.35, 0.92),
    (0.92, 0.3, 0.95),
)


class Wardrobe:
    """Random patterns and details of every body part.

    Args:
        rng: source of every random choice.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        skin = hsv(*_SKIN[rng.integers(len(_SKIN))])
        shoe = hsv(rng.uniform(), 0.7, rng.uniform(0.25, 0.5))
        shirt, trousers = rng.uniform(), rng.uniform()
        self.patterns: dict[str, Pattern] = {"torso": _cloth(rng, shirt)}
        upper, fore = _cloth_pair(rng, shirt + rng.uniform(0.1, 0.3)), _cloth_pair(rng, shirt + rng.uniform(0.35, 0.6))
        thigh, shin = _cloth_pair(rng, trousers), _cloth_pair(rng, trousers + rng.uniform(0.1, 0.4))
        for side in (0, 1):
            name = ("left", "right")[side]
            self.patterns |= {
                f"{name}_upper_arm": upper[side],
                f"{name}_forearm": fore[side],
                f"{name}_thigh": thigh[side],
                f"{name}_shin": shin[side],
                f"{name}_foot": plain(shoe * (0.9 + 0.5 * side)),
            }
        self.patterns["head"] = plain(skin)
        hair = hsv(rng.uniform(), rng.uniform(0.4, 0.9), rng.uniform(0.15, 0.75))
        self.details: dict[str, Detail] = {
            "head": _face(hair, parting=float(rng.uniform(-0.5, 0.5))),
            "left_forearm": _hand(skin),
            "right_forearm": _hand(skin),
        }


def _cloth(rng: np.random.Generator, hue: float) -> Pattern:
    return Pattern.random(rng, _colors(hue, rng.uniform(0.6, 0.95), rng.uniform(0.7, 1.0), _contrast(rng)))


def _cloth_pair(rng: np.random.Generator, hue: float) -> tuple[Pattern, Pattern]:
    saturation, value, contrast = rng.uniform(0.6, 0.95), rng.uniform(0.7, 0.95), _contrast(rng)
    left = Pattern.random(rng, _colors(hue, saturation, value, contrast))
    right = Pattern(
        left.kind, _colors(hue + 0.07, saturation - 0.1, value * 0.82, contrast), left.wavelength, left.waves
    )
    return left, right


def _contrast(rng: np.random.Generator) -> Array:
    """Change of hue, saturation and value from the first to the second colour of a cloth."""
    change: Array = np.array([rng.uniform(-0.12, 0.12), -rng.uniform(0.2, 0.6), rng.uniform(0.1, 0.3)])
    return change if rng.uniform() < 0.5 else np.array([change[0], 0.0, -rng.uniform(0.3, 0.5)])


def _colors(hue: float, saturation: float, value: float, contrast: Array) -> tuple[Image, Image]:
    second = np.array([hue, saturation, value]) + contrast
    return hsv(hue, saturation, value), hsv(*second)


def _face(hair: Image, parting: float) -> Detail:
    """Hair, two eyes and a mouth on a head of radius about 0.165 body units; u points to the crown."""
    white, ink, lips = hsv(0, 0, 1), hsv(0, 0, 0.08), hsv(0.98, 0.6, 0.65)

    def draw(color: Image, u: Array, v: Array, density: float) -> Image:
        fringe = np.clip((u - 0.11 - parting * v - 0.8 * v**2) * density + 0.5, 0, 1)[..., None]
        color = (color + fringe * (hair - color)).astype(np.float32)
        for eye in (-0.062, 0.062):
            color = disc(color, u, v, density, (0.035, eye), 0.040, white)
            color = disc(color, u, v, density, (0.030, eye * 0.95), 0.023, ink)
        mouth = np.maximum(np.abs(u + 0.075 - 3.0 * v**2) - 0.012, np.abs(v) - 0.06)
        smile = np.clip(0.5 - mouth * density, 0, 1)[..., None]
        return (color + smile * (lips - color)).astype(np.float32)

    return draw


def _hand(skin: Image) -> Detail:
    """A bare hand at the end of a forearm of about 0.24 body units."""

    def draw(color: Image, u: Array, v: Array, density: float) -> Image:
        bare = np.clip((u - 0.19) * density + 0.5, 0, 1)[..., None]
        return (color + bare * (skin - color)).astype(np.float32)

    return draw
