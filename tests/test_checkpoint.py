"""Weight files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import small_model

import lami
from lami import checkpoint
from lami.configs.schema import (
    AVDConfig,
    BackboneConfig,
    DenseMotionConfig,
    GeneratorConfig,
    InterpolationConfig,
    ModelConfig,
    ViTConfig,
)
from lami.errors import CheckpointError, ConfigError
from lami.model import LAMI

_BACKBONE = BackboneConfig(args={"channels": [4, 4, 8, 8]})


def tiny_model() -> LAMI:
    config = ModelConfig(
        image_size=(32, 64),
        num_splines=2,
        points_per_spline=3,
        detector=_BACKBONE,
        background=_BACKBONE,
        dense_motion=DenseMotionConfig(block_channels=4, max_channels=8, num_blocks=2),
        generator=GeneratorConfig(block_channels=4, max_channels=8),
        avd=AVDConfig(identity_width=3),
    )
    return LAMI(config, InterpolationConfig(times=(0.2, 0.9), fusion="occlusion"), ViTConfig(weights="random"))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    checkpoint.save(tiny_model(), path)
    return path


def test_round_trip(tmp_path: Path) -> None:
    model, path = tiny_model(), tmp_path / "new" / "folder" / "model.safetensors"
    checkpoint.save(model, path)
    for source in (path, str(path)):
        loaded = lami.load(source, "cpu")
        assert loaded.config == model.config
        assert loaded.interpolation == model.interpolation
        assert loaded.vit_config == model.vit_config
        assert not loaded.training
        wanted, state = model.state_dict(), loaded.state_dict()
        assert list(state) == list(wanted)
        assert all(torch.equal(state[name], wanted[name]) for name in wanted)


def test_half_precision_files_load_as_fp32(tmp_path: Path) -> None:
    model, path = tiny_model(), tmp_path / "half.safetensors"
    checkpoint.save(model, path, dtype=torch.float16)
    stored = load_file(path)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16, torch.int64}  # counters stay whole numbers
    loaded = checkpoint.load(path, "cpu").state_dict()
    for name, tensor in model.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor.half().to(tensor.dtype))


def test_saving_leaves_the_model_alone_and_replaces_the_file(saved: Path) -> None:
    model = tiny_model().train()
    checkpoint.save(model, saved, dtype=torch.float16)
    assert model.training
    assert model.generator.final.weight.dtype == torch.float32
    assert os.listdir(saved.parent) == [saved.name]
    assert torch.equal(
        checkpoint.load(saved, "cpu").generator.final.weight, model.generator.final.weight.half().float()
    )


def test_frozen_transformer_is_not_saved(tmp_path: Path) -> None:
    model = small_model(background=False)
    model.vit()
    assert not [name for name in model.state_dict() if "vit" in name]


def test_configuration_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    metadata = {"format": "lami-1", "config": json.dumps({"model": {"colour": 1}, "interpolation": {}, "vit": {}})}
    save_file({"x": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="this version of lami does not know"):
        checkpoint.load(path)


def test_failed_write_keeps_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def fail(tensors: object, filename: Path, metadata: object) -> None:
        filename.write_bytes(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(CheckpointError, match=r"cannot be written \(disk full\)"):
        checkpoint.save(tiny_model(), saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="no weight file at"):
            checkpoint.load(path)


def test_lfs_pointer(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(CheckpointError, match="Git LFS pointer, not weights; run 'git lfs pull'"):
        checkpoint.load(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_file(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="truncated or not a safetensors file") as caught:
        checkpoint.load(saved)
    assert "\n" not in str(caught.value)


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not a LAMI model"):
        checkpoint.load(path)
    path.write_text("hello, I am not a weight file at all")
    with pytest.raises(CheckpointError, match="truncated or not a safetensors file"):
        checkpoint.load(path)
    pickled = tmp_path / "vox.pth.tar"
    torch.save({}, pickled)
    with pytest.raises(CheckpointError, match="import it with 'lami convert"):
        checkpoint.load(pickled)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("generator.final.bias"), r"lacks the tensor generator\.final\.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "holds the tensor extra"),
        (
            lambda t: t.update({"generator.final.bias": torch.zeros(4)}),
            r"generator\.final\.bias has shape \(4,\), but the configuration asks for \(3,\)",
        ),
    ],
)
def test_tensors_must_fit(change: Callable[[dict[str, torch.Tensor]], object], message: str) -> None:
    model = tiny_model()
    tensors = dict(model.state_dict())
    change(tensors)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load_tensors(model, tensors, Path("model.safetensors"))


def test_device_choice() -> None:
    assert checkpoint.pick_device("cpu") == torch.device("cpu")
    assert checkpoint.pick_device("auto") == checkpoint.pick_device(None)
    with pytest.raises(ConfigError, match="unknown device 'gpu'; use auto, cpu, cuda, cuda:0 or mps"):
        checkpoint.pick_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is present")
def test_missing_cuda_is_explained() -> None:
    with pytest.raises(ConfigError, match="device cuda is not available here"):
        checkpoint.pick_device("cuda:0")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this is a Mac")
def test_missing_mps_is_explained() -> None:
    with pytest.raises(ConfigError, match="device mps is the GPU of a Mac and not available here; use --device cpu"):
        checkpoint.pick_device("mps")
