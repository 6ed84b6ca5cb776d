"""PSNR, SSIM and LPIPS of pairs of images, through torchmetrics."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from lami.backbones._hub import fetch
from lami.backbones._torchvision import ensure_torchvision
from lami.errors import CheckpointError, ConfigError

_ALEXNET = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
_HIGHEST = 100.0
"""PSNR in dB that is taken for equal images, which have an infinite one."""
_SMALLEST = 11
"""Sides of images: SSIM looks through a window of this size."""


def psnr(generated: Tensor, real: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB of images (B, 3, H, W) in [0, 1]; 100 at most, also for equal images."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    values = peak_signal_noise_ratio(generated, real, data_range=1.0, reduction="none", dim=(1, 2, 3))
    return values.clamp(max=_HIGHEST)


def ssim(generated: Tensor, real: Tensor) -> Tensor:
    """Structural similarity (B,) of images (B, 3, H, W) in [0, 1], with the usual Gaussian window of 11 pixels.

    Raises:
        ConfigError: a side is smaller than the window.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(generated.shape[-2:]) < _SMALLEST:
        raise ConfigError(
            f"SSIM needs images of at least {_SMALLEST}x{_SMALLEST} pixels, got "
            f"{generated.shape[-2]}x{generated.shape[-1]}; evaluate at a larger size"
        )
    values = structural_similarity_index_measure(generated, real, reduction="none", data_range=1.0)
    assert isinstance(values, Tensor)
    return values


class LPIPS(nn.Module):
    """Learned perceptual image patch similarity (Zhang et al. 2018) with AlexNet, version 0.1.

    Its small linear layers come with torchmetrics; AlexNet's ImageNet weights do not.

    Args:
        weights: `pretrained` (torchvision's, downloaded once) or the path of that file.

    Raises:
        WeightsUnavailableError: neither cached nor downloadable.
        CheckpointError: the file does not hold AlexNet.
    """

    def __init__(self, weights: str = "pretrained") -> None:
        super().__init__()
        ensure_torchvision()
        # The public class can only have torchvision download AlexNet.
        from torchmetrics.functional.image.lpips import _NoTrainLpips

        path = fetch("LPIPS's AlexNet", None, _ALEXNET) if weights == "pretrained" else Path(weights)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.net = _NoTrainLpips(net="alex", pnet_rand=True)
        _load_alexnet(self.net.net, path)
        self.net.eval().requires_grad_(False)

    def forward(self, generated: Tensor, real: Tensor) -> Tensor:
        """(B,) of images (B, 3, H, W) in [0, 1]."""
        return self.net(generated, real, normalize=True).flatten()


def _load_alexnet(slices: nn.Module, path: Path) -> None:
    """Copy torchvision's weights, `features.N.weight`, to the slices of LPIPS, `sliceM.N.weight`."""
    if not path.is_file():
        raise CheckpointError(f"no weight file of LPIPS at {path}; check the path")
    try:
        known = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {name: known["features." + name.partition(".")[2]] for name in slices.state_dict()}
        slices.load_state_dict(tensors)
    except Exception as error:  # of many kinds, from a pickle that is none to a missing or misshapen tensor
        raise CheckpointError(
            f"{path} does not hold torchvision's AlexNet ({type(error).__name__}); LPIPS needs alexnet-owt-7be5be79.pth"
        ) from error
