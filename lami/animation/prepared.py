"""A source with everything that motion transfer needs of it computed once, whatever the number of driving frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lami.errors import CheckpointError
from lami.model import LAMI, Candidates


@dataclass(frozen=True)
class Moved:
    """A source in the pose of one driving frame; tensors on the model's device, images in [0, 1] at its size.

    driving (3, H, W): the driving frame; driving_keypoints (K, N, 2): as detected there. keypoints (K, N, 2): pose that
    the source was moved to. background (3, 3): from driving to source coordinates, or None. selected_time: candidate
    time that motion was transferred from, 0 for the source itself. prediction (3, H, W): the result. flows (S, h, w, 2)
    and visible (S, 1, h', w'): the steps from it back to the source, see `Transferred`.
    """

    driving: Tensor
    driving_keypoints: Tensor
    keypoints: Tensor
    background: Tensor | None
    selected_time: float
    prediction: Tensor
    flows: Tensor
    visible: Tensor


class PreparedSource:
    """One source image, ready to be moved to many poses.

    Args:
        model: in eval mode.
        image: (1, 3, H, W) in [0, 1], on the model's device.

    Raises:
        ConfigError: the image's size does not fit the model.
        CheckpointError: the keypoints are not finite.
    """

    def __init__(self, model: LAMI, image: Tensor) -> None:
        self.model = model
        self.encoded = model.encode(image)
        self.keypoints = self.detect(image)
        """(1, K, N, 2)."""

    @property
    def image(self) -> Tensor:
        """(1, 3, H, W)."""
        return self.encoded.image

    @cached_property
    def class_token(self) -> Tensor:
        """ViT class token (1, D)."""
        return self.model.class_tokens(self.image)

    def detect(self, images: Tensor) -> Tensor:
        """Keypoints (B, K, N, 2) of images (B, 3, H, W).

        Raises:
            CheckpointError: they are not finite.
        """
        return self._finite(self.model.detect_keypoints(images), "keypoints")

    def background(self, driving: Tensor) -> Tensor | None:
        """Camera motion (B, 3, 3) to driving frames (B, 3, H, W) of the same video; None without a predictor."""
        return self.model.predict_background(self.image.expand_as(driving), driving)

    def candidates(
        self, keypoints: Tensor, times: Sequence[float] | None = None, background: Tensor | None = None
    ) -> Candidates:
        """`LAMI.candidates` of this source for B poses (B, K, N, 2)."""
        interpolation = self.model.interpolation
        choice = interpolation.selector == "eq4" and len(interpolation.times if times is None else times) > 1
        cls = self.class_token if choice else None
        return self.model.candidates(self.encoded, self.keypoints, keypoints, times, background, cls)

    def move(
        self,
        driving: Tensor,
        driving_keypoints: Tensor,
        keypoints: Tensor,
        times: Sequence[float] | None = None,
        background: Tensor | None = None,
        choose: Callable[[Candidates], Tensor] = Candidates.best,
    ) -> list[Moved]:
        """This source in B poses, through interpolated images unless the model has interpolation switched off.

        Args:
            driving: (B, 3, H, W); driving_keypoints: (B, K, N, 2) detected there.
            keypoints: (B, K, N, 2) to move the source to.
            times: candidate times; None takes the model's.
            background: (B, 3, 3), see `background`; None leaves the background where it is.
            choose: gives the index (B,) of each pose's candidate.

        Raises:
            CheckpointError: the result is not finite.
        """
        if self.model.interpolation.enabled:
            candidates = self.candidates(keypoints, times, background)
            result = self.model.complete(
                self.encoded, self.keypoints, keypoints, candidates, choose(candidates), background, driving
            )
        else:
            result = self.model.transfer_directly(self.encoded, self.keypoints, keypoints, background)
        predictions = self._finite(result.prediction, "images")
        return [
            Moved(
                driving=driving[i],
                driving_keypoints=driving_keypoints[i],
                keypoints=keypoints[i],
                background=None if background is None else background[i],
                selected_time=time,
                prediction=predictions[i],
                flows=result.flows[i],
                visible=result.visible[i],
            )
            for i, time in enumerate(result.selected_time.tolist())
        ]

    def _finite(self, values: Tensor, what: str) -> Tensor:
        if not torch.isfinite(values).all():
            # bf16 reaches as far as fp32 and so hardly ever is the cause; keypoints are in fp32 anyway.
            first = "try precision fp32, else " if self.model.accelerated == "bf16" else ""
            raise CheckpointError(
                f"the model makes {what} that are not finite numbers; its weights are damaged or its training "
                f"diverged, {first}use another checkpoint"
            )
        return values
