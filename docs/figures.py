"""Figures of docs/method.md, made by the packaged demonstration model: `python docs/figures.py`.

Each shows one step for the same pair, two frames of a generated figure that no training has seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import lami
from lami import ops
from lami.data import to_tensor, to_uint8
from lami.data.provenance import image_tags
from lami.data.synthetic import SyntheticFigures
from lami.demo import WEIGHTS
from lami.model import LAMI
from lami.models import Motion
from lami.visualize import INK, draw_keypoints, enlarge, flow_to_color, frame, grid

Picture = NDArray[np.uint8]

FOLDER = Path(__file__).parent / "images" / "method"
CLIP, SOURCE, DRIVING = 1_000_000, 0, 25
"""Figure, and its frames that are shown."""
CELL = 192


@dataclass(frozen=True)
class Pair:
    """A source and a driving image, (1, 3, H, W) each, and what the model makes of them."""

    model: LAMI
    source: Tensor
    driving: Tensor

    @cached_property
    def kp_source(self) -> Tensor:
        return self.model.detect_keypoints(self.source)

    @cached_property
    def kp_driving(self) -> Tensor:
        return self.model.detect_keypoints(self.driving)

    @cached_property
    def times(self) -> list[float]:
        return [*self.model.interpolation.times]

    @cached_property
    def candidates(self) -> lami.model.Candidates:
        return self.model.candidates(self.model.encode(self.source), self.kp_source, self.kp_driving)

    @cached_property
    def selected(self) -> int:
        return int(self.candidates.best())

    @cached_property
    def interpolated(self) -> Tensor:
        return self.candidates.images[:, self.selected]

    @cached_property
    def second_motion(self) -> Motion:
        """From the selected image to the driving pose."""
        return self.model.predict_motion(
            self.interpolated, self.kp_driving, self.candidates.keypoints[:, self.selected]
        )


def cell(image: Tensor, keypoints: Tensor | None = None) -> Picture:
    """(1, 3, H, W) in [0, 1] -> a picture of the size of a cell, with keypoints (1, K, N, 2)."""
    picture = to_uint8(image[0])
    scale = CELL // picture.shape[0]
    large = enlarge(picture, scale)
    if keypoints is None:
        return large
    side = picture.shape[0]
    return draw_keypoints(large, keypoints[0].numpy() * ((side - 1) * scale / (side * scale - 1)))


def gray(values: Tensor) -> Picture:
    """(h, w) in [0, 1] -> a picture of the size of a cell, white for 1."""
    picture = to_uint8(values.expand(3, *values.shape))
    return bordered(cv2.resize(picture, (CELL, CELL), interpolation=cv2.INTER_NEAREST))


def bordered(picture: Picture) -> Picture:
    """With a hairline around it, as white pictures need one on a white page."""
    return frame(picture, (200, 200, 200), 1)


def detection(pair: Pair) -> Picture:
    row = [cell(pair.source, pair.kp_source), cell(pair.driving, pair.kp_driving), paths(pair)]
    return grid([row], column_captions=["source", "driving", "the way between"])


def paths(pair: Pair) -> Picture:
    """The straight way of each keypoint from the source's to the driving pose, on the faded source."""
    picture = np.rint(255 - 0.45 * (255 - cell(pair.source).astype(float))).astype(np.uint8)
    starts, ends = (
        np.rint((points.flatten(0, -2).numpy() + 1) / 2 * (CELL - 1)).astype(int)
        for points in (pair.kp_source[0], pair.kp_driving[0])
    )
    for start, end in zip(starts, ends, strict=True):
        cv2.line(picture, tuple(start.tolist()), tuple(end.tolist()), INK, 1, cv2.LINE_AA)
    return draw_keypoints(picture, pair.kp_driving[0].numpy(), radius=2)


def splines(pair: Pair, shown: list[int]) -> Picture:
    """Keypoints at times from 0 to 1, and the source as some of the splines alone would move all of it."""
    times = [0.0, *pair.times, 1.0]
    white = np.full((CELL, CELL, 3), 255, np.uint8)
    points = [torch.lerp(pair.kp_source, pair.kp_driving, time) for time in times]
    rows = [[bordered(draw_keypoints(white, each[0].numpy())) for each in points]]
    for k in shown:
        rows.append([moved_by(pair, k, each[:, k]) for each in points])
    names = ["keypoints", *(f"spline {k + 1} alone" for k in shown)]
    return grid(rows, names, [f"t = {time:g}" for time in times])


def moved_by(pair: Pair, k: int, target: Tensor) -> Picture:
    """The source moved by the spline that takes the points (1, N, 2) to its points of the source."""
    theta, weights = ops.fit_tps(target, pair.kp_source[:, k])
    size = (pair.source.shape[2], pair.source.shape[3])
    moved = ops.warp(pair.source, ops.tps_grid(theta, weights, target, size))
    return draw_keypoints(cell(moved), target[0].numpy(), radius=4)


def contributions(pair: Pair) -> Picture:
    maps = pair.second_motion.contributions[0]
    cells = [cell(pair.driving), *map(gray, maps)]
    captions = ["driving", "background", *(f"spline {k}" for k in range(1, len(maps)))]
    half = len(cells) // 2
    return np.concatenate(
        [grid([cells[part]], column_captions=captions[part]) for part in (slice(half), slice(half, None))]
    )


def motion(pair: Pair) -> Picture:
    """Flow and occlusion of the second stage."""
    flow = flow_to_color(pair.second_motion.flow[0].numpy())
    pictures = [bordered(cv2.resize(flow, (CELL, CELL), interpolation=cv2.INTER_NEAREST))]
    captions = ["flow"]
    for each in pair.second_motion.occlusions:
        pictures.append(gray(each[0, 0]))
        captions.append(f"keep, {each.shape[2]}x{each.shape[3]}")
    return grid([pictures], column_captions=captions, breaks=(1,))


def selection(pair: Pair) -> Picture:
    assert pair.candidates.cost is not None
    costs = pair.candidates.cost[0].tolist()
    pictures = [
        cell(image[None], keypoints[None])
        for image, keypoints in zip(pair.candidates.images[0], pair.candidates.keypoints[0], strict=True)
    ]
    pictures[pair.selected] = frame(pictures[pair.selected])
    captions = [f"t = {time:g}, cost {cost:.2f}" for time, cost in zip(pair.times, costs, strict=True)]
    row = [cell(pair.source, pair.kp_source), *pictures, cell(pair.driving, pair.kp_driving)]
    return grid([row], column_captions=["source", *captions, "driving"], breaks=(1, 1 + len(pictures)))


def transfer(pair: Pair) -> Picture:
    both = pair.model.transfer(pair.source, pair.driving)
    direct = pair.model.generate(pair.source, pair.model.predict_motion(pair.source, pair.kp_driving, pair.kp_source))
    time = float(both.selected_time)
    row = [cell(image) for image in (pair.source, direct.prediction, pair.interpolated, both.prediction, pair.driving)]
    return grid(
        [row],
        column_captions=["source", "straight", f"image at t = {time:g}", "through it", "driving"],
        breaks=(1, 2, 4),
    )


@torch.inference_mode()
def main() -> None:
    model = lami.load(WEIGHTS, device="cpu")
    clip = SyntheticFigures(model.config.image_size, num_clips=1, num_frames=50, start=CLIP).clip(0)
    source, driving = (to_tensor(image)[None] for image in clip.frames([SOURCE, DRIVING]))
    pair = Pair(model, source, driving)
    largest = int(pair.second_motion.contributions[0, 1:].mean(dim=(1, 2)).argmax())
    fastest = int((pair.kp_driving - pair.kp_source).norm(dim=-1).mean(dim=(0, 2)).argmax())
    figures = {
        "detection": detection(pair),
        "splines": splines(pair, [largest, fastest]),
        "contributions": contributions(pair),
        "motion": motion(pair),
        "selection": selection(pair),
        "transfer": transfer(pair),
    }
    for name, picture in figures.items():
        # A palette takes a third of the room, and the eye hardly sees it.
        path = FOLDER / f"{name}.png"
        image = Image.fromarray(picture)
        palette = image.quantize(256, Image.Quantize.FASTOCTREE)
        image.quantize(palette=palette).save(path, optimize=True, **image_tags("PNG"))
        print(path)


if __name__ == "__main__":
    main()
