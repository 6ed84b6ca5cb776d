"""Textures of the synthetic figures: patterned limbs in limb coordinates and a tileable background.

Patterns are functions of body coordinates, so that a limb shows the same texture at every resolution and the texture
moves rigidly with the limb. Colours are RGB in [0, 255], float32.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Image = NDArray[np.float32]

PATTERNS = ("rings", "stripes", "checks", "blotches", "gradient")
OUTLINE = 0.016
"""Width of the dark rim of a limb, in body units."""
TILE_PERIOD = 4.0
"""Side of the background tile in scene units: two image heights."""
_TILE_TEXELS = 128


def hsv(hue: float, saturation: float, value: float) -> Image:
    """RGB colour (3,), float32 in [0, 255]; the hue wraps around, the rest is clipped to [0, 1]."""
    rgb = colorsys.hsv_to_rgb(hue % 1.0, float(np.clip(saturation, 0, 1)), float(np.clip(value, 0, 1)))
    return np.asarray(rgb, dtype=np.float32) * 255.0


@dataclass(frozen=True)
class Pattern:
    """Two colours mixed over body coordinates (u along the limb, v across)."""

    kind: str
    colors: tuple[Image, Image]
    wavelength: float
    waves: Array
    """Plane waves of `blotches`, (n, 3): angular frequency along u and v, phase."""

    @classmethod
    def random(cls, rng: np.random.Generator, colors: tuple[Image, Image]) -> Pattern:
        directions = rng.uniform(0, 2 * np.pi, 4)
        frequencies = rng.uniform(20, 45, 4)
        waves = np.stack(
            [np.cos(directions) * frequencies, np.sin(directions) * frequencies, rng.uniform(0, 2 * np.pi, 4)], axis=1
        )
        return cls(str(rng.choice(PATTERNS)), colors, float(rng.uniform(0.11, 0.17)), waves)

    def paint(self, u: Array, v: Array, length: float, density: float) -> Image:
        """Colours (*u.shape, 3) at body coordinates `u`, `v`; edges are one texel (1 / `density`) wide."""
        ramp = self.wavelength * density / (2 * np.pi)
        phase_u, phase_v = 2 * np.pi * u / self.wavelength, 2 * np.pi * v / self.wavelength
        if self.kind == "gradient":
            mix = np.clip(u / max(length, 1e-6), 0, 1)
        elif self.kind == "blotches":
            height = np.sum([np.sin(a * u + b * v + c) for a, b, c in self.waves], axis=0)
            mix = np.clip(height * density / 45 + 0.5, 0, 1)
        else:
            wave = {"rings": np.sin(phase_u), "stripes": np.cos(phase_v), "checks": np.sin(phase_u) * np.sin(phase_v)}
            mix = np.clip(wave[self.kind] * ramp + 0.5, 0, 1)
        first, second = self.colors
        return (first + mix[..., None] * (second - first)).astype(np.float32)


def plain(color: Image) -> Pattern:
    """A single colour."""
    return Pattern("gradient", (color, color), 1.0, np.zeros((0, 3)))


@dataclass(frozen=True)
class Shape:
    """Capsule around the segment from (0, 0) to (length, 0) whose radius goes from `start` to `end`, in body units."""

    length: float
    start: float
    end: float

    def distance(self, u: Array, v: Array) -> Array:
        """Signed distance to the outline, negative inside."""
        slope = (self.start - self.end) / self.length
        cosine = np.sqrt(1 - slope**2)
        across = np.abs(v)
        along = cosine * u - slope * across
        side = cosine * across + slope * u - self.start
        return np.where(
            along < 0,
            np.hypot(u, v) - self.start,
            np.where(along > cosine * self.length, np.hypot(u - self.length, v) - self.end, side),
        )


@dataclass(frozen=True)
class Patch:
    """Picture of a body part: premultiplied RGBA (h, w, 4), colour in [0, 255] and alpha in [0, 1].

    The texel (x, y) shows body coordinates u = (x - origin[0]) / density, v = (y - origin[1]) / density.
    """

    rgba: Image
    origin: tuple[float, float]
    density: float


Detail = Callable[[Image, Array, Array, float], Image]
"""Paints on colours (h, w, 3) at body coordinates u, v with a given density, for instance a face."""


def paint_patch(shape: Shape, pattern: Pattern, density: float, detail: Detail | None = None) -> Patch:
    """Draw a body part with `density` texels a body unit: pattern, details, soft shading and a dark rim."""
    margin = 2.0
    origin = (shape.start * density + margin, max(shape.start, shape.end) * density + margin)
    width = int(np.ceil(origin[0] + (shape.length + shape.end) * density + margin)) + 1
    height = int(np.ceil(2 * origin[1])) + 1
    u, v = np.meshgrid((np.arange(width) - origin[0]) / density, (np.arange(height) - origin[1]) / density)
    color = pattern.paint(u, v, shape.length, density)
    if detail is not None:
        color = detail(color, u, v, density)
    distance = shape.distance(u, v)
    shade = 1 - 0.28 * np.clip(np.abs(v) / max(shape.start, shape.end), 0, 1) ** 2
    rim = np.clip((distance + OUTLINE) * density + 0.5, 0, 1)
    alpha = np.clip(0.5 - distance * density, 0, 1)
    color = color * (shade * (1 - 0.65 * rim) * alpha)[..., None]
    return Patch(np.dstack([color, alpha]).astype(np.float32), origin, density)


def disc(
    color: Image, u: Array, v: Array, density: float, center: tuple[float, float], radius: float, fill: Image
) -> Image:
    """`color` with an anti-aliased disc of colour `fill`, all in body coordinates."""
    inside = np.clip((radius - np.hypot(u - center[0], v - center[1])) * density + 0.5, 0, 1)[..., None]
    return (color + inside * (fill - color)).astype(np.float32)


def background_tile(rng: np.random.Generator) -> Image:
    """Smooth tileable texture (128, 128, 3), RGB in [0, 255], that covers `TILE_PERIOD` scene units in x and y."""
    hue, saturation, value = rng.uniform(), rng.uniform(0.15, 0.5), rng.uniform(0.45, 0.85)
    accent = hsv(hue + rng.uniform(0.08, 0.3), saturation * 0.9, value + rng.uniform(-0.25, 0.15))
    base = hsv(hue, saturation, value)
    mix, tone = (_periodic_noise(rng, octaves=(4, 8, 16)) for _ in range(2))
    tile = base + np.clip(0.5 + 0.5 * mix, 0, 1)[..., None] * (accent - base)
    return np.clip(tile * (1 + 0.16 * tone[..., None]), 0, 255).astype(np.float32)


def _periodic_noise(rng: np.random.Generator, octaves: tuple[int, ...]) -> Array:
    total = np.zeros((_TILE_TEXELS, _TILE_TEXELS))
    for octave, cells in enumerate(octaves):
        grid = np.pad(rng.uniform(-1, 1, (cells, cells)), 2, mode="wrap")
        step = _TILE_TEXELS // cells
        total += (
            0.6**octave
            * cv2.resize(grid, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)[
                2 * step : -2 * step, 2 * step : -2 * step
            ]
        )
    return total
