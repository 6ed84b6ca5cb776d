"""The report of `lami doctor`, on healthy and on broken installations."""

from __future__ import annotations

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import lami
from lami import _native, ops
from lami.cli.main import main
from lami.doctor import report


def test_report_of_a_healthy_installation(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    text = capsys.readouterr().out
    assert "failed" not in text
    functions = set(ops.__all__) - {"use_backend"}
    for fact in (lami.__version__, torch.__version__, "FFmpeg", "g++", "nvcc", "lami._C", "lami._C_cuda", *functions):
        assert fact in text
    assert text.count(" on cpu") == len(functions)


def test_why_libraries_are_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAMI_NATIVE_DIR", str(tmp_path))
    _native._load.cache_clear()
    try:
        assert f"lami's CPU kernels are not built in {tmp_path}" in report()
        (tmp_path / f"_C{EXTENSION_SUFFIXES[0]}").write_bytes(b"no library")
        _native._load.cache_clear()
        assert "cannot be loaded: " in report()
        assert _native.native_error("cpu") is not None
        assert _native.build_info("cpu") is None
    finally:
        _native._load.cache_clear()


def test_broken_imports_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setitem(sys.modules, "lami.ops", None)
    text = report()
    assert "but importing it fails" in text
    assert "ModuleNotFoundError" in text
    assert torch.__version__ in text


def test_weights_in_the_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    assert report().count(" none\n") == 2

    model = tmp_path / "hub" / "models--timm--vgg19.tv_in1k"
    (model / "blobs").mkdir(parents=True)
    (model / "blobs" / "0a").write_bytes(bytes(1000))
    snapshot = model / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(model / "blobs" / "0a")
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "dino.pth").write_bytes(b"0")
    text = report()
    assert "timm/vgg19.tv_in1k (1.0K)" in text
    assert "dino.pth" in text
