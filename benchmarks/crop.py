"""What crops around keypoints find: small figures in wide scenes, whose true places are known.

    python -m benchmarks.crop -o crop.json

Figures that the packaged demonstration model has not seen stand in frames three times as wide as high, before a plain,
a smooth (as in its training) and a busy background. Of the box that `crop` gives, for single frames and for whole
clips: how often there is one, which part of the figure's true control points is inside (mean, and in the worst frame
of all), and how large it is, as a multiple of the figure's larger side. Of the keypoints of single frames: how far
they are from the true ones, in parts of that side, in the whole frame and in the crop.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from lami.animation.crop import Box, choose_box
from lami.animation.letterbox import Letterbox
from lami.checkpoint import load
from lami.data import to_tensor
from lami.data.synthetic import FigureClip
from lami.demo import WEIGHTS
from lami.environment import describe_machine
from lami.model import LAMI
from lami.progress import track

UNSEEN = 1_000_000
"""Number of the first figure that no training has used."""
SIDE, FRAMES = 128, 25
SINGLE = (0, 12)
"""Frames that are looked at alone."""
BACKGROUNDS = ("plain", "smooth", "busy")


class WideScene(FigureClip):
    """Figure `number` in a frame three times as wide as high, before one of `BACKGROUNDS`."""

    def __init__(self, number: int, background: str, side: int = SIDE, frames: int = FRAMES) -> None:
        super().__init__((side, 3 * side), frames, 0.0, (0, UNSEEN + number), f"{background}-{number}")
        if background == "plain":
            self._tile[:] = self._tile.mean(axis=(0, 1))
        elif background == "busy":
            rng = np.random.default_rng(number)
            for _ in range(150):
                place, radius = rng.integers(0, len(self._tile), 2).tolist(), int(rng.integers(2, 9))
                cv2.circle(self._tile, place, radius, rng.uniform(0, 255, 3).tolist(), cv2.FILLED)

    def points(self, numbers: Sequence[int]) -> np.ndarray:
        """True control points (n, 10, 5, 2) in pixels from the frame's corner."""
        height, width = self.size
        return (self.control_points(numbers) + 1) / 2 * (width - 1, height - 1) + 0.5


def detector(model: LAMI, images: Sequence[np.ndarray]) -> Callable[[Box], torch.Tensor]:
    """The keypoints (F, K, N, 2) of a part of the images."""

    @torch.inference_mode()
    def detect(box: Box) -> torch.Tensor:
        parts = [box.cut(image) for image in images]
        boxed = [Letterbox(part.shape[:2], model.config.image_size).apply(part) for part in parts]
        return model.detect_keypoints(to_tensor(np.stack(boxed)))

    return detect


def measure(model: LAMI, scene: WideScene, numbers: Sequence[int]) -> dict[str, float]:
    """What the crop for some frames of a scene is like."""
    detect, points, size = detector(model, scene.frames(numbers)), scene.points(numbers), scene.size
    side = float(np.ptp(points, axis=(1, 2)).max())
    box = choose_box("keypoints", size, model.config.image_size, scene.name, detect)
    left, top = box.left, box.top
    inside = ((points >= (left, top)) & (points <= (left + box.width, top + box.height))).all(axis=-1)
    whole = Box(0, 0, size[1], size[0], size)
    errors = [
        np.linalg.norm(part.to_frame(detect(part), model.config.image_size).reshape(points.shape) - points, axis=-1)
        for part in (whole, box)
    ]
    return {
        "found": float(box != whole),
        "inside": float(inside.mean()),
        "inside_worst": float(inside.mean(axis=(1, 2)).min()),
        "size": max(box.width, box.height) / side,
        "error_whole": float(errors[0].mean()) / side,
        "error_crop": float(errors[1].mean()) / side,
    }


def _summary(crops: list[dict[str, float]]) -> dict[str, float | None]:
    """Share of crops with a box; of these means, and the worst of what lies inside. Errors in the whole frame are those
    of all crops."""
    boxes = [crop for crop in crops if crop["found"]]
    mean = {
        key: float(np.mean([crop[key] for crop in boxes])) if boxes else None
        for key in ("inside", "size", "error_crop")
    }
    return {
        "found": len(boxes) / len(crops),
        **mean,
        "inside_worst": min((crop["inside_worst"] for crop in boxes), default=None),
        "size_largest": max((crop["size"] for crop in boxes), default=None),
        "error_whole": float(np.mean([crop["error_whole"] for crop in crops])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", type=int, default=20)
    parser.add_argument("-o", "--output", type=Path, default=Path("crop.json"))
    options = parser.parse_args()
    model = load(WEIGHTS, "cpu")
    found: dict[str, list[dict[str, float]]] = {}
    for number in track(range(options.figures), description="figures"):
        for background in BACKGROUNDS:
            scene = WideScene(number, background)
            for frame in SINGLE:
                found.setdefault(f"{background}, one frame", []).append(measure(model, scene, [frame]))
            found.setdefault(f"{background}, clip", []).append(measure(model, scene, range(FRAMES)))
    rows = {
        name: {
            "crops": len(crops),
            **_summary(crops),
        }
        for name, crops in found.items()
    }
    for name, row in rows.items():
        print(f"{name:<20}", {key: value and round(float(value), 3) for key, value in row.items()})
    settings = {"figures": options.figures, "side": SIDE, "frames": FRAMES, "single": SINGLE}
    result = {"machine": describe_machine(torch.device("cpu")), "settings": settings, "rows": rows}
    options.output.write_text(json.dumps(result, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
