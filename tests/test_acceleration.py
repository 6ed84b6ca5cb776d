"""Accelerated copies answer like the model; the model stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small import small_model
from torch import nn

from lami import acceleration
from lami.acceleration import accelerated, pick_precision
from lami.animation import Animator
from lami.animation.loading import load_with_options
from lami.checkpoint import save
from lami.data.synthetic import SyntheticFigures
from lami.errors import ConfigError
from lami.model import LAMI
from lami.models.layers import InstanceNorm

CLIPS = SyntheticFigures((64, 64), 2, num_frames=5)
FRAMES = CLIPS.clip(0).frames(range(5))
SOURCE = CLIPS.clip(1).frames([0])[0]


@pytest.fixture(scope="module")
def model() -> LAMI:
    torch.manual_seed(0)
    return small_model()


def weights(network: nn.Module) -> set[torch.dtype]:
    return {layer.weight.dtype for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)}


def images(model: LAMI, **options: Any) -> np.ndarray:
    frames = Animator(model, SOURCE, "absolute", batch_size=3, **options).animate(FRAMES)
    return np.stack([frame.image for frame in frames]).astype(int)


def test_auto_asks_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for fast, precision in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(acceleration, "multiplies_bf16", lambda device, fast=fast: fast)
        assert pick_precision("auto", cpu) == precision
        assert pick_precision("bf16", cpu) == "bf16"
        assert pick_precision("fp32", cpu) == "fp32"
    with pytest.raises(ConfigError, match="unknown precision 'fp16'"):
        pick_precision("fp16", cpu)  # type: ignore[arg-type]


@pytest.mark.parametrize("expected", [True, False])
def test_processors_with_matrix_units(expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # what conftest.py sets
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: expected)
    assert acceleration.multiplies_bf16(torch.device("cpu")) == expected
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0) if expected else (7, 5))
    assert acceleration.multiplies_bf16(torch.device("cuda")) == expected
    assert not acceleration.multiplies_bf16(torch.device("meta"))


def test_a_copy_in_bf16_leaves_the_model_and_coordinates_alone(model: LAMI) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fast = accelerated(model, "bf16")
    assert fast is not model
    for network in (fast.generator, fast.dense_motion, fast.vit()):
        assert weights(network) == {torch.bfloat16}
    assert fast.keypoint_detector is not model.keypoint_detector
    assert fast.background_predictor is not None
    assert weights(fast.keypoint_detector) == weights(fast.background_predictor) == {torch.float32}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    image = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected, keypoints = model.transfer(image, image.flip(-1)), model.detect_keypoints(image)
        found = fast.transfer(image, image.flip(-1))
        torch.testing.assert_close(fast.detect_keypoints(image), keypoints, rtol=0, atol=1e-6)
    assert found.prediction.dtype == found.candidates.dtype == torch.float32
    assert 0 < (found.prediction - expected.prediction).abs().mean() < 2 / 255


def test_images_in_bf16(model: LAMI) -> None:
    exact, rounded = images(model, precision="fp32"), images(model, precision="bf16")
    assert 0 < np.abs(exact - rounded).mean() < 2
    assert np.array_equal(rounded, images(accelerated(model, "bf16")))  # auto takes a copy as it is


def test_fp32_is_the_model_itself(model: LAMI) -> None:
    assert accelerated(model, "fp32") is model
    assert Animator(model, SOURCE, precision="fp32").model is model


def test_a_copy_has_its_settings(model: LAMI) -> None:
    fast = accelerated(model, "bf16")
    assert accelerated(fast) is accelerated(fast, "bf16") is fast
    for options in ({"precision": "fp32"}, {"compile": True}):
        with pytest.raises(ConfigError, match="is a copy in bf16; give the original"):
            accelerated(fast, **options)
    with pytest.raises(ConfigError, match="cuda_graphs replays compiled networks on a GPU"):
        accelerated(model, compile=True, cuda_graphs=True)


def test_loaded_models_keep_their_options(model: LAMI, tmp_path: Any) -> None:
    path = tmp_path / "model.safetensors"
    save(model, path)
    fast = load_with_options(path, "cpu", (0.2,), "fixed", "random", precision="bf16")
    assert fast.accelerated == "bf16"
    assert (fast.interpolation.fixed_time, fast.vit_config.weights) == (0.2, "random")
    assert load_with_options(path, "cpu", None, None, None).accelerated is None


@pytest.mark.parametrize("size", [(40, 48), (8, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_instance_norm_keeps_channels_innermost(size: tuple[int, int], dtype: torch.dtype) -> None:
    norm = InstanceNorm(5, affine=True)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = (3 + 2 * torch.randn(3, 5, *size)).to(dtype)
    with torch.inference_mode():
        expected = norm(x)
        found = norm(x.contiguous(memory_format=torch.channels_last))
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 2**-5
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, check_stride=False)


@pytest.mark.slow
def test_compiled_networks_make_the_same_images(model: LAMI) -> None:
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    exact = images(model, precision="fp32")
    assert np.abs(exact - images(model, precision="fp32", compile=True)).max() <= 1
    assert not counters["graph_break"], dict(counters["graph_break"])
    # The last of the batches of three has two frames, and needs no compilation of its own.
    seen = counters["stats"]["unique_graphs"]
    assert seen > 0
    animator = Animator(model, SOURCE, "absolute", batch_size=3, precision="bf16", compile=True)
    compiled = np.stack([frame.image for frame in animator.animate(FRAMES)]).astype(int)
    assert np.abs(exact - compiled).mean() < 2
    seen = counters["stats"]["unique_graphs"]
    assert len(list(animator.animate(FRAMES[:4]))) == 4
    assert counters["stats"]["unique_graphs"] == seen
