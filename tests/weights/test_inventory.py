"""What is on this computer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import save_file

import lami
from lami.errors import CheckpointError, ConfigError, HubError
from lami.model import LAMI
from lami.weights import find_weights, list_weights
from lami.weights.inventory import PACKAGED, path_of


def parameters_of(model: LAMI) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*arguments: Any) -> None:
        raise AssertionError("the network is asked")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


def test_packaged_weights(tmp_path: Path) -> None:
    files = {file.name: file for file in list_weights(tmp_path / "no cache")}
    assert list(files) == list(PACKAGED)
    assert {path.stem for path in path_of("demo").parent.glob("*.safetensors")} == set(PACKAGED)
    demo, model = files["demo"], lami.load(path_of("demo"), "cpu")
    assert (demo.image_size, demo.num_splines) == (model.config.image_size, model.config.num_splines)
    assert demo.parameters == parameters_of(model)
    assert demo.bytes == demo.path.stat().st_size < 2**23
    assert demo.purpose == "generated figures"


def test_models_in_the_cache(cache: Path, dancers: LAMI, no_network: None) -> None:
    found = [file for file in list_weights() if file.name not in PACKAGED]
    assert [(file.name, file.revision) for file in found] == [("someone/dancers", None), ("someone/dancers", "v2")]
    assert all(file.path.is_relative_to(cache) and file.path.name == "model.safetensors" for file in found)
    assert found[0].parameters == parameters_of(dancers)
    assert found[0].image_size == (64, 64)
    assert found[0].purpose is None
    # A commit that no branch or tag names is found by its digits.
    (cache / "models--someone--dancers" / "refs" / "v2").unlink()
    commit = list_weights()[-1].path.parent.name
    assert list_weights()[-1].revision == commit
    assert find_weights("someone/dancers", commit) == list_weights()[-1].path


def test_files_of_others_are_passed_over(cache: Path, weights: Path) -> None:
    before = list_weights()

    def add(repository: str) -> Path:
        path = cache / repository / "snapshots" / "c0ffee" / "model.safetensors"
        path.parent.mkdir(parents=True)
        return path

    save_file({"weight": torch.zeros(2)}, add("models--timm--net"))
    save_file({"weight": torch.zeros(2)}, add("models--someone--future"), metadata={"format": "lami-1", "config": "{}"})
    add("models--someone--cut").write_bytes(weights.read_bytes()[:-1])
    add("models--someone--pointer").write_text("version https://git-lfs.github.com/spec/v1\n")
    add("datasets--someone--clips").write_bytes(weights.read_bytes())
    (cache / "models--someone--nothing").mkdir()
    (cache / "notes.txt").write_text("mine")
    assert list_weights() == before


def test_a_cache_that_may_not_be_read_is_a_warning(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "scandir", refuse := Mock(side_effect=PermissionError(13, "Permission denied")))
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert {file.name for file in list_weights()} == set(PACKAGED)
    assert f"the hub's cache {cache} is left out, it cannot be read" in caplog.text


def test_listing_is_light(cache: Path) -> None:
    environment = os.environ | {"HF_HUB_CACHE": str(cache)}
    arguments = [sys.executable, "-X", "importtime", "-m", "lami", "weights", "list"]
    answer = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True, env=environment)
    assert "someone/dancers" in answer.stdout
    imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert "safetensors" in imported
    assert not imported & {"torch", "timm", "cv2", "av"}


def test_paths_come_before_names(cache: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_weights(weights) == find_weights(str(weights.parent)) == weights
    assert find_weights("demo") == path_of("demo")
    in_cache = find_weights("someone/dancers")
    assert in_cache.is_relative_to(cache)
    assert find_weights("someone/dancers", "v2") != in_cache
    monkeypatch.chdir(weights.parent)
    Path("demo").mkdir()  # a folder of results, for instance
    assert find_weights("demo") == path_of("demo")
    for name in ("demo", "someone/dancers"):
        Path(name).mkdir(parents=True, exist_ok=True)
        (Path(name) / "model.safetensors").touch()
        assert find_weights(name) == Path(name) / "model.safetensors"


@pytest.mark.parametrize(
    ("find", "error", "sentence"),
    [
        (lambda: find_weights("dmo"), CheckpointError, "no weight file at dmo; check the path, or take a name that"),
        (lambda: find_weights("runs/a.safetensors"), CheckpointError, "no weight file at runs/a.safetensors"),
        (lambda: find_weights("a" * 5000), CheckpointError, "no weight file at aaa"),
        (lambda: find_weights(""), CheckpointError, "no weight file at ;"),
        (lambda: find_weights("someone/singers"), HubError, "'lami weights get someone/singers' downloads it"),
        (
            lambda: find_weights("someone/dancers", "v3"),
            HubError,
            "someone/dancers at revision v3 is not in the cache; 'lami weights get someone/dancers --revision v3'",
        ),
        (lambda: find_weights("some..one/dancers"), HubError, "is no name of a repository"),
        (lambda: find_weights("demo", "v2"), ConfigError, "demo is a file on this computer and has no revisions"),
    ],
)
def test_what_is_not_there(
    find: Callable[[], Path], error: type[Exception], sentence: str, cache: Path, no_network: None
) -> None:
    with pytest.raises(error) as caught:
        find()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
