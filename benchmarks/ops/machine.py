"""What lami.environment does not tell: clocks and the driver, which move figures."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
from pathlib import Path

import torch

from lami.environment import command_line, describe_machine

_CLOCKS = {"clocks.sm": "sm", "clocks.mem": "memory", "clocks.max.sm": "sm, highest"}


def describe(device: torch.device) -> dict[str, object]:
    """The fields of a run that tell where it ran, with what, and how it was started."""
    facts = describe_machine(device) | {"command": command_line(), "driver": None, "clocks_mhz": cpu_clocks()}
    if device.type == "cuda" and (answer := _nvidia_smi(device, "driver_version", *_CLOCKS)) is not None:
        facts["driver"] = answer[0]
        facts["clocks_mhz"] |= {
            name: float(value) for name, value in zip(_CLOCKS.values(), answer[1:], strict=True) if value.isdigit()
        }
    return facts


def memory(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cpu_clocks() -> dict[str, float]:
    """MHz, the median of all cores; empty where the system does not tell."""
    try:
        found = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = []
    return {"cpu": statistics.median(map(float, found))} if found else {}


def _nvidia_smi(device: torch.device, *fields: str) -> list[str] | None:
    # Numbers of nvidia-smi are not those of CUDA, which counts the visible devices alone.
    measured = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", f"--id={measured}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return [field.strip() for field in answer.stdout.split(",")] if answer.returncode == 0 else None
