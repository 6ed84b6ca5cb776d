"""Where a run happened, and with what: what makes a figure or a trained model reproducible."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

import torch

import lami
from lami import _native

_PACKAGES = ("triton", "timm", "torchvision", "numpy", "av", "safetensors")


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Date (UTC), git state, device, processor and versions.

    `commit` and `dirty` are those of the source tree that lami is imported from; "unknown" and False for an installed
    package.
    """
    return {
        "date": datetime.now(UTC),
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "device": device_name(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "versions": _versions(),
    }


def command_line() -> str:
    """What started this process, as one would type it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:  # python -m
        program = ["python", "-m", spec.name.removesuffix(".__main__")]
    elif sys.argv[0].endswith(".py"):
        program = ["python", sys.argv[0]]
    else:
        program = [Path(sys.argv[0]).name]
    return shlex.join([*program, *sys.argv[1:]])


def device_name(device: torch.device) -> str:
    """Short name of a kind of machine, for folders of results: `cpu-2core-avx512`, `nvidia-h200`."""
    if device.type == "cuda":
        return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(device).lower()).strip("-")
    if device.type != "cpu":
        return device.type
    widest = "amx" if torch.cpu._is_amx_tile_supported() else torch.backends.cpu.get_cpu_capability().lower()
    return re.sub(r"[^a-z0-9]+", "-", f"cpu-{os.cpu_count()}core-{widest}")


def uncommitted_changes() -> bytes:
    """Changes of tracked files in the source tree that lami is imported from, for `git apply`; empty for an installed
    package."""
    return (
        _run_git("diff", "--binary", "--no-ext-diff", "--no-color", "--src-prefix=a/", "--dst-prefix=b/", "HEAD") or b""
    )


def installed_packages() -> dict[str, str]:
    """Version of every distribution in the environment, by name."""
    found = {distribution.name: distribution.version for distribution in distributions()}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _git(*arguments: str) -> str | None:
    answer = _run_git(*arguments)
    return None if answer is None else answer.decode(errors="replace").strip()


def _run_git(*arguments: str) -> bytes | None:
    tree = Path(__file__).resolve().parents[1]
    if not (tree / ".git").exists():  # an installed package may lie inside somebody else's repository
        return None
    try:
        answer = subprocess.run(["git", "-C", str(tree), *arguments], capture_output=True, check=False)
    except OSError:
        return None
    return answer.stdout if answer.returncode == 0 else None


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    versions = {"lami": lami.__version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    versions["cuda"] = torch.version.cuda or "none"
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "none"
    for name, kind in (("compiler", "cpu"), ("compiler_cuda", "cuda")):
        information = _native.build_info(kind) or {}
        versions[name] = " ".join(filter(None, map(information.get, ("compiler", "cuda")))) or "none"
    return versions
