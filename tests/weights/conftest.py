"""A model in a cache of the hub, laid out as the hub's client does."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import constants
from small import small_model

from lami.configs.schema import AVDConfig
from lami.model import LAMI

COMMITS = ("0123456789abcdef0123456789abcdef01234567", "fedcba9876543210fedcba9876543210fedcba98")


@pytest.fixture(scope="session")
def dancers() -> LAMI:
    """With everything that a model may have."""
    return small_model(avd=AVDConfig(identity_width=8, pose_width=8))


@pytest.fixture
def weights(dancers: LAMI, tmp_path: Path) -> Path:
    dancers.save_pretrained(tmp_path / "model")
    return tmp_path / "model" / "model.safetensors"


@pytest.fixture
def cache(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds `someone/dancers` in two revisions, main and v2, of the same file; there is no network."""
    content = weights.read_bytes()
    repository = tmp_path / "cache" / "models--someone--dancers"
    blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir(parents=True)
    blob.write_bytes(content)
    (repository / "refs").mkdir()
    for name, commit in zip(("main", "v2"), COMMITS, strict=True):
        (repository / "refs" / name).write_text(commit)
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (snapshot / "model.safetensors").symlink_to(f"../../blobs/{blob.name}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"
