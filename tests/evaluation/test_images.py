from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from lami.backbones._torchvision import ensure_torchvision
from lami.errors import CheckpointError, ConfigError, WeightsUnavailableError
from lami.evaluation.images import LPIPS, psnr, ssim


def test_psnr() -> None:
    real = torch.rand(3, 3, 16, 16)
    made = torch.stack((real[0], (real[1] + 0.1).clamp(max=2), real[2] + 0.01))
    assert psnr(made, real).tolist() == pytest.approx([100.0, 20.0, 40.0], abs=1e-3)


def test_psnr_is_capped_where_8_bits_end() -> None:
    real = torch.zeros(2, 3, 16, 16)
    made = torch.stack((real[0] + 1e-6, real[1]))
    made[1, 0, 0, 0] = 1 / 255  # the least that two 8-bit images differ by
    assert psnr(made, real).tolist() == pytest.approx([100.0, 10 * math.log10(255**2 * 3 * 16 * 16)], abs=1e-3)


def test_ssim_is_that_of_each_image() -> None:
    torch.manual_seed(0)
    real = torch.rand(3, 3, 24, 32)
    made = torch.stack((real[0], 1 - real[1], 0.9 * real[2]))
    values = ssim(made, real)
    assert values[0] == pytest.approx(1.0)
    assert values[1] < 0 < 0.9 < values[2] < 1
    assert ssim(made[1:2], real[1:2]).tolist() == pytest.approx(values[1:2].tolist(), abs=1e-6)


def test_ssim_of_tiny_images() -> None:
    with pytest.raises(ConfigError, match="11x11"):
        ssim(torch.rand(1, 3, 8, 16), torch.rand(1, 3, 8, 16))


@pytest.fixture
def alexnet(tmp_path: Path) -> Path:
    """A file as torchvision's, with random weights."""
    ensure_torchvision()
    from torchvision.models import alexnet as create

    torch.manual_seed(0)
    path = tmp_path / "alexnet.pth"
    torch.save(create(weights=None).state_dict(), path)
    return path


def test_lpips_takes_the_weights_of_the_file(alexnet: Path) -> None:
    """Against the definition: unit feature vectors, squared differences, learned weights, mean over pixels."""
    measure = LPIPS(str(alexnet))
    real, made = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    features = nn.Sequential(*_features(alexnet))
    shift, scale = torch.tensor((-0.030, -0.088, -0.188)), torch.tensor((0.458, 0.448, 0.450))
    x, y = (((2 * image - 1).movedim(1, -1) - shift) / scale for image in (made, real))
    x, y, expected, level = x.movedim(-1, 1), y.movedim(-1, 1), torch.zeros(2), 0
    for layer in features:
        x, y = layer(x), layer(y)
        if isinstance(layer, nn.ReLU):
            difference = nn.functional.normalize(x, dim=1) - nn.functional.normalize(y, dim=1)
            expected = expected + measure.net.lins[level].model(difference**2).mean(dim=(1, 2, 3))
            level += 1
    assert level == 5
    assert measure(made, real).tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    assert measure(real, real).tolist() == [0, 0]


def _features(path: Path) -> list[nn.Module]:
    from torchvision.models import alexnet as create

    network = create(weights=None)
    network.load_state_dict(torch.load(path, weights_only=True))
    return [nn.ReLU() if isinstance(layer, nn.ReLU) else layer for layer in network.features.eval()]


def test_lpips_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsUnavailableError):
        LPIPS()
    with pytest.raises(CheckpointError, match="no weight file"):
        LPIPS(str(tmp_path / "none.pth"))
    (tmp_path / "other.pth").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="AlexNet"):
        LPIPS(str(tmp_path / "other.pth"))
