"""Devices that benchmarks can measure."""

from __future__ import annotations

import pytest
import torch

from lami.bench.memory import check_measurable
from lami.errors import ConfigError


def test_devices_whose_memory_and_time_are_unknown_are_refused() -> None:
    for device in ("cpu", "cuda:1"):
        check_measurable(torch.device(device))
    with pytest.raises(ConfigError, match="benchmarks measure CPUs and CUDA GPUs, not mps; take device cpu"):
        check_measurable(torch.device("mps"))
