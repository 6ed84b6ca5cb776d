"""Estimators by name."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from lami.configs.schema import DataConfig, SyntheticConfig
from lami.errors import ConfigError
from lami.evaluation.estimators import (
    IDENTITY_ESTIMATORS,
    KEYPOINT_ESTIMATORS,
    make_identity_estimator,
    make_keypoint_estimator,
)


def test_without_packages_each_name_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("dlib", "mediapipe", "face_alignment"):
        monkeypatch.setitem(sys.modules, package, None)
    lines = {
        "dlib": "dlib-bin face-recognition-models",
        "mediapipe": "--no-deps mediapipe==0.10.21",
        "face-alignment": "pip install 'face-alignment",
    }
    assert set(lines) < set(KEYPOINT_ESTIMATORS)
    for name, line in lines.items():
        with pytest.raises(ConfigError, match=line):
            make_keypoint_estimator(name)
    for name in ("dlib", "dlib-whole-frame"):
        assert name in IDENTITY_ESTIMATORS
        with pytest.raises(ConfigError, match=lines["dlib"]):
            make_identity_estimator(name)


def test_weights_without_dlib_models(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dlib")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="face-recognition-models"):
        make_keypoint_estimator("dlib")


def test_figures_and_precomputed_are_made(tmp_path: Path) -> None:
    config = DataConfig(synthetic=SyntheticConfig(num_clips=1, num_test_clips=1))
    assert make_keypoint_estimator("figures", config, (64, 64)).name == "figures"
    for name in ("real.npz", "generated.npz"):
        np.savez(tmp_path / name, clip=["a"], frame=[0], points=np.zeros((1, 2, 2)), embeddings=np.zeros((1, 3)))
    spec = f"precomputed:{tmp_path / 'real.npz'},{tmp_path / 'generated.npz'}"
    assert make_keypoint_estimator(spec).name == make_identity_estimator(spec).name == "precomputed"


@pytest.mark.parametrize("spec", ["openpose", "", "dlib:a,b", "Dlib"])
def test_unknown_names_are_told_the_known_ones(spec: str) -> None:
    with pytest.raises(ConfigError, match="mediapipe, face-alignment"):
        make_keypoint_estimator(spec)
    with pytest.raises(ConfigError, match="dlib-whole-frame"):
        make_identity_estimator(spec)


@pytest.mark.parametrize("spec", ["precomputed", "precomputed:", "precomputed:a.csv", "precomputed:a,b,c"])
def test_precomputed_wants_two_files(spec: str) -> None:
    for make in (make_keypoint_estimator, make_identity_estimator):
        with pytest.raises(ConfigError, match="REAL_FILE,GENERATED_FILE"):
            make(spec)


def test_enlarging_where_nothing_is_searched() -> None:
    config = DataConfig(synthetic=SyntheticConfig(num_clips=1, num_test_clips=1, num_frames=2))
    assert make_keypoint_estimator("figures", config, (64, 64), enlarge=2).name == "figures"


def test_figures_without_configuration() -> None:
    with pytest.raises(ConfigError, match=r"data\.synthetic"):
        make_keypoint_estimator("figures")
