"""Models in folders and on the hub, without a network: a cache made by hand, and a hub with the real signatures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock, create_autospec

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import errors
from small import small_model
from tiny import tiny_config

import lami
from lami import hub
from lami.errors import CheckpointError, HubError
from lami.model import LAMI

_COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def model() -> LAMI:
    return small_model(times=(0.25, 0.5))


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "reachable", lambda url: True)


@pytest.fixture
def cache(model: LAMI, tmp_path: Path) -> Path:
    """A hub cache that holds the model `someone/dancers`, as the hub's client lays it out."""
    root = tmp_path / "cache" / "models--someone--dancers"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(_COMMIT)
    model.save_pretrained(root / "snapshots" / _COMMIT)
    return tmp_path / "cache"


def _same(first: LAMI, second: LAMI) -> bool:
    states = first.state_dict(), second.state_dict()
    return (
        first.config == second.config
        and first.interpolation == second.interpolation
        and all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    )


def _raising(error: Exception) -> Callable[..., Mock]:
    return create_autospec(huggingface_hub.hf_hub_download, side_effect=error)


def _answer(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    return kind("a paragraph\nof many lines", response=Mock(status_code=status, headers={}))


def test_folder_and_file(model: LAMI, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "new" / "dancers")
    folder = tmp_path / "new" / "dancers"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.safetensors"]
    for name in (folder, str(folder), folder / "model.safetensors"):
        assert _same(LAMI.from_pretrained(name, "cpu"), model)
    assert _same(lami.load(folder / "model.safetensors", "cpu"), model)


def test_cached_model_needs_no_network(model: LAMI, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _same(LAMI.from_pretrained("someone/dancers", "cpu", cache_dir=cache, local_files_only=True), model)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert _same(LAMI.from_pretrained("someone/dancers", "cpu", cache_dir=cache), model)


def test_arguments_reach_the_hub(model: LAMI, cache: Path, online: None, monkeypatch: pytest.MonkeyPatch) -> None:
    file = cache / "models--someone--dancers" / "snapshots" / _COMMIT / "model.safetensors"
    download = create_autospec(huggingface_hub.hf_hub_download, return_value=str(file))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    loaded = LAMI.from_pretrained("someone/dancers", "cpu", revision="v2", token="secret", cache_dir=cache)
    assert _same(loaded, model)
    assert download.call_args.args == ("someone/dancers", "model.safetensors")
    wanted = {"revision": "v2", "token": "secret", "cache_dir": cache, "local_files_only": False}
    assert wanted.items() <= download.call_args.kwargs.items()


def test_offline_and_not_cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match=r"someone/singers is not in the cache, and the hub, https://.*, is switched"):
        LAMI.from_pretrained("someone/singers", "cpu", cache_dir=cache)
    with pytest.raises(HubError, match="is not in the cache"):
        LAMI.from_pretrained("someone/dancers", "cpu", revision="v2", cache_dir=cache)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (_answer(errors.RepositoryNotFoundError, 401), "no model someone/dancers that you may see; check the name"),
        (_answer(errors.GatedRepoError, 403), "asks for consent to terms"),
        (_answer(errors.RevisionNotFoundError, 404), "no revision 'v2'"),
        (errors.EntryNotFoundError("404\nof many lines"), "not a LAMI model: it has no model.safetensors"),
        (_answer(errors.HfHubHTTPError, 403), "pass another token="),
        (_answer(errors.HfHubHTTPError, 503), "answers 503"),
        (errors.LocalTokenNotFoundError("token\nplease"), "hf auth login"),
        (ConnectionResetError("peer"), r"connection to the hub failed for someone/dancers \(ConnectionResetError\)"),
        (TimeoutError("late"), r"\(TimeoutError\); try again"),
        (
            OSError(28, "No space left on device"),
            r"kept in the hub's cache \(.*No space left.*\); make room, or set HF_HUB",
        ),
        (PermissionError(13, "Permission denied"), r"kept in the hub's cache \(.*Permission denied\); make room"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_refusals_are_one_sentence(
    error: Exception, message: str, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", _raising(error))
    with pytest.raises(HubError, match=message) as caught:
        LAMI.from_pretrained("someone/dancers", "cpu", revision="v2")
    assert "\n" not in str(caught.value)


def test_names_that_are_neither(cache: Path, tmp_path: Path) -> None:
    for name in (tmp_path / "none", "runs/none.safetensors", "a/b/c", "dancers", "./dancers", "../dancers"):
        with pytest.raises(CheckpointError, match="no weight file at"):
            LAMI.from_pretrained(name, "cpu")
    with pytest.raises(CheckpointError, match=r"no weight file at .*model\.safetensors"):
        LAMI.from_pretrained(tmp_path, "cpu")
    with pytest.raises(HubError, match=r"'some\.\.one/dancers' is no name"):
        LAMI.from_pretrained("some..one/dancers", "cpu", local_files_only=True)


def test_wrong_file_on_the_hub(cache: Path) -> None:
    (cache / "models--someone--dancers" / "snapshots" / _COMMIT / "model.safetensors").write_text("no weights")
    with pytest.raises(CheckpointError, match="truncated or not a safetensors file"):
        LAMI.from_pretrained("someone/dancers", "cpu", cache_dir=cache, local_files_only=True)


def _card(folder: Path) -> tuple[dict[str, Any], str]:
    _, metadata, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(metadata), text


def test_card_says_what_is_known(model: LAMI, tmp_path: Path) -> None:
    training = tiny_config({"data.root": "/home/me/videos", "data.synthetic": None, "training.output": "/home/me/run"})
    model.save_pretrained(tmp_path, license="mit", training=training, name="someone/dancers")
    metadata, text = _card(tmp_path)
    assert metadata["license"] == "mit"
    assert metadata["library_name"] == "lami"
    assert 'lami.LAMI.from_pretrained("someone/dancers")' in text
    assert "64 x 64" in text
    assert f"{sum(p.numel() for p in model.parameters()):,}" in text
    assert "batch_size: 2" in text
    assert "/home/me" not in text
    blocks = [yaml.safe_load(block.split("```")[0]) for block in text.split("```yaml\n")[1:]]
    assert blocks[0]["interpolation"]["times"] == [0.25, 0.5]
    assert set(blocks[1]) == {"losses", "training", "data"}
    assert "{" not in text.replace("{}", "")


def test_card_does_not_invent(model: LAMI, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    metadata, text = _card(tmp_path)
    assert "license" not in metadata
    assert "None was stated: ask the author" in text
    assert "was not given with the weights" in text
    assert "synthetic media" in text


def test_edited_card_stays(model: LAMI, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_folder_that_cannot_be(model: LAMI, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        model.save_pretrained(tmp_path / "file" / "folder")


class _Hub:
    """The client, with the real signatures, and what was uploaded through it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, has_card: bool = False) -> None:
        self.client = create_autospec(huggingface_hub.HfApi, instance=True)
        self.client.file_exists.return_value = has_card
        self.client.upload_folder.side_effect = self._upload
        self.files: dict[str, bytes] = {}
        self.make = create_autospec(huggingface_hub.HfApi, return_value=self.client)
        monkeypatch.setattr(huggingface_hub, "HfApi", self.make)

    def _upload(self, *, folder_path: str, ignore_patterns: list[str] | None, **_: Any) -> Mock:
        ignored = ignore_patterns or []
        self.files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir() if path.name not in ignored}
        return Mock(commit_url="https://hub/commit")


def test_push(model: LAMI, online: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = _Hub(monkeypatch)
    url = model.push_to_hub("someone/dancers", license="mit", private=True, token="secret", revision="v2")
    assert url == "https://hub/commit"
    fake.make.assert_called_once_with(token="secret")
    fake.client.create_repo.assert_called_once_with("someone/dancers", private=True, exist_ok=True)
    assert fake.client.upload_folder.call_args.kwargs["revision"] == "v2"
    assert set(fake.files) == {"model.safetensors", "README.md"}
    assert b'from_pretrained("someone/dancers")' in fake.files["README.md"]
    (tmp_path / "model.safetensors").write_bytes(fake.files["model.safetensors"])
    assert _same(lami.load(tmp_path / "model.safetensors", "cpu"), model)


def test_push_keeps_an_edited_card(model: LAMI, online: None, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _Hub(monkeypatch, has_card=True)
    model.push_to_hub("someone/dancers")
    assert set(fake.files) == {"model.safetensors"}


def test_push_that_cannot_work(model: LAMI, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _Hub(monkeypatch)
    with pytest.raises(HubError, match="give OWNER/NAME"):
        model.push_to_hub("dancers")
    monkeypatch.setattr(hub, "reachable", lambda url: False)
    with pytest.raises(HubError, match="cannot be uploaded, the hub cannot be reached"):
        model.push_to_hub("someone/dancers")
    monkeypatch.setattr(hub, "reachable", lambda url: True)
    fake.client.create_repo.side_effect = _answer(errors.HfHubHTTPError, 403)
    with pytest.raises(HubError, match="pass another token="):
        model.push_to_hub("someone/dancers")
    fake.client.upload_folder.assert_not_called()
