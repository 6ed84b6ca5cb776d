"""Which implementation runs: the specification, compiled C++/CUDA, or Triton."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterable, Iterator

import torch

from lami import _native
from lami.errors import BackendUnavailableError

NAMES = ("reference", "native", "triton")
MULTI_TIME = frozenset({"fit_tps", "anytime_keypoints", "anytime_motion_features", "anytime_warp"})
"""Ops that csrc implements for CUDA; the others have Triton kernels there."""


class _Choice:
    """Explicit choice of a backend; None picks the fastest for each op and device."""

    name: str | None = None


def _checked(name: str | None) -> str | None:
    if name is not None and name not in NAMES:
        raise ValueError(f"the backend must be one of {', '.join(NAMES)}, got {name!r}; choose one of these")
    return name


@contextlib.contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Run all ops within the context on one backend, in all threads; None goes back to the automatic choice.

    Args:
        name: `reference` (plain PyTorch, the specification), `native` (C++ and CUDA) or `triton`.

    Raises:
        ValueError: there is no such backend. An op that the backend cannot run raises `BackendUnavailableError`.
    """
    before, _Choice.name = _Choice.name, _checked(name)
    try:
        yield
    finally:
        _Choice.name = before


_Choice.name = _checked(os.environ.get("LAMI_BACKEND") or None)


def triton_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def triton_interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


class _Known:
    """What has been found out, once: it cannot change while the process runs, and compilers cannot trace the search."""

    reasons: dict[tuple[str, str, str], str | None] = {}
    automatic: dict[tuple[str, str], str] = {}


def look(ops: Iterable[str]) -> None:
    """Find out which backends are here, so that tracing a call only reads it."""
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    for op in ops:
        for device in devices:
            for backend in NAMES:
                missing(backend, op, device)


def missing(backend: str, op: str, device: str) -> str | None:
    """Why a backend cannot run an op on a type of device, with what to do; None if it can."""
    key = (backend, op, device)
    if key not in _Known.reasons:
        _Known.reasons[key] = _search(*key)
    return _Known.reasons[key]


def _search(backend: str, op: str, device: str) -> str | None:
    if backend == "reference":
        return None
    if backend == "native":
        if device not in ("cpu", "cuda"):
            return f"there are no native ops for {device} devices; use the reference backend"
        if device == "cuda" and op not in MULTI_TIME:
            return "it has no native CUDA kernel; use the triton backend"
        return _native.native_error(device)
    if not triton_installed():
        return "triton is not installed; pip install triton"
    if device == "cuda" and not torch.cuda.is_available():
        return "PyTorch finds no CUDA device; run lami doctor to see why"
    if device == "cuda" or (device == "cpu" and triton_interpreted()):
        return None
    return f"Triton kernels need a CUDA device, not {device}; set TRITON_INTERPRET=1 to debug them on a CPU"


def automatic(op: str, device: str) -> str:
    """The fastest backend that is here."""
    if device == "cpu":
        # Keypoints in time are one expression on a few hundred numbers: less work than calling an op.
        return "native" if op != "anytime_keypoints" and missing("native", op, device) is None else "reference"
    order = ("native", "triton") if op in MULTI_TIME else ("triton", "native")
    return next((backend for backend in order if missing(backend, op, device) is None), "reference")


def choose(op: str, device: torch.device) -> str:
    """The backend of a call.

    Raises:
        BackendUnavailableError: one was asked for that cannot run the op.
    """
    name = _Choice.name
    if name is None:
        key = (op, device.type)
        if key not in _Known.automatic:
            _Known.automatic[key] = automatic(op, device.type)
        return _Known.automatic[key]
    reason = missing(name, op, device.type)
    if reason is not None:
        raise BackendUnavailableError(f"{op} cannot run on the {name} backend: {reason}")
    return name
