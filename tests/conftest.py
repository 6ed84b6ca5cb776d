"""Fixtures that every test may use: real data beside the repository, reference outputs, repeatable random numbers."""

from __future__ import annotations

import importlib.util
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

_ROOT = Path(__file__).resolve().parents[1]
_SHARED = Path(os.environ.get("LAMI_SHARED", _ROOT.parent / "shared"))

# Small tensors gain nothing from more threads and lose a lot when cores are shared.
torch.set_num_threads(1)

# Without a GPU, Triton's interpreter runs its kernels; it has to be chosen before anything imports triton.
if not torch.cuda.is_available() and importlib.util.find_spec("triton") is not None:
    os.environ.setdefault("TRITON_INTERPRET", "1")

# The same examples in every run, no deadline on shared cores. Fixtures name a device or a backend: nothing to reset.
settings.register_profile(
    "tests", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("tests")


def _folder(name: str, content: str) -> Path:
    path = _SHARED / name
    if not path.is_dir():
        pytest.skip(f"{content} not found in {path}; set LAMI_SHARED to the folder that holds {name}/")
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images and videos; the test is skipped where it is missing."""
    return _folder("data", "real images and videos")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of outputs of the TPSMM reference; the test is skipped where it is missing."""
    return _folder("golden", "outputs of the TPSMM reference")


@pytest.fixture(autouse=True)
def _plain_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Precision `auto` is fp32 on every machine, as numbers are compared closely; bf16 is tested where it is named."""
    monkeypatch.setattr("lami.acceleration.multiplies_bf16", lambda device: False)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
