"""The 68 landmarks of the iBUG 300-W annotation, which several face detectors give; left and right as in the image."""

from __future__ import annotations

_GROUPS = {"jaw": 17, "left_brow": 5, "right_brow": 5, "nose": 9, "left_eye": 6, "right_eye": 6, "mouth": 20}
LABELS: tuple[str, ...] = tuple(f"{group}_{n}" for group, count in _GROUPS.items() for n in range(count))
