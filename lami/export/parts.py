"""A model as modules of tensors in, tensors out, small enough for other programs to put together."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from lami.model import LAMI
from lami.models import Motion, Networks


@dataclass(frozen=True)
class Part:
    """A module, the names of its inputs and outputs in order, and inputs that it can run on.

    All tensors are fp32 and have the batch first; images (B, 3, H, W) in [0, 1].
    """

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]

    @torch.no_grad()
    def run(self) -> tuple[Tensor, ...]:
        """What the module makes of the inputs."""
        result = self.module(*self.inputs.values())
        return result if isinstance(result, tuple) else (result,)

    @torch.no_grad()
    def trace(self) -> ExportedProgram:
        """The module as a graph for batches of any size, of the ops of the backend in use."""
        batch = {0: Dim.DYNAMIC}
        inputs = tuple(self.inputs.values())
        named = len(inspect.signature(self.module.forward).parameters)
        shapes: list[Any] = [batch] * len(inputs)
        if named < len(inputs):  # the last parameter, `*occlusions`, takes what is left
            shapes = [*shapes[: named - 1], tuple(shapes[named - 1 :])]
        return export(self.module, inputs, dynamic_shapes=tuple(shapes), strict=False)


class _Motion(nn.Module):
    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.dense_motion = networks.dense_motion

    def forward(self, source: Tensor, kp_source: Tensor, kp_driving: Tensor, background: Tensor) -> tuple[Tensor, ...]:
        motion = self.dense_motion(self.dense_motion.down(source), kp_driving, kp_source, background)
        return motion.flow, *motion.occlusions


class _Generator(nn.Module):
    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.generator = networks.generator

    def forward(self, source: Tensor, flow: Tensor, *occlusions: Tensor) -> Tensor:
        motion = Motion(flow, flow.new_empty(0), list(occlusions))  # the generator reads no contributions
        return self.generator(source, self.generator.encode(source), motion).prediction


class _ClassToken(nn.Module):
    def __init__(self, model: LAMI) -> None:
        super().__init__()
        self.vit = model.vit()

    def forward(self, image: Tensor) -> Tensor:
        return self.vit(image).cls


def split(model: LAMI, batch: int) -> list[Part]:
    """The parts of a model, on its device, each with random inputs of `batch` samples.

    - detector: image -> keypoints (B, K, N, 2)
    - background, of models that predict it: source, driving (B, 3, H, W) -> background (B, 3, 3)
    - motion: source, kp_source, kp_driving, background (the identity where the camera stands still) -> flow
      (B, h, w, 2), occlusion_0 (B, 1, h_0, w_0), ... coarse to fine
    - generator: source, flow, occlusion_0, ... -> prediction (B, 3, H, W)
    - class_token, of models that select times by Eq. 4: image -> cls (B, D)

    Raises:
        WeightsUnavailableError: the selector's transformer cannot be had.
    """
    config, interpolation, device = model.config, model.interpolation, model.device
    random = torch.Generator().manual_seed(batch)

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return (low + (high - low) * torch.rand(batch, *shape, generator=random)).to(device)

    def image() -> Tensor:
        """As smooth as photographs; between pixels of noise, the last bits of a coordinate would show."""
        height, width = config.image_size
        return F.interpolate(uniform(3, max(height // 8, 1), max(width // 8, 1)), (height, width), mode="bilinear")

    def keypoints() -> Tensor:
        return uniform(config.num_splines, config.points_per_spline, 2, low=-0.9, high=0.9)

    identity = torch.eye(3, device=device).expand(batch, 3, 3)
    camera = identity + F.pad(uniform(2, 3, low=-0.1, high=0.1), (0, 0, 0, 1))
    kp_source = keypoints()
    kp_driving = kp_source + uniform(*kp_source.shape[1:], low=-0.2, high=0.2)
    motion = Part(
        "motion",
        _Motion(model),
        {"source": image(), "kp_source": kp_source, "kp_driving": kp_driving, "background": camera},
        ("flow", *(f"occlusion_{level}" for level in range(len(model.dense_motion.occlusion)))),
    )
    answers = dict(zip(motion.outputs, motion.run(), strict=True))
    parts = [
        Part("detector", model.keypoint_detector, {"image": image()}, ("keypoints",)),
        motion,
        Part("generator", _Generator(model), {"source": image(), **answers}, ("prediction",)),
    ]
    if model.background_predictor is not None:
        inputs = {"source": image(), "driving": image()}
        parts.append(Part("background", model.background_predictor, inputs, ("background",)))
    if interpolation.enabled and interpolation.selector == "eq4" and len(interpolation.times) > 1:
        parts.append(Part("class_token", _ClassToken(model), {"image": image()}, ("cls",)))
    return parts
