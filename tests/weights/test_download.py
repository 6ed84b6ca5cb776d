"""Models of others, without a network: from a cache, and from a client with the real signature."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock, create_autospec

import huggingface_hub
import pytest

from lami import hub
from lami.data import files
from lami.errors import CheckpointError, DataError, HubError
from lami.weights import find_weights, get_weights

Client = Callable[[Path], Mock]


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Client:
    """A hub whose client gives a file."""

    def install(file: Path) -> Mock:
        download = create_autospec(huggingface_hub.hf_hub_download, return_value=str(file))
        monkeypatch.setattr(hub, "reachable", lambda url: True)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        return download

    return install


def test_stays_in_the_cache(weights: Path, online: Client, tmp_path: Path) -> None:
    download = online(weights)
    assert get_weights("someone/dancers", revision="v2", token="secret", cache_dir=tmp_path) == weights
    assert download.call_args.args == ("someone/dancers", "model.safetensors")
    wanted = {"revision": "v2", "token": "secret", "cache_dir": tmp_path, "local_files_only": False}
    assert wanted.items() <= download.call_args.kwargs.items()


def test_copies(weights: Path, online: Client, tmp_path: Path) -> None:
    online(weights)
    output = tmp_path / "new" / "dancers.safetensors"
    assert get_weights("someone/dancers", output) == output
    assert output.read_bytes() == weights.read_bytes()
    assert os.listdir(output.parent) == [output.name]


def test_cached_models_need_no_network(cache: Path, tmp_path: Path) -> None:
    assert get_weights("someone/dancers") == find_weights("someone/dancers")
    output = get_weights("someone/dancers", tmp_path / "a.safetensors", revision="v2")
    assert not output.is_symlink()
    assert output.read_bytes() == find_weights("someone/dancers").read_bytes()


def test_offline_fails_at_once(cache: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(
        HubError, match=r"someone/singers is not in the cache, and the hub, .*, is switched off"
    ) as caught:
        get_weights("someone/singers", tmp_path / "new" / "a.safetensors")
    assert time.monotonic() - start < 2
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_existing_outputs_are_kept(weights: Path, online: Client, tmp_path: Path) -> None:
    download = online(weights)
    output = tmp_path / "mine.safetensors"
    output.write_text("mine")
    with pytest.raises(DataError, match="exists already; choose another output, or replace it with --overwrite"):
        get_weights("someone/dancers", output)
    for wrong in (tmp_path / "mine.pth", tmp_path):
        with pytest.raises(DataError):
            get_weights("someone/dancers", wrong)
    download.assert_not_called()
    assert output.read_text() == "mine"
    get_weights("someone/dancers", output, overwrite=True)
    assert output.read_bytes() == weights.read_bytes()


def test_damaged_files_are_not_copied(weights: Path, online: Client, tmp_path: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-1])
    online(weights)
    with pytest.raises(CheckpointError, match="truncated"):
        get_weights("someone/dancers", tmp_path / "new" / "a.safetensors")
    assert not (tmp_path / "new").exists()


def test_full_disks_leave_nothing(
    weights: Path, online: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    online(weights)

    def copy(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:100])
        raise OSError(min(files._FULL), "full")

    monkeypatch.setattr("shutil.copyfile", copy)
    output = tmp_path / "new" / "a.safetensors"
    output.parent.mkdir()
    output.write_text("before")
    with pytest.raises(DataError, match="make room"):
        get_weights("someone/dancers", output, overwrite=True)
    assert os.listdir(output.parent) == [output.name]
    assert output.read_text() == "before"


def test_names_that_are_not_on_the_hub(online: Client, weights: Path) -> None:
    download = online(weights)
    with pytest.raises(HubError, match="demo is in the package, not on the hub; 'lami weights path demo' tells where"):
        get_weights("demo")
    for name in ("dancers", "a/b/c", "", "runs/a.safetensors", str(weights)):
        with pytest.raises(HubError, match="give OWNER/NAME"):
            get_weights(name)
    download.assert_not_called()
