"""Passes, agreement and time of the functions of a case."""

from __future__ import annotations

import itertools
import math
import statistics
import timeit
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.ops.cases import BACKWARD, BOTH, FORWARD, Case, flat, nbytes

Run = Callable[[], list[Tensor]]
Make = Callable[[], Run]

_PATIENCE = 10.0
"""Seconds for all windows of a case, unless three of them take longer."""


def passes(
    function: Callable[..., Any], arguments: tuple[Any, ...], grads: list[Tensor] | None = None
) -> dict[str, Make]:
    """What a call does in each pass, made when it is needed: a graph that is kept takes memory.

    Forward runs as for inference, without gradients. Backward goes through the graph of one call again and again. Both
    are a step of training. `grads` are the results' gradients, random by default.
    """
    wanted = [tensor for tensor in flat(arguments) if tensor.requires_grad]

    def results_and_grads() -> tuple[list[Tensor], list[Tensor]]:
        results = flat(function(*arguments))
        return results, [torch.randn_like(result) for result in results] if grads is None else grads

    def forward() -> Run:
        def run() -> list[Tensor]:
            with torch.no_grad():
                return flat(function(*arguments))

        return run

    def backward() -> Run:
        results, given = results_and_grads()
        return lambda: list(torch.autograd.grad(results, wanted, given, retain_graph=True))

    def both() -> Run:
        _, given = results_and_grads()

        def run() -> list[Tensor]:
            results = flat(function(*arguments))
            return [*results, *torch.autograd.grad(results, wanted, given)]

        return run

    return {FORWARD: forward, BACKWARD: backward, BOTH: both}


def widened(function: Callable[..., Any], dtypes: list[torch.dtype]) -> Callable[..., list[Tensor]]:
    """For features narrower than float32: computes in float32, as autocast has PyTorch do, and rounds the results."""

    def widen(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [widen(each) for each in value]
        return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value

    def call(*arguments: Any) -> list[Tensor]:
        results = flat(function(*map(widen, arguments)))
        return [result.to(dtype) for result, dtype in zip(results, dtypes, strict=True)]

    return call


def in_turn(runs: list[Run]) -> Run:
    """Calls one after the other, time after time: the same work on other inputs."""
    cycle = itertools.cycle(runs)
    return lambda: next(cycle)()


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

    A window is as many calls as fill `window` seconds, at least one, after calls that warm up. On a CPU caches stay
    warm between calls. On a GPU each call is timed by events of its own after the L2 cache has been overwritten, and a
    window gives their median.
    """
    clock = _gpu_window if device.type == "cuda" else _cpu_window
    calls, longest = {}, window * len(runs)
    for name, run in runs.items():
        run()
        start = perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = perf_counter() - start
        calls[name] = max(1, math.ceil(window / seconds))
        longest = max(longest, len(runs) * seconds)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(max(3, min(windows, int(_PATIENCE / longest)))):
        for name, run in runs.items():
            taken[name].append(clock(run, calls[name], window))
    return taken


def _cpu_window(run: Run, calls: int, window: float) -> float:
    return timeit.Timer(run).timeit(calls) / calls


def _gpu_window(run: Run, calls: int, window: float) -> float:
    from triton.testing import do_bench  # only on a GPU is there surely a Triton

    milliseconds: float = do_bench(run, rep=math.ceil(1e3 * window), return_mode="median")
    return milliseconds / 1e3


def host_seconds(run: Run, device: torch.device) -> float:
    """Until a call returns, while the GPU has nothing else to do: what calling and launching take of the CPU's time."""
    taken = []
    for _ in range(50):
        torch.cuda.synchronize(device)
        start = perf_counter()
        run()
        taken.append(perf_counter() - start)
    torch.cuda.synchronize(device)
    return statistics.median(taken)


def percentiles(seconds: list[float]) -> tuple[float, float, float]:
    """20th, 50th and 80th."""
    fifths = statistics.quantiles(seconds, n=5, method="inclusive")
    return fifths[0], statistics.median(seconds), fifths[3]


class _Allocations(TorchDispatchMode):
    """Adds up the sizes of all results."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.total += nbytes(flat(result))
        return result


def expected_bytes(case: Case) -> int:
    """About what eager PyTorch needs forwards and backwards, from a case on the meta device: nothing is computed."""
    with _Allocations() as allocations:
        case.eager(*case.arguments)
    return 2 * allocations.total + nbytes(case.tensors())
