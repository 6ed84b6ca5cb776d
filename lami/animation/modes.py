"""Which keypoints the source is moved to: those of the driving frame, or their change since a reference frame."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from lami.animation.pose import pose_distance, relative_scale, tell_distance
from lami.errors import ConfigError
from lami.model import LAMI

Mode = Literal["relative", "absolute", "avd"]


class KeypointTransfer:
    """Driving keypoints (B, K, N, 2) -> keypoints to move the source to.

    `absolute` keeps them; `relative` adds their change since a reference frame to the source's, scaled by the objects'
    sizes; `avd` lets the AVD network give the driving pose the source's proportions.

    Args:
        model: for its AVD network, and for what it saw in training.
        kp_source: (1, K, N, 2).
        mode: see above.
        strength: how far keypoints go from the source's to those of the mode: 0 stays, 1 arrives, more exaggerates.

    Raises:
        ConfigError: an unknown mode, `avd` with a model that has no AVD network, or a strength below 0 or not finite.
    """

    def __init__(self, model: LAMI, kp_source: Tensor, mode: Mode, strength: float = 1.0) -> None:
        if mode not in get_args(Mode):
            raise ConfigError(f"unknown mode {mode!r}; use one of {', '.join(get_args(Mode))}")
        if mode == "avd" and model.avd is None:
            raise ConfigError("mode avd needs an AVD network, which this model lacks; add one with 'lami train-avd'")
        if not (math.isfinite(strength) and strength >= 0):
            raise ConfigError(f"strength must be a finite number of 0 or more, got {strength}; 1 moves as driven")
        self.mode = mode
        self.strength = strength
        self.start_distance: float | None = None
        """In mode relative between source and reference, see `pose_distance`; None without one."""
        self._avd = model.avd
        self._seen = model.seen_poses
        self._source = kp_source
        self._reference: Tensor | None = None
        self._scale = 1.0

    def refer_to(self, kp_reference: Tensor) -> None:
        """Take the keypoints (1, K, N, 2) of this driving frame as the one that shows the source's own pose."""
        self._reference = kp_reference
        self._scale = relative_scale(self._source, kp_reference)
        if self.mode != "relative":
            return
        self.start_distance = pose_distance(self._source, kp_reference)
        tell_distance(
            "the pose distance between source and reference frame",
            self.start_distance,
            self._seen,
            "relative motion takes the two for equal, which a reference nearer to the source (--best-frame), mode "
            "absolute or another driving video avoids",
        )

    def forget_reference(self) -> None:
        """The next keypoints bring a new reference."""
        self._reference = None
        self.start_distance = None

    def __call__(self, kp_driving: Tensor) -> Tensor:
        """(B, K, N, 2) -> the same shape; without a reference, the first of the batch becomes it."""
        return torch.lerp(self._source.expand_as(kp_driving), self._driven(kp_driving), self.strength)

    def _driven(self, kp_driving: Tensor) -> Tensor:
        if self._avd is not None and self.mode == "avd":
            return self._avd(self._source.expand_as(kp_driving), kp_driving)
        if self.mode != "relative":
            return kp_driving
        reference = self._reference
        if reference is None:
            reference = kp_driving[:1]
            self.refer_to(reference)
        return self._source + (kp_driving - reference) * self._scale
