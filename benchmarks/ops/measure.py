"""Agreement, time and peak memory of the functions of a case."""

from __future__ import annotations

import math
import statistics
import timeit
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.ops.cases import Case, flat

Run = Callable[[], list[Tensor]]

_PATIENCE = 10.0
"""Seconds for all windows of a case, unless three of them take longer."""


def forward(function: Callable[..., Any], case: Case) -> Run:
    """Calls a function of the case as for inference; returns its results."""

    def run() -> list[Tensor]:
        with torch.no_grad():
            return flat(function(*case.arguments))

    return run


def forward_backward(function: Callable[..., Any], case: Case, grads: list[Tensor]) -> Run:
    """The same as for training, `grads` being the results' gradients; returns results and gradients."""
    wanted = [tensor for tensor in case.tensors() if tensor.requires_grad]

    def run() -> list[Tensor]:
        results = flat(function(*case.arguments))
        return [*results, *torch.autograd.grad(results, wanted, grads)]

    return run


def disagreement(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest relative error, by norm, among corresponding tensors."""
    errors = []
    for a, b in zip(ours, theirs, strict=True):
        a, b = a.detach().double(), b.detach().double()
        if a.shape != b.shape:
            raise ValueError(f"results of shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be compared")
        errors.append(float((a - b).norm() / b.norm().clamp(min=1e-12)) if a.numel() else 0.0)
    return max(errors)


def interleaved(runs: dict[str, Run], device: torch.device, window: float, windows: int) -> dict[str, list[float]]:
    """Seconds a call takes: all functions in turn, window after window, so that a busy machine harms them alike.

    A window is as many calls as fill `window` seconds, at least one, after a call that warms up. On a GPU it ends when
    the GPU has finished, and caches stay warm between calls.
    """

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return perf_counter()

    timers = {name: timeit.Timer(run, timer=clock) for name, run in runs.items()}
    calls = {}
    longest = window * len(runs)
    for name, timer in timers.items():
        timer.timeit(1)
        seconds = timer.timeit(1)
        calls[name] = max(1, math.ceil(window / seconds))
        longest = max(longest, len(runs) * seconds)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(max(3, min(windows, int(_PATIENCE / longest)))):
        for name, timer in timers.items():
            taken[name].append(timer.timeit(calls[name]) / calls[name])
    return taken


def percentiles(seconds: list[float]) -> tuple[float, float, float]:
    """20th, 50th and 80th."""
    fifths = statistics.quantiles(seconds, n=5, method="inclusive")
    return fifths[0], statistics.median(seconds), fifths[3]


def bytes_moved(case: Case, results: list[Tensor], backward: bool) -> int:
    """What any implementation has to read and write, each tensor once a pass.

    Forwards arguments in and results out, backwards arguments and gradients of results in and gradients out.
    """
    arguments, results_bytes = sum(map(_bytes, case.tensors())), sum(map(_bytes, results))
    gradients = sum(_bytes(tensor) for tensor in case.tensors() if tensor.requires_grad)
    return (arguments + results_bytes) * (2 if backward else 1) + (gradients if backward else 0)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def bandwidth(device: torch.device) -> float:
    """Bytes a second that the device reads and writes in a long copy."""
    source = torch.empty(2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = interleaved({"copy": lambda: [target.copy_(source)]}, device, window=0.1, windows=5)["copy"]
    return 2 * _bytes(source) / statistics.median(seconds)


class _Allocations(TorchDispatchMode):
    """Adds up the sizes of all results."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.total += sum(map(_bytes, flat(result)))
        return result


def expected_bytes(case: Case) -> int:
    """About what eager PyTorch needs forwards and backwards, from a case on the meta device: nothing is computed."""
    with _Allocations() as allocations:
        case.eager(*case.arguments)
    return 2 * allocations.total + sum(map(_bytes, case.tensors()))
