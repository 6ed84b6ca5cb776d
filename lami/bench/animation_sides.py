"""The ways to animate that `lami bench animate` compares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lami.acceleration import accelerated
from lami.animation import Animator
from lami.bench.naive_animation import NaiveAnimation
from lami.data import to_tensor
from lami.model import LAMI


@dataclass(frozen=True)
class Variant:
    """Options of one of our sides, and the mean difference of its images in [0, 1] to the naive side's that may be."""

    name: str
    largest_difference: float
    precision: Literal["fp32", "bf16"]
    compile: bool = False
    cuda_graphs: bool = False
    tf32: bool = False


def variants(device: torch.device, compile: bool) -> list[Variant]:
    """Those that make sense on a device."""
    exact, rounded = 1e-3, 2 / 255
    found = [Variant("ours, fp32", exact, "fp32")]
    if device.type == "cuda":
        found.append(Variant("ours, TF32", rounded, "fp32", tf32=True))
    found.append(Variant("ours, bf16", rounded, "bf16"))
    if compile:
        found.append(Variant("ours, fp32, compiled", exact, "fp32", compile=True))
        found.append(Variant("ours, bf16, compiled", rounded, "bf16", compile=True))
        if device.type == "cuda":
            found.append(Variant("ours, bf16, CUDA graphs", rounded, "bf16", compile=True, cuda_graphs=True))
    return found


class NaiveSide:
    """The naive composition: source and driving frames uint8 (H, W, 3), as large as the model's images."""

    frames_in_run = 1

    def __init__(self, model: LAMI, source: np.ndarray, driving: Sequence[np.ndarray], times: Sequence[float]) -> None:
        self.model = model
        self._driving = to_tensor(np.stack(driving)).to(model.device).split(1)
        with _tf32(False):
            self._animate = NaiveAnimation(model, to_tensor(source)[None].to(model.device), times)

    def results(self) -> tuple[Tensor, list[float]]:
        """Images (B, 3, H, W) of all frames, and their times."""
        with _tf32(False):
            images, times = zip(*map(self._animate, self._driving), strict=True)
        return torch.cat(images), list(times)

    def step(self, number: int) -> None:
        """One frame."""
        with _tf32(False):
            self._animate(self._driving[number])[0].cpu()

    def run(self, number: int) -> None:
        """What throughput is measured of: one frame too."""
        self.step(number)


class OurSide:
    """`Animator`, with a variant of the model."""

    def __init__(self, model: LAMI, variant: Variant, source: np.ndarray, driving: Sequence[np.ndarray]) -> None:
        self.model = accelerated(model, variant.precision, variant.compile, variant.cuda_graphs)
        self.frames_in_run = len(driving)
        self._driving = driving
        self._use_tf32 = variant.tf32
        with _tf32(self._use_tf32):
            self._animator = Animator(
                self.model, source, "absolute", batch_size=len(driving), precision=variant.precision
            )

    def results(self) -> tuple[Tensor, list[float]]:
        """Images (B, 3, H, W) of all frames, and their times."""
        with _tf32(self._use_tf32):
            frames = list(self._animator.animate(self._driving))
        return torch.stack([frame.moved.prediction for frame in frames]), [frame.selected_time for frame in frames]

    def step(self, number: int) -> None:
        """One frame, streamed."""
        with _tf32(self._use_tf32):
            self._animator.step(self._driving[number])

    def run(self, number: int) -> None:
        """What throughput is measured of: a batch of all frames."""
        self.results()


@contextmanager
def _tf32(enabled: bool) -> Iterator[None]:
    """Whether a GPU may round the factors of fp32 products to 10 bits."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = enabled
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
