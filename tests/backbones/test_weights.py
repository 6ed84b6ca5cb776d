"""Where the weights of timm models come from."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from lami.backbones import ViTFeatures, create_backbone, create_pretrained
from lami.backbones._hub import fetch
from lami.configs.schema import BackboneConfig, ViTConfig
from lami.errors import ConfigError, WeightsUnavailableError

NAME = "vit_tiny_patch16_224"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Address of a server that takes connections and never answers, as behind many firewalls."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_declared_offline_fails_at_once(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    create_pretrained(NAME, "random")  # the first use imports timm
    start = time.monotonic()
    with pytest.raises(WeightsUnavailableError, match=r"vit_base_patch8_224\.dino are not in the cache") as caught:
        ViTFeatures(ViTConfig())
    assert time.monotonic() - start < 2
    assert "\n" not in str(caught.value)


def test_refused_connections_fail_at_once(empty_cache: Path, closed_port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", closed_port)
    start = time.monotonic()
    with pytest.raises(WeightsUnavailableError, match="set weights to its path, or set weights to 'random'"):
        fetch("net", "someone/net", f"{closed_port}/net.pth")
    assert time.monotonic() - start < 2


def test_silent_network_fails_within_two_seconds(
    empty_cache: Path, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", silent_server)
    start = time.monotonic()
    with pytest.raises(WeightsUnavailableError, match="cannot be downloaded"):
        fetch("net", "someone/net", None)
    assert time.monotonic() - start < 2


def test_cached_files_need_no_network(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cached = empty_cache / "torch" / "hub" / "checkpoints" / "net.pth"
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert fetch("net", "someone/net", "https://example.org/files/net.pth") == cached
    repository = empty_cache / "hub" / "models--someone--net"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    weights = repository / "snapshots" / "abc" / "model.safetensors"
    weights.touch()
    assert fetch("net", "someone/net", "https://example.org/files/net.pth") == weights


def test_model_without_pretrained_weights(empty_cache: Path) -> None:
    with pytest.raises(WeightsUnavailableError, match=r"no pretrained weights for 'vit_tiny_patch16_224\.nothing'"):
        create_pretrained(NAME + ".nothing", "pretrained")


def test_random_weights_are_repeatable_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    before = torch.get_rng_state()
    with caplog.at_level(logging.WARNING):
        first = create_pretrained(NAME, "random")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)
    second = create_pretrained(NAME, "random")
    assert f"{NAME} has random weights" in caplog.text
    states = first.state_dict(), second.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not first.training


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    state = {name: torch.randn_like(value) for name, value in create_pretrained(NAME, "random").state_dict().items()}
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    loaded = create_pretrained(NAME, str(path)).state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_file_of_the_whole_model_serves_without_its_head(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    whole = create_pretrained(NAME, "random", num_classes=1000)
    save_file(whole.state_dict(), path)
    loaded = create_pretrained(NAME, str(path), num_classes=0)
    assert torch.equal(loaded.cls_token, whole.cls_token)


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(WeightsUnavailableError, match=r"not found at .*give an existing file, 'pretrained'"):
        create_pretrained(NAME, str(path))
    path.write_bytes(b"not weights")
    with pytest.raises(WeightsUnavailableError, match="cannot be read as a state dict"):
        create_pretrained(NAME, str(path))
    save_file({"cls_token": torch.zeros(1, 1, 7)}, path)
    with pytest.raises(WeightsUnavailableError, match=r"does not fit .* 1 have another shape"):
        create_pretrained(NAME, str(path))


def test_unknown_names_and_arguments() -> None:
    with pytest.raises(ConfigError, match=r"timm has no model named 'vgg19_b'; similar names: .*vgg19_bn"):
        create_pretrained("vgg19_b", "random")
    with pytest.raises(ConfigError, match="timm cannot create 'resnet18'"):
        create_backbone(BackboneConfig(args={"no_such_argument": 1}), 3, 6)


def test_backbone_is_trainable_and_of_the_asked_shape() -> None:
    network = create_backbone(BackboneConfig(args={"channels": [4, 4, 8, 8]}), in_channels=6, outputs=5)
    assert network(torch.rand(2, 6, 32, 48)).shape == (2, 5)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert network.training
