"""Tests of what only a GPU has."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def cuda() -> torch.device:
    """The current CUDA device; the test is skipped where there is none."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device that PyTorch can use")
    return torch.device("cuda", torch.cuda.current_device())
