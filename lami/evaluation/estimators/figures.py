"""Control points of the synthetic figures: exact ones in real frames, those of a trained detector in generated ones.

The detector is the packaged demonstration model's, which learned from true control points. Its own error on real
frames of figures that it has not seen is 1.0 pixels at 64x64 on average: differences below that say nothing.
`FigurePoints.detector_error` measures it for a data set.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

import lami
from lami.animation.letterbox import Letterbox
from lami.checkpoint import load
from lami.configs.schema import DataConfig
from lami.data import find_clips, to_tensor
from lami.data._rig import CONTROLLED
from lami.data.synthetic import FigureClip
from lami.demo import WEIGHTS
from lami.errors import ConfigError, DataError
from lami.evaluation.estimators.base import Frame, Keypoints

_POINTS = ("begin", "end", "side", "other_side", "middle")


class FigurePoints:
    """50 control points, 5 on each of 10 body parts (see `FigureClip.control_points`).

    In real frames those are present that no other body part hides; the detector gives all that lie inside the frame,
    hidden ones included.

    Args:
        config: has `synthetic` set.
        image_size: (height, width) of all frames, at which the figures are drawn.

    Raises:
        ConfigError: the clips are not synthetic figures.
        DataError: a frame has another size, or its clip is not one of the figures.
    """

    name = "figures"
    labels = tuple(f"{part}_{point}" for part in CONTROLLED for point in _POINTS)

    def __init__(self, config: DataConfig, image_size: tuple[int, int]) -> None:
        if config.synthetic is None:
            raise ConfigError("the estimator figures knows synthetic figures only, set data.synthetic or take another")
        self.version = f"lami {lami.__version__}"
        self._size = image_size
        self._clips = find_clips(config, image_size)
        self._sources = {source.name: source for source in self._clips.train + self._clips.test}
        self._open: tuple[str, FigureClip] | None = None
        self._model = load(WEIGHTS, "cpu")
        self._letterbox = Letterbox(image_size, self._model.config.image_size)

    def keypoints(self, frame: Frame) -> Keypoints | None:
        if frame.image.shape[:2] != self._size:
            raise DataError(f"frames of the estimator figures must be {self._size}, not {frame.image.shape[:2]}")
        return self._detect(frame.image) if frame.generated else self._true(self._clip(frame.clip), frame.number)

    @cached_property
    def detector_error(self) -> float:
        """Mean distance in pixels between detected and visible true points in the real frames of all test clips."""
        distances = []
        for source in self._clips.test:
            clip = self._clip(source.name)
            for number, image in enumerate(clip.frames(range(len(clip)))):
                truth = self._true(clip, number)
                offset = self._detect(image).points - truth.points
                distances.append(np.linalg.norm(offset, axis=1)[truth.present])
        return float(np.concatenate(distances).mean())

    def _clip(self, name: str) -> FigureClip:
        if name not in self._sources:
            raise DataError(
                f"{name} is not one of the synthetic figures, evaluate with the configuration they come from"
            )
        if self._open is None or self._open[0] != name:
            clip = self._sources[name].open()
            assert isinstance(clip, FigureClip)
            self._open = name, clip
        return self._open[1]

    def _true(self, clip: FigureClip, number: int) -> Keypoints:
        points = _to_pixels(clip.control_points([number]).reshape(-1, 2), self._size)
        return Keypoints(points, clip.control_points_visible([number]).reshape(-1))

    @torch.inference_mode()
    def _detect(self, image: np.ndarray) -> Keypoints:
        box = self._letterbox
        found = self._model.detect_keypoints(to_tensor(box.apply(image))[None])[0].double().numpy().reshape(-1, 2)
        height, width = self._size
        # The borders of the frame and of its place in the letterbox coincide.
        place = _to_pixels(found, box.model_size) + 0.5 - (box.left, box.top)
        points = place * (width / box.width, height / box.height) - 0.5
        inside: np.ndarray = (points >= 0) & (points <= (width - 1, height - 1))
        return Keypoints(points, np.all(inside, axis=1))


def _to_pixels(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Points (n, 2) from [-1, 1], align_corners=True, to pixels of an image of `size`."""
    return (points + 1) / 2 * (size[1] - 1, size[0] - 1)
