"""How kernels are launched: by a real compiler, traceable by torch.compile, or by Triton's interpreter."""

from __future__ import annotations

import os
from typing import Any

import torch
import triton
from torch.library import wrap_triton

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Kernels run on the CPU, in Python. Triton reads the variable where kernels are defined: set it before the import."""


def launchable(kernel: Any) -> Any:
    """A kernel to be indexed with its grid; torch.compile sees the launch and what is in it."""
    return kernel if INTERPRETED else wrap_triton(kernel)


def compute_dtype(*tensors: torch.Tensor | None) -> torch.dtype:
    """fp64 if any floating tensor is fp64, else fp32: the precision of coordinates and accumulation."""
    if any(tensor is not None and tensor.dtype == torch.float64 for tensor in tensors):
        return torch.float64
    return torch.float32


def blocks(elements: int, block: int) -> int:
    return triton.cdiv(elements, block)
