"""`LAMI`: the networks and the two-stage transfer through an interpolated image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lami.backbones import ViTFeatures
from lami.configs.schema import InterpolationConfig, ModelConfig, ViTConfig
from lami.errors import ConfigError
from lami.interpolation import (
    eq4_cost,
    generate_candidates,
    interpolate_background,
    pick,
    transfer_from,
)
from lami.models import EncodedImage, Networks
from lami.models.dense_motion import identity_flow
from lami.pose import SeenPoses

if TYPE_CHECKING:
    from lami.configs.schema import Config


@dataclass
class Candidates:
    """Interpolated images of B samples at T times, and the cost by which one is selected.

    times (B, T); images (B, T, 3, H, W); keypoints (B, T, K, N, 2); cost (B, T), or None where there is no choice;
    backgrounds (B, T, 3, 3) from driving to interpolated coordinates, or None. flows (B, T, h, w, 2): where in the
    source each point comes from, in [-1, 1]; visible (B, T, 1, h', w'): how much of it was kept, the rest is inpainted.
    """

    times: Tensor
    images: Tensor
    keypoints: Tensor
    cost: Tensor | None
    backgrounds: Tensor | None
    flows: Tensor
    visible: Tensor

    def best(self) -> Tensor:
        """Index (B,) of each sample's time, decided for each sample alone (Eq. 4)."""
        if self.cost is None:
            return torch.zeros(len(self.images), dtype=torch.long, device=self.images.device)
        return pick(self.cost)


@dataclass
class Transferred:
    """Result of a transfer.

    prediction (B, 3, H, W): the source in the driving pose. selected_time (B,): where motion was transferred from;
    0 means from the source itself. selected_image (B, 3, H, W): the image there. candidates (B, T, 3, H, W): images at
    all times. keypoints (B, T, K, N, 2): theirs. All images in [0, 1]. flows (B, S, h, w, 2) and visible
    (B, S, 1, h', w'): the S steps from the result back to the source, where each point comes from and how much of it
    was kept; through an interpolated image there are two.
    """

    prediction: Tensor
    selected_time: Tensor
    selected_image: Tensor
    candidates: Tensor
    keypoints: Tensor
    flows: Tensor
    visible: Tensor


class LAMI(Networks):
    """Motion transfer for large displacements. `lami.load` makes one from a weight file.

    Images are (B, 3, H, W) floats in [0, 1], keypoints (B, K, N, 2) as (x, y) in [-1, 1] with align_corners=True.

    Args:
        config: the networks.
        interpolation: how images between the poses are made and selected.
        vit: the transformer whose class token the Eq. 4 selector compares; created when first needed.
    """

    def __init__(
        self,
        config: ModelConfig | None = None,
        interpolation: InterpolationConfig | None = None,
        vit: ViTConfig | None = None,
    ) -> None:
        super().__init__(config or ModelConfig())
        self.interpolation = interpolation or InterpolationConfig()
        self.vit_config = vit or ViTConfig()
        self.loaded_vit: list[ViTFeatures] = []  # in a list, so that frozen weights stay out of the state dict
        self.seen_poses: SeenPoses | None = None
        """How far apart poses were in training, None where that is not known."""
        self.accelerated: Literal["fp32", "bf16"] | None = None
        """Precision of a copy made by `lami.acceleration.accelerated`, None for others."""

    @staticmethod
    def from_pretrained(
        name: str | Path,
        device: str | torch.device | None = None,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> LAMI:
        """A model from a file, from a folder with a `model.safetensors`, or from the Hugging Face Hub.

        Args:
            name: path, or `OWNER/NAME` on the hub. What exists as a path is a path.
            device: as in `lami.load`.
            revision: branch, tag or commit on the hub; None is the main branch.
            token: of a user of the hub, for private models; None takes that of `hf auth login`.
            cache_dir: where downloads stay; None is the hub's own cache.
            local_files_only: take the cached file and ask nobody.

        Raises:
            HubError: the hub cannot be reached and the model is not cached, or it has no such model, revision or file.
            CheckpointError: the file is no LAMI model.
        """
        from lami import hub

        return hub.from_pretrained(name, device, revision, token, cache_dir, local_files_only)

    def save_pretrained(
        self,
        folder: str | Path,
        license: str | None = None,
        training: Config | None = None,
        name: str | None = None,
    ) -> None:
        """Write `model.safetensors` and a model card, README.md, ready for the hub. A card that is there stays.

        Args:
            folder: made if need be.
            license: of the weights, an identifier that the hub knows such as `mit`; None says in the card that none
                was stated.
            training: configuration of the training, for the card, without paths:
                `lami.configs.load_config("runs/mine/config.yaml")`.
            name: title of the card, and what it tells others to load; None is the folder's name.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        from lami import hub

        hub.save_pretrained(self, folder, license, training, name)

    def push_to_hub(
        self,
        repo_id: str,
        license: str | None = None,
        training: Config | None = None,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        commit_message: str = "Upload a LAMI model",
    ) -> str:
        """Upload what `save_pretrained` writes, in one commit. A model card that the repository has stays.

        Args:
            repo_id: `OWNER/NAME`; made if need be.
            license, training: as in `save_pretrained`.
            private: who may see a repository that is made; None is the owner's default.
            revision: an existing branch; None is the main one.
            token: that may write; None takes that of `hf auth login`.
            commit_message: first line of the commit.

        Returns:
            Address of the commit.

        Raises:
            HubError: the hub cannot be reached or refuses.
        """
        from lami import hub

        return hub.push_to_hub(self, repo_id, license, training, private, revision, token, commit_message)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def vit(self) -> ViTFeatures:
        """The selector's transformer, on the model's device.

        Raises:
            WeightsUnavailableError: its weights are neither here nor downloadable.
        """
        if not self.loaded_vit:
            self.loaded_vit.append(self.create_vit())
        return self.loaded_vit[0].to(self.device)

    def create_vit(self) -> ViTFeatures:
        """Another one, on the CPU."""
        return ViTFeatures(self.vit_config)

    def class_tokens(self, images: Tensor) -> Tensor:
        """ViT class tokens of (B, 3, H, W) images, (B, D), for `candidates(cls_source=...)`."""
        return self.vit()(images).cls

    def interpolate(
        self,
        source: Tensor | EncodedImage,
        kp_source: Tensor,
        kp_driving: Tensor,
        times: Sequence[float] | Tensor,
        background: Tensor | None = None,
    ) -> Tensor:
        """Images between source and driving pose (Eq. 1 to 3).

        Args:
            source: (B, 3, H, W), or its encoding, which may be a single one for all samples.
            kp_source, kp_driving: (B, K, N, 2).
            times: T times strictly between 0 (source) and 1 (driving), or (B, T).
            background: (B, 3, 3) from driving to source coordinates; None is the identity.

        Returns:
            (B, T, 3, H, W).
        """
        encoded = self.encode(source) if isinstance(source, Tensor) else source
        times = torch.as_tensor(times, dtype=torch.float32, device=kp_source.device)
        to_source, _ = self._split_background(background, times)
        return generate_candidates(self, encoded, kp_source, kp_driving, times, to_source)[0]

    def candidates(
        self,
        source: EncodedImage,
        kp_source: Tensor,
        kp_driving: Tensor,
        times: Sequence[float] | None = None,
        background: Tensor | None = None,
        cls_source: Tensor | None = None,
    ) -> Candidates:
        """The interpolated images that the configured selector chooses from, with the cost of each.

        Args:
            source: B encoded sources, or a single one for all samples.
            kp_source: (B, K, N, 2) or (1, K, N, 2); kp_driving: (B, K, N, 2).
            times: candidate times; None takes the configured ones. The selector `fixed` takes one time, `random` draws
                one of them for each sample; both make one candidate only.
            background: (B, 3, 3) from driving to source coordinates; None is the identity.
            cls_source: `class_tokens` of the source where it is already known.
        """
        b = len(kp_driving)
        kp_source = kp_source.expand_as(kp_driving)
        chosen = self._candidate_times(times, b)
        to_source, to_candidate = self._split_background(background, chosen)
        images, keypoints, motion = generate_candidates(self, source, kp_source, kp_driving, chosen, to_source)
        cost = None
        if chosen.shape[1] > 1:
            if cls_source is None:
                cls_source = self.class_tokens(source.image)
            cls = self.class_tokens(images.flatten(0, 1)).unflatten(0, images.shape[:2])
            cost = eq4_cost(cls_source.expand(b, -1), cls, keypoints, kp_driving)
        flows, visible = (x.unflatten(0, images.shape[:2]) for x in (motion.flow, motion.occlusions[-1]))
        return Candidates(chosen, images, keypoints, cost, to_candidate, flows, visible)

    def complete(
        self,
        source: EncodedImage,
        kp_source: Tensor,
        kp_driving: Tensor,
        candidates: Candidates,
        index: Tensor,
        background: Tensor | None = None,
        driving: Tensor | None = None,
    ) -> Transferred:
        """Second stage: from the selected candidates to the driving pose.

        Args:
            source, kp_source, kp_driving, background: as given to `candidates`.
            index: (B,) selected candidate of each sample.
            driving: (B, 3, H, W), needed by `interpolation.background: repredict` alone.
        """
        rows = torch.arange(len(index), device=index.device)
        kp_source = kp_source.expand_as(kp_driving)
        image, kp_start = candidates.images[rows, index], candidates.keypoints[rows, index]
        time = candidates.times[rows, index]
        to_start = None if candidates.backgrounds is None else candidates.backgrounds[rows, index]
        if self.interpolation.keypoints == "redetect":
            kp_start = self.detect_keypoints(image)
        if self.interpolation.background == "repredict" and background is not None:
            if driving is None:
                raise ConfigError("interpolation.background 'repredict' needs the driving image; pass driving=")
            to_start = self.predict_background(image, driving)
        # A pose that is close enough is reached from the source itself.
        moved = (kp_driving - kp_source).norm(dim=-1).mean(dim=(1, 2)) >= self.interpolation.skip_below
        image = torch.where(moved[:, None, None, None], image, source.image)
        kp_start = torch.where(moved[:, None, None, None], kp_start, kp_source)
        if to_start is not None and background is not None:
            to_start = torch.where(moved[:, None, None], to_start, background)
        flow, visible = candidates.flows[rows, index], candidates.visible[rows, index]
        flow = torch.where(moved[:, None, None, None], flow, identity_flow(flow))
        visible = torch.where(moved[:, None, None, None], visible, 1.0)
        generated, (motion, *_) = transfer_from(
            self,
            self.encode(image),
            kp_start,
            kp_driving,
            to_start,
            view=(source, kp_source, background),
            fusion=self.interpolation.fusion,
        )
        return Transferred(
            generated.prediction,
            torch.where(moved, time, 0.0),
            image,
            candidates.images,
            candidates.keypoints,
            torch.stack((motion.flow, flow), dim=1),
            torch.stack((motion.occlusions[-1], visible), dim=1),
        )

    def transfer(
        self,
        source: Tensor | EncodedImage,
        driving: Tensor,
        times: Sequence[float] | None = None,
        background: Tensor | None = None,
    ) -> Transferred:
        """Bring the source into the driving pose through the best interpolated image (Eq. 1 to 4).

        Args:
            source: (B, 3, H, W), or its encoding, which may be a single one for all samples.
            driving: (B, 3, H, W).
            times: candidate times strictly between 0 and 1; None takes the model's, (0.3, 0.5, 0.7) by default.
            background: `predict_background(source, driving)` when both come from one video; None leaves the
                background where it is.

        Returns:
            `Transferred`. A model with interpolation switched off goes straight from source to driving, as TPSMM, and
            has no candidates (T = 0).

        Raises:
            ConfigError: a size or time that does not fit.
            WeightsUnavailableError: the Eq. 4 selector's transformer cannot be had.
        """
        encoded = self.encode(source) if isinstance(source, Tensor) else source
        kp_source, kp_driving = self.detect_keypoints(encoded.image), self.detect_keypoints(driving)
        if not self.interpolation.enabled:
            return self.transfer_directly(encoded, kp_source, kp_driving, background)
        candidates = self.candidates(encoded, kp_source, kp_driving, times, background)
        return self.complete(encoded, kp_source, kp_driving, candidates, candidates.best(), background, driving)

    def transfer_directly(
        self, source: EncodedImage, kp_source: Tensor, kp_driving: Tensor, background: Tensor | None = None
    ) -> Transferred:
        """Single-stage transfer, as TPSMM: the selected time is 0, the selected image the source."""
        b = len(kp_driving)
        source = source.expand(b)
        generated, (motion,) = transfer_from(self, source, kp_source.expand_as(kp_driving), kp_driving, background)
        return Transferred(
            generated.prediction,
            kp_driving.new_zeros(b),
            source.image,
            source.image.new_zeros(b, 0, *source.image.shape[1:]),
            kp_driving.new_zeros(b, 0, *kp_driving.shape[1:]),
            motion.flow[:, None],
            motion.occlusions[-1][:, None],
        )

    def _candidate_times(self, times: Sequence[float] | None, batch: int) -> Tensor:
        """(B, T) times of the configured selector."""
        interpolation = self.interpolation
        if times is None:
            times = (interpolation.fixed_time,) if interpolation.selector == "fixed" else interpolation.times
        if len(times) == 0 or not all(0 < t < 1 for t in times):
            raise ConfigError(f"times must be one or more numbers strictly between 0 and 1, got {tuple(times)}")
        if interpolation.selector == "fixed" and len(times) > 1:
            raise ConfigError(f"selector fixed takes one time, got {tuple(times)}; give one, or choose selector eq4")
        choices = torch.tensor(times, dtype=torch.float32, device=self.device)
        if interpolation.selector == "random":
            return choices[torch.randint(len(times), (batch, 1), device=self.device)]
        return choices.expand(batch, -1)

    def _split_background(self, background: Tensor | None, times: Tensor) -> tuple[Tensor | None, Tensor | None]:
        if background is None:
            return None, None
        return interpolate_background(background, times, self.interpolation.background)
