"""Which keypoints the source is moved to: those of the driving frame, or their change since a reference frame."""

from __future__ import annotations

import logging
import math
from typing import Literal, get_args

import torch
from torch import Tensor

from lami.animation.pose import pose_distance, relative_scale
from lami.errors import ConfigError
from lami.models import Networks

logger = logging.getLogger(__name__)

Mode = Literal["relative", "absolute", "avd"]

_FAR = 0.3
"""Pose distance between source and reference from which relative motion starts visibly wrong."""


class KeypointTransfer:
    """Driving keypoints (B, K, N, 2) -> keypoints to move the source to.

    `absolute` keeps them; `relative` adds their change since a reference frame to the source's, scaled by the objects'
    sizes; `avd` lets the AVD network give the driving pose the source's proportions.

    Args:
        networks: the model, for its AVD network.
        kp_source: (1, K, N, 2).
        mode: see above.
        strength: how far keypoints go from the source's to those of the mode: 0 stays, 1 arrives, more exaggerates.

    Raises:
        ConfigError: an unknown mode, `avd` with a model that has no AVD network, or a strength below 0 or not finite.
    """

    def __init__(self, networks: Networks, kp_source: Tensor, mode: Mode, strength: float = 1.0) -> None:
        if mode not in get_args(Mode):
            raise ConfigError(f"unknown mode {mode!r}; use one of {', '.join(get_args(Mode))}")
        if mode == "avd" and networks.avd is None:
            raise ConfigError("mode avd needs an AVD network, which this model lacks; add one with 'lami train-avd'")
        if not (math.isfinite(strength) and strength >= 0):
            raise ConfigError(f"strength must be a finite number of 0 or more, got {strength}; 1 moves as driven")
        self.mode = mode
        self.strength = strength
        self._avd = networks.avd
        self._source = kp_source
        self._reference: Tensor | None = None
        self._scale = 1.0

    def refer_to(self, kp_reference: Tensor) -> None:
        """Take the keypoints (1, K, N, 2) of this driving frame as the one that shows the source's own pose."""
        self._reference = kp_reference
        self._scale = relative_scale(self._source, kp_reference)
        distance = pose_distance(self._source, kp_reference)
        logger.info("distance between the poses of source and reference frame: %.2f of the object's size", distance)
        if distance > _FAR:
            logger.warning(
                "the reference frame's pose is far from the source's (%.2f), and relative motion takes them for equal; "
                "best-frame search or mode absolute may do better",
                distance,
            )

    def forget_reference(self) -> None:
        """The next keypoints bring a new reference."""
        self._reference = None

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
