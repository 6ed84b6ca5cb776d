"""One training step: both directions through the selected interpolated image, and every loss (Eq. 1 to 9)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lami.backbones import ViTFeatures
from lami.backbones.vit import ViTOutput
from lami.configs.schema import LossConfig
from lami.interpolation import eq4_cost, generate_candidates, interpolate_background, pick, transfer_from
from lami.losses import (
    PerceptualLoss,
    RandomTPS,
    appearance_loss,
    background_consistency,
    feature_consistency,
    structure_loss,
    warp_consistency,
)
from lami.model import LAMI
from lami.models import ContributionDropout, EncodedImage, Generator
from lami.pose import SeenPoses, pose_distances


@dataclass
class StepState:
    """What changes from epoch to epoch: the dropout of this step, and which parts have started."""

    dropout: ContributionDropout | None = None
    background: bool = True
    interpolation: bool = True


@contextlib.contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norm statistics of real images stay free of generated ones."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


class TrainingStep:
    """Losses of a batch of frame pairs.

    Both directions run as one batch of 2B samples wherever networks have no cross-sample ops: first the source with the
    driving frame as its target, then the reverse. The keypoint detector and the background predictor, which have batch
    norm, see real images only and one kind at a time.

    Args:
        model: whose networks are trained; `model.interpolation` holds the switches of the interpolation.
        config: loss weights and switches.
        selector: how one time is chosen; None is the model's own way.
    """

    def __init__(self, model: LAMI, config: LossConfig, selector: str | None = None) -> None:
        self.model = model
        self.config = config
        self.perceptual = PerceptualLoss(config.vgg, config.scales, model.config.image_size).to(model.device)
        interpolation = model.interpolation
        self.selector = selector or interpolation.selector
        options = (interpolation.fixed_time,) if self.selector == "fixed" else interpolation.times
        self._times = torch.tensor(options, device=model.device)  # once: a copy to a GPU waits for it
        self._selects = interpolation.enabled and self.selector == "eq4" and len(interpolation.times) > 1
        self.vit: ViTFeatures | None = model.vit() if self._selects or self._uses_vit_losses else None
        self._encoder = _Encode(model.generator)
        model.seen_poses = (
            SeenPoses.none(model.device) if model.seen_poses is None else model.seen_poses.to(model.device)
        )
        self.selected_times: Tensor | None = None
        """(B,) times of the last call, None where it did not interpolate."""

    @property
    def _uses_vit_losses(self) -> bool:
        return self.config.appearance > 0 or self.config.structure > 0

    @property
    def _uses_images(self) -> bool:
        config = self.config
        return self._uses_vit_losses or max(config.reconstruction, config.pixel, config.feature, config.warp) > 0

    def __call__(
        self, source: Tensor, driving: Tensor, state: StepState, control_points: Tensor | None = None
    ) -> dict[str, Tensor]:
        """
        Args:
            source, driving: (B, 3, H, W) in [0, 1].
            state: of the schedule.
            control_points: (B, 2, K, N, 2), true ones of source and driving frame, for `losses.keypoints`.

        Returns:
            Weighted losses by name, scalars with gradient; their sum is what to minimise (Eq. 9).
        """
        model, config = self.model, self.config
        self.selected_times = None
        kp_source, kp_driving = model.detect_keypoints(source), model.detect_keypoints(driving)
        if model.seen_poses is not None:
            model.seen_poses.add(pose_distances(kp_source.detach(), kp_driving.detach()))
        background, reverse = None, None
        if state.background and model.background_predictor is not None:
            background = model.predict_background(source, driving)
            if config.bidirectional or config.background > 0:
                reverse = model.predict_background(driving, source)

        losses: dict[str, Tensor] = {}
        # First: the backward pass of keypoints detected again needs the running statistics that this one changes.
        if config.equivariance > 0:
            losses["equivariance"] = config.equivariance * self._equivariance(source, driving, kp_source, kp_driving)
        if self._uses_images:
            losses |= self._image_losses(source, driving, kp_source, kp_driving, background, reverse, state)
        if config.keypoints > 0 and control_points is not None:
            found = torch.stack((kp_source, kp_driving), dim=1)
            losses["keypoints"] = config.keypoints * (found - control_points).abs().mean()
        if config.background > 0 and background is not None and reverse is not None:
            losses["background"] = config.background * background_consistency(background, reverse)
        return losses

    def _image_losses(
        self,
        source: Tensor,
        driving: Tensor,
        kp_source: Tensor,
        kp_driving: Tensor,
        background: Tensor | None,
        reverse: Tensor | None,
        state: StepState,
    ) -> dict[str, Tensor]:
        """Losses of generated images and of the motion that makes them; background maps are driving -> source, and
        `reverse`."""
        model, config = self.model, self.config
        b = len(source)
        both_ways = config.bidirectional
        interpolates = state.interpolation and model.interpolation.enabled
        losses: dict[str, Tensor] = {}

        # Directions: source -> driving, then, if trained, driving -> source.
        images = torch.cat((source, driving)) if both_ways else source
        targets = torch.cat((driving, source)) if both_ways else driving
        kp_from = torch.cat((kp_source, kp_driving)) if both_ways else kp_source
        kp_to = torch.cat((kp_driving, kp_source)) if both_ways else kp_driving
        to_source = background
        if both_ways and background is not None and reverse is not None:
            to_source = torch.cat((background, reverse))
        encoded = model.encode(images)

        real_vit = self._real_vit(source, driving) if interpolates or self._uses_vit_losses else None
        if interpolates:
            time = self._select_time(encoded.rows(slice(b)), kp_source, kp_driving, background, real_vit, b)
            self.selected_times = time[:, 0]
            time = torch.cat((time, 1 - time)) if both_ways else time
            start_image, kp_start, to_start = self._interpolate(
                encoded, kp_from, kp_to, time, to_source, targets, state
            )
            start = model.encode(start_image.detach() if config.detach_interpolated else start_image)
        else:
            start_image, kp_start, to_start, start = None, kp_from, to_source, encoded

        generated, motions = transfer_from(
            model,
            start,
            kp_start,
            kp_to,
            to_start,
            state.dropout,
            view=(encoded, kp_from, to_source) if interpolates else None,
            fusion=model.interpolation.fusion,
        )
        prediction = generated.prediction
        directions = 2 if both_ways else 1  # losses of the two directions add up (Eq. 5)

        if config.reconstruction > 0:
            losses["reconstruction"] = config.reconstruction * directions * self.perceptual(prediction, targets)
        if config.pixel > 0:
            losses["pixel"] = config.pixel * directions * (prediction - targets).abs().mean()
        if config.feature > 0 and interpolates and both_ways:
            features = self._consistency_features(start, start_image)
            losses["feature"] = config.feature * feature_consistency(
                [level[:b] for level in features], [level[b:] for level in features]
            )
        if self._uses_vit_losses and real_vit is not None:
            losses |= self._vit_losses(start_image, prediction, real_vit, b)
        if config.warp > 0:
            wanted = self._target_features(encoded, targets, b)
            # Each motion that ends in the target's pose: the start image's and, with fusion, the source's.
            terms = [
                warp_consistency(
                    view.features,
                    motion.flow,
                    wanted,
                    model.generator.level_occlusions(motion.occlusions, view.features),
                )
                for view, motion in zip((start, encoded)[: len(motions)], motions, strict=True)
            ]
            losses["warp"] = config.warp * directions * torch.stack(terms).sum()
        return losses

    def _real_vit(self, source: Tensor, driving: Tensor) -> ViTOutput | None:
        """Source and, for the losses, driving frames through the ViT, once."""
        if self.vit is None or not (self._selects or self._uses_vit_losses):
            return None
        with torch.no_grad():
            return self.vit(torch.cat((source, driving)) if self._uses_vit_losses else source)

    @torch.no_grad()
    def _select_time(
        self,
        source: EncodedImage,
        kp_source: Tensor,
        kp_driving: Tensor,
        background: Tensor | None,
        real_vit: ViTOutput | None,
        batch: int,
    ) -> Tensor:
        """(B, 1) time of each sample; candidates are made without gradient and without dropout."""
        interpolation = self.model.interpolation
        if not self._selects or self.vit is None or real_vit is None:
            return self._times[torch.randint(len(self._times), (batch, 1), device=kp_source.device)]
        times = self._times
        to_source = None
        if background is not None:
            to_source, _ = interpolate_background(background, times, interpolation.background)
        images, keypoints, _ = generate_candidates(self.model, source, kp_source, kp_driving, times, to_source)
        cls = self.vit(images.flatten(0, 1)).cls.unflatten(0, images.shape[:2])
        return times[pick(eq4_cost(real_vit.cls[:batch], cls, keypoints, kp_driving))][:, None]

    def _interpolate(
        self,
        encoded: EncodedImage,
        kp_from: Tensor,
        kp_to: Tensor,
        time: Tensor,
        to_source: Tensor | None,
        targets: Tensor,
        state: StepState,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The interpolated image of each direction, its keypoints, and its background transform to the target."""
        model = self.model
        to_image, to_start = None, None
        if to_source is not None:
            to_image, second = interpolate_background(to_source, time, model.interpolation.background)
            to_start = second[:, 0]
        images, keypoints, _ = generate_candidates(model, encoded, kp_from, kp_to, time, to_image, state.dropout)
        image, kp_start = images[:, 0], keypoints[:, 0]
        if model.interpolation.keypoints == "redetect":
            with _frozen_statistics(model.keypoint_detector):
                kp_start = model.detect_keypoints(image)
        if to_source is not None and model.interpolation.background == "repredict":
            assert model.background_predictor is not None
            with _frozen_statistics(model.background_predictor):
                to_start = model.predict_background(image, targets)
        return image, kp_start, to_start

    def _consistency_features(self, start: EncodedImage, start_image: Tensor | None) -> list[Tensor]:
        """Encoder features of the interpolated images; with `frozen` the encoder's weights get no gradient, since they
        could lower the loss by shrinking the features."""
        if self.config.feature_encoder == "shared":
            return start.features
        assert start_image is not None
        return self.frozen_features(start_image)

    def frozen_features(self, image: Tensor) -> list[Tensor]:
        """Encoder features whose gradient reaches the image, not the encoder's weights."""
        weights = {name: parameter.detach() for name, parameter in self._encoder.named_parameters()}
        features: list[Tensor] = functional_call(self._encoder, weights, (image,))
        return features

    def _target_features(self, encoded: EncodedImage, targets: Tensor, batch: int) -> list[Tensor]:
        """Generator features of the targets; both directions have them already, exchanged."""
        if self.config.bidirectional:
            return [level.roll(batch, dims=0) for level in encoded.features]
        with torch.no_grad():
            return self.model.generator.encode(targets)

    def _equivariance(self, source: Tensor, driving: Tensor, kp_source: Tensor, kp_driving: Tensor) -> Tensor:
        """Keypoints of a transformed driving frame and, in both directions, of a transformed source; averaged."""
        pairs = [(driving, kp_driving)] + ([(source, kp_source)] if self.config.bidirectional else [])
        total = kp_driving.new_zeros(())
        for image, keypoints in pairs:
            transform = RandomTPS(len(image), image.device)
            found = self.model.detect_keypoints(transform.image(image))
            total = total + (keypoints - transform.keypoints(found)).abs().mean()
        return total / len(pairs)

    def _vit_losses(
        self, start_image: Tensor | None, prediction: Tensor, real: ViTOutput, batch: int
    ) -> dict[str, Tensor]:
        """Eq. 7 and 8 on the pairs driving / its prediction, source / its prediction in reverse, and the interpolated
        images of both directions; one ViT pass for all generated images."""
        assert self.vit is not None
        config = self.config
        if config.bidirectional:
            # Real features are in the order source, driving; the predictions' targets are driving, source.
            pairs = [(slice(0, 2 * batch), real.roll(batch), 2.0)]
            images = [prediction] if start_image is None else [prediction, start_image]
        else:
            pairs = [(slice(0, batch), real.rows(slice(batch, None)), 1.0)]
            images = [prediction]
        fake = self.vit(torch.cat(images))
        if len(images) == 2:
            pairs.append((slice(2 * batch, 3 * batch), fake.rows(slice(3 * batch, None)), 1.0))
        losses: dict[str, Tensor] = {}
        for name, weight, loss, attribute in (
            ("appearance", config.appearance, appearance_loss, "cls"),
            ("structure", config.structure, structure_loss, "keys"),
        ):
            if weight > 0:
                terms = [
                    directions
                    * loss(getattr(fake.rows(rows), attribute), getattr(target, attribute), config.vit_reduction)
                    for rows, target, directions in pairs
                ]
                losses[name] = weight * torch.stack(terms).sum()
        return losses


class _Encode(nn.Module):
    """The generator's encoder as a module of its own, for `functional_call`."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.generator.encode(image)
