"""What one gets by gluing the paper onto TPSMM: the other side of `lami bench train`.

The same networks, equations and losses as `lami.training.step`, and the same values (tests/bench/test_naive.py), with
the habits of the code that this method would grow from: plain PyTorch ops; each generator call encodes its source,
fits its splines and resizes its flow anew; all candidates are made with gradient; one direction after the other; warps
are computed again for their loss, target encodings too; ViT and VGG see real images once for each loss and direction
that asks for them; losses are read back in every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lami import ops
from lami.configs.schema import TrainingConfig
from lami.interpolation import eq4_cost, interpolate_background, pick
from lami.losses import (
    RandomTPS,
    appearance_loss,
    background_consistency,
    feature_consistency,
    structure_loss,
    warp_consistency,
)
from lami.models import Motion
from lami.training.step import StepState, TrainingStep


@dataclass
class _Direction:
    """From one real image to the other: images (B, 3, H, W), keypoints (B, K, N, 2), background (B, 3, 3) or None."""

    source: Tensor
    target: Tensor
    kp_source: Tensor
    kp_target: Tensor
    background: Tensor | None


@dataclass
class _Interpolated:
    """Image (B, 3, H, W), its keypoints (B, K, N, 2), and its background transform to the target (B, 3, 3) or None."""

    image: Tensor
    keypoints: Tensor
    background: Tensor | None


class NaiveStep:
    """Losses of a batch of frame pairs with the networks of a `TrainingStep`, configured as the full method.

    Covers what the presets use: interpolation with the Eq. 4 selector, both directions, background `consistent` or
    none, keypoints `reuse`, no fusion, frozen feature encoder.
    """

    def __init__(self, step: TrainingStep) -> None:
        self.step = step
        self.model = step.model

    def __call__(self, source: Tensor, driving: Tensor, state: StepState) -> dict[str, Tensor]:
        with ops.use_backend("reference"):
            return self._losses(source, driving, state)

    def _losses(self, source: Tensor, driving: Tensor, state: StepState) -> dict[str, Tensor]:
        model, config = self.model, self.step.config
        kp_source, kp_driving = model.detect_keypoints(source), model.detect_keypoints(driving)
        forward = _Direction(source, driving, kp_source, kp_driving, model.predict_background(source, driving))
        reverse = _Direction(driving, source, kp_driving, kp_source, model.predict_background(driving, source))

        time, selected = self._selected(forward, state)
        middles = (selected, self._interpolated(reverse, 1 - time, state))
        losses: dict[str, Tensor] = {}

        def add(name: str, weight: float, loss: Tensor) -> None:
            losses[name] = losses.get(name, 0) + weight * loss

        for direction, middle in zip((forward, reverse), middles, strict=True):
            prediction, motion = self._generate(
                middle.image, middle.keypoints, direction.kp_target, middle.background, state
            )
            if config.reconstruction > 0:
                add("reconstruction", config.reconstruction, self.step.perceptual(prediction, direction.target))
            if config.pixel > 0:
                add("pixel", config.pixel, (prediction - direction.target).abs().mean())
            if config.warp > 0:
                features = model.generator.encode(middle.image)
                with torch.no_grad():
                    wanted = model.generator.encode(direction.target)
                occlusions = model.generator.level_occlusions(motion.occlusions, features)
                add("warp", config.warp, warp_consistency(features, motion.flow, wanted, occlusions))
            self._add_vit(add, prediction, direction.target, real=True)
        if config.feature > 0:
            first, second = (self.step.frozen_features(middle.image) for middle in middles)
            add("feature", config.feature, feature_consistency(first, second))
        self._add_vit(add, middles[0].image, middles[1].image, real=False)
        if config.equivariance > 0:
            for image, keypoints in ((driving, kp_driving), (source, kp_source)):
                transform = RandomTPS(len(image), image.device)
                found = model.detect_keypoints(transform.image(image))
                add("equivariance", config.equivariance / 2, (keypoints - transform.keypoints(found)).abs().mean())
        if config.background > 0 and forward.background is not None and reverse.background is not None:
            add("background", config.background, background_consistency(forward.background, reverse.background))
        return losses

    def _generate(
        self, image: Tensor, kp_image: Tensor, kp_target: Tensor, background: Tensor | None, state: StepState
    ) -> tuple[Tensor, Motion]:
        motion = self.model.predict_motion(image, kp_target, kp_image, background, state.dropout)
        return self.model.generate(image, motion).prediction, motion

    def _interpolated(self, direction: _Direction, time: Tensor, state: StepState) -> _Interpolated:
        """At times (B, 1)."""
        keypoints = torch.lerp(direction.kp_source, direction.kp_target, time[..., None, None])
        to_source, to_image = None, None
        if direction.background is not None:
            first, second = interpolate_background(direction.background, time)
            to_source, to_image = first[:, 0], second[:, 0]
        image, _ = self._generate(direction.source, direction.kp_source, keypoints, to_source, state)
        return _Interpolated(image, keypoints, to_image)

    def _selected(self, direction: _Direction, state: StepState) -> tuple[Tensor, _Interpolated]:
        """Times (B, 1) of Eq. 4 and what is there: the gradient visits all candidates."""
        vit = self.step.vit
        assert vit is not None
        batch, device = len(direction.source), direction.source.device
        times = torch.tensor(self.model.interpolation.times, device=device)
        candidates = [self._interpolated(direction, t.expand(batch, 1), state) for t in times]
        images = torch.stack([candidate.image for candidate in candidates], dim=1)
        keypoints = torch.stack([candidate.keypoints for candidate in candidates], dim=1)
        backgrounds = [candidate.background for candidate in candidates if candidate.background is not None]
        cls = torch.stack([vit(candidate.image).cls for candidate in candidates], dim=1)
        index = pick(eq4_cost(vit(direction.source).cls, cls, keypoints, direction.kp_target))
        rows = torch.arange(batch, device=device)
        background = torch.stack(backgrounds, dim=1)[rows, index] if backgrounds else None
        return times[index][:, None], _Interpolated(images[rows, index], keypoints[rows, index], background)

    def _add_vit(self, add: Callable[[str, float, Tensor], None], first: Tensor, second: Tensor, real: bool) -> None:
        """Class tokens and keys, by a pass each."""
        config, vit = self.step.config, self.step.vit
        assert vit is not None
        for name, weight, loss, attribute in (
            ("appearance", config.appearance, appearance_loss, "cls"),
            ("structure", config.structure, structure_loss, "keys"),
        ):
            if weight > 0:
                with torch.set_grad_enabled(not real):
                    wanted = getattr(vit(second), attribute)
                add(name, weight, loss(getattr(vit(first), attribute), wanted, config.vit_reduction))


def naive_settings(settings: TrainingConfig) -> TrainingConfig:
    """fp32 in NCHW with a plain Adam."""
    return settings.model_copy(
        update={
            "precision": "fp32",
            "channels_last": False,
            "fused_adam": False,
            "compile": False,
            "cuda_graphs": False,
            "checkpoint_decoder": False,
        }
    )
