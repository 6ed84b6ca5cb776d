"""Training of the AVD network on a finished model."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_config, tiny_model
from torch import Tensor

from lami import checkpoint
from lami.animation import Animator
from lami.configs.schema import Config
from lami.errors import CheckpointError, ConfigError, DataError
from lami.training import avd as avd_module
from lami.training import train_avd


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A model with statistics and times of its own."""
    model = tiny_model(tiny_config({"interpolation.times": (0.4, 0.6)}))
    with torch.no_grad():
        model.detect_keypoints(torch.rand(4, 3, 32, 32))
    path = tmp_path / "model.safetensors"
    checkpoint.save(model, path)
    return path


def config(max_steps: int = 2, **avd_training: object) -> Config:
    settings = {"max_steps": max_steps, "batch_size": 8, "repeats": 10, **avd_training}
    # Another model than the trained one: only `data`, `avd_training` and a little of `training` count.
    return tiny_config({"avd_training": settings, "model.num_splines": 3})


def test_everything_else_stays_as_it_is(trained: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "with_avd.safetensors"
    before = trained.read_bytes()
    assert train_avd(trained, config(), output) == output
    assert trained.read_bytes() == before
    old, new = checkpoint.load(trained), checkpoint.load(output)
    assert old.avd is None
    assert new.avd is not None
    assert new.interpolation == old.interpolation
    assert new.config.model_copy(update={"avd": None}) == old.config
    tensors = new.state_dict()
    for name, tensor in old.state_dict().items():  # batch norm statistics included
        assert torch.equal(tensors[name], tensor), name
    assert any("running_mean" in name for name in old.state_dict())
    assert {name for name in tensors if name not in old.state_dict()} == {
        f"avd.{name}" for name in new.avd.state_dict()
    }


def test_runs_repeat_exactly_and_replace_the_network(trained: Path, tmp_path: Path) -> None:
    path = train_avd(trained, config(), tmp_path / "out.safetensors")
    first = load_file(path)
    # A model that has such a network gets a new one; its own file stays as it is.
    with pytest.raises(DataError, match="is an input"):
        train_avd(path, config(), path)
    again = load_file(train_avd(path, config(), tmp_path / "again.safetensors"))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_keypoint_error_falls(trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lami.training.avd"):
        train_avd(trained, config(30), tmp_path / "out.safetensors")
    errors = [float(error) for error in re.findall(r"mean keypoint error ([\d.]+)", caplog.text)]
    assert len(errors) == 30
    assert sum(errors[-3:]) < 0.5 * sum(errors[:3])


def test_the_source_comes_first_and_the_driving_keypoints_are_scaled(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Tensor, Tensor]] = []
    detected: list[Tensor] = []
    forward, detect = avd_module.checkpoint.load, checkpoint.load(trained).detect_keypoints

    def load(path: Path, device: object) -> object:
        model = forward(path, device)  # type: ignore[arg-type]
        add = model.add_avd

        def add_avd(settings: object) -> object:
            network = add(settings)  # type: ignore[arg-type]
            network.register_forward_pre_hook(lambda module, inputs: calls.append(inputs))
            return network

        monkeypatch.setattr(model, "add_avd", add_avd)
        model.keypoint_detector.register_forward_hook(lambda module, inputs, output: detected.append(detect(inputs[0])))
        return model

    monkeypatch.setattr(avd_module.checkpoint, "load", load)
    train_avd(trained, config(1), tmp_path / "out.safetensors")
    ((kp_source, kp_random),) = calls
    assert torch.equal(kp_source, detected[0])  # in eval mode, as the model of `detect`
    factor = kp_random / detected[1]
    assert (factor.amax((1, 2)) - factor.amin((1, 2))).max() < 1e-4  # one for each sample and axis
    factors = factor[:, 0, 0]
    assert len(factors.unique()) == factors.numel()
    assert 0.75 <= factors.min() <= factors.max() <= 1.25


def test_result_animates(trained: Path, tmp_path: Path) -> None:
    model = checkpoint.load(train_avd(trained, config(), tmp_path / "out.safetensors"))
    rng = np.random.default_rng(0)
    source, driving = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    frame = Animator(model, source, mode="avd").step(driving)
    assert frame.image.shape == (32, 32, 3)
    with pytest.raises(ConfigError, match="needs an AVD network"):
        Animator(checkpoint.load(trained), source, mode="avd")


def test_what_is_wrong_is_said(trained: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    with pytest.raises(CheckpointError, match="no weight file"):
        train_avd(tmp_path / "missing.safetensors", config(), output)
    with pytest.raises(ConfigError, match=r"scale_range must be two ascending positive numbers, got 1\.2 and 0\.8"):
        train_avd(trained, config(scale_range=(1.2, 0.8)), output)
    nothing = tiny_config({"data.synthetic": None, "data.root": str(tmp_path / "nothing")})
    with pytest.raises(DataError, match="nothing"):
        train_avd(trained, nothing, output)
    assert not output.exists()
