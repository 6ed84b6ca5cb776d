"""Sound files, and every way in which one can be wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small import small_model

from lami import checkpoint
from lami.errors import CheckpointError, ConfigError
from lami.model import LAMI
from lami.pose import SeenPoses
from lami.weights import find_weights, verify_weights
from lami.weights.inventory import path_of


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], object]) -> None:
    """Change tensors and metadata of a file in place."""
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def change_config(section: str, key: str, value: object) -> Callable[[object, dict[str, str]], None]:
    def change(_: object, metadata: dict[str, str]) -> None:
        config = json.loads(metadata["config"])
        config[section][key] = value
        metadata["config"] = json.dumps(config)

    return change


def test_sound_files(weights: Path, dancers: LAMI, tmp_path: Path) -> None:
    report = verify_weights(weights)
    assert report.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert report.bytes == weights.stat().st_size
    assert (report.image_size, report.num_splines, report.points_per_spline) == ((64, 64), 4, 5)
    assert report.parameters == sum(parameter.numel() for parameter in dancers.parameters())
    assert (report.avd, report.background, report.seen_poses) == (True, True, None)
    assert verify_weights(str(weights), report.sha256.upper()) == report
    plain = small_model(background=False)
    plain.seen_poses = SeenPoses.from_list([1.0, 2.0])
    checkpoint.save(plain, tmp_path / "plain.safetensors", torch.float16)
    report = verify_weights(tmp_path / "plain.safetensors")
    assert (report.avd, report.background) == (False, False)
    assert report.seen_poses is not None
    assert report.seen_poses.to_list() == [1.0, 2.0]


def test_packaged_weights_know_what_training_saw() -> None:
    seen = verify_weights(path_of("demo")).seen_poses
    assert seen is not None
    assert seen.counts.sum() > 10_000
    assert 0 < seen.percentile(0.5) < seen.percentile(0.95) < seen.percentile(0.99) < 2


def spoil(name: str, value: float) -> Callable[[dict[str, torch.Tensor], object], None]:
    def change(tensors: dict[str, torch.Tensor], _: object) -> None:
        tensors[name].flatten()[-1] = value

    return change


def stored_as(dtype: torch.dtype) -> Callable[[dict[str, torch.Tensor], object], None]:
    return lambda tensors, _: tensors.update({"generator.final.bias": tensors["generator.final.bias"].to(dtype)})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (spoil("generator.final.weight", torch.nan), "the tensor generator.final.weight holds values that are not"),
        (spoil("generator.final.bias", -torch.inf), "the tensor generator.final.bias holds values that are not"),
        (lambda tensors, _: tensors.pop("generator.final.bias"), "lacks the tensor generator.final.bias"),
        (lambda tensors, _: tensors.update(x=torch.zeros(1)), "holds the tensor x, which"),
        (change_config("model", "num_splines", 5), "but the configuration asks for"),
        (change_config("model", "colour", 1), "holds a configuration that this version of lami does not know"),
        (change_config("model", "image_size", 65), "holds a configuration that this version of lami does not know"),
        (change_config("model", "detector", {"name": "a"}), "holds a configuration that this version of lami does not"),
        (change_config("model", "num_splines", 10**9), "holds a configuration that this version of lami does not know"),
        (lambda _, metadata: metadata.update(config="[" * 100_000), "holds a configuration that this version of lami"),
        (lambda _, metadata: metadata.update(poses="[1, 1e999]"), "holds a configuration that this version of lami"),
        (stored_as(torch.int8), "tensor generator.final.bias is torch.int8, which no weights of lami are"),
        (stored_as(torch.float8_e4m3fn), "tensor generator.final.bias is torch.float8_e4m3fn, which no weights"),
        (lambda _, metadata: metadata.pop("format"), "not a LAMI model"),
        (lambda _, metadata: metadata.pop("config"), "holds a configuration that this version of lami does not know"),
    ],
)
def test_wrong_contents(change: Callable[..., object], sentence: str, weights: Path) -> None:
    rewrite(weights, change)
    with pytest.raises(CheckpointError) as caught:
        verify_weights(weights)
    assert str(weights) in str(caught.value)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_first_of_several_spoilt_tensors_is_named(weights: Path, dancers: LAMI) -> None:
    names = [name for name, tensor in dancers.state_dict().items() if tensor.is_floating_point()]
    rewrite(weights, lambda tensors, _: [tensors[name].fill_(torch.nan) for name in (names[40], names[7], names[90])])
    with pytest.raises(CheckpointError, match=f"the tensor {names[7]} holds"):
        verify_weights(weights)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda content: content[:-1], "truncated or not a safetensors file"),
        (lambda content: content[:1000], "truncated or not a safetensors file"),
        (lambda _: b"", "truncated or not a safetensors file"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is a Git LFS pointer"),
    ],
)
def test_wrong_files(content: Callable[[bytes], bytes], sentence: str, weights: Path) -> None:
    weights.write_bytes(content(weights.read_bytes()))
    with pytest.raises(CheckpointError, match=sentence):
        verify_weights(weights)


def test_files_that_cannot_be_opened(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="no weight file at"):
        verify_weights(weights.parent)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\); check its permissions"):
        verify_weights(weights)


def test_digests(weights: Path) -> None:
    with pytest.raises(CheckpointError, match=f"its sha256 is [0-9a-f]{{64}}, not {'0' * 64}"):
        verify_weights(weights, "0" * 64)
    for wrong in ("", "0" * 63, "g" * 64, f"{'0' * 64}\n"):
        with pytest.raises(ConfigError, match="64 hexadecimal digits"):
            verify_weights(weights, wrong)


def test_damage_in_the_cache_shows_in_the_digest(cache: Path) -> None:
    """One bit of one weight, after which every number is still finite."""
    path = find_weights("someone/dancers")
    assert verify_weights(path).sha256 == path.resolve().name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.resolve().write_bytes(content)
    with pytest.raises(CheckpointError, match=f"is damaged, its sha256 is not the hub's; delete {path.resolve()} and"):
        verify_weights(path)
