"""Peak memory of a piece of work."""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from lami.errors import ConfigError


def check_measurable(device: torch.device) -> None:
    """Raises ConfigError for devices whose memory and time are not measured here."""
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"benchmarks measure CPUs and CUDA GPUs, not {device.type}; take device cpu")


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Most memory that tensors took at a time beyond what was before, results included.

    On a CPU this leaves out the scratch memory of libraries such as oneDNN.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    allocated = peak = 0
    for _, change in changes:
        allocated += change
        peak = max(peak, allocated)
    return peak
