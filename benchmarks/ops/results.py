"""The file that a run of the benchmarks leaves."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

import lami
from lami import _native

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "results"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Side(_Record):
    """One implementation. Milliseconds a call, by percentile over the windows; peak memory beyond the arguments."""

    median_ms: float = Field(gt=0)
    p20_ms: float = Field(gt=0)
    p80_ms: float = Field(gt=0)
    windows: int = Field(ge=3)
    peak_bytes: int = Field(ge=0)
    bandwidth_percent: float | None = None


class Pass(_Record):
    """Forward, or forward and backward. Ratios say how many times less the fused op needs than eager."""

    name: Literal["forward", "forward + backward"]
    fused: Side
    eager: Side
    compiled: Side | None = None
    bytes_moved: int = Field(ge=0)
    target: float
    memory_target: float | None = None

    @property
    def ratio(self) -> float:
        return self.eager.median_ms / self.fused.median_ms

    @property
    def memory(self) -> float:
        """Peak of the fused op as a part of eager's."""
        return self.fused.peak_bytes / max(self.eager.peak_bytes, 1)

    @property
    def missed(self) -> bool:
        return self.ratio < self.target or (self.memory_target is not None and self.memory > self.memory_target)


class CaseResult(_Record):
    op: str
    case: str
    named: bool
    size: dict[str, int]
    backend: str
    relative_error: float = Field(ge=0)
    passes: list[Pass]


class LeftOut(_Record):
    op: str
    case: str
    reason: str


class Run(_Record):
    """Everything about one run.

    Attributes:
        device: short name, that of the folder of results.
        processor, threads, cores: of the CPU.
        bandwidth_gb_s: of a copy on the GPU, measured.
        limits: by op, what keeps it from being faster.
    """

    schema_version: Literal[1] = 1
    date: datetime
    commit: str
    dirty: bool
    device: str
    gpu: str | None
    processor: str
    cores: int
    threads: int
    load: float
    versions: dict[str, str]
    dtype: str
    window_s: float
    bandwidth_gb_s: float | None
    limits: dict[str, str]
    cases: list[CaseResult]
    left_out: list[LeftOut]

    def save(self, folder: Path) -> Path:
        """Write `<date>-<commit>.json`, never over another run."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.date:%Y%m%d-%H%M%S}-{self.commit[:8]}.json"
        with path.open("x") as file:
            file.write(self.model_dump_json(indent=1) + "\n")
        return path


def device_name(device: torch.device) -> str:
    """Of the folder of results, for instance `cpu-2core` or `nvidia-h200`."""
    if device.type == "cuda":
        return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(device).lower()).strip("-")
    return f"{device.type}-{os.cpu_count()}core"


def _git(*arguments: str) -> str | None:
    answer = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None


def _processor() -> str:
    try:
        return re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1]  # type: ignore[index]
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def machine(device: torch.device, bandwidth: float | None) -> dict[str, object]:
    """The fields of a run that tell where it ran, and with what."""
    versions = {"lami": lami.__version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    versions["cuda"] = torch.version.cuda or "none"
    try:
        import triton

        versions["triton"] = triton.__version__
    except ImportError:
        versions["triton"] = "none"
    for name, kind in (("compiler", "cpu"), ("compiler_cuda", "cuda")):
        information = _native.build_info(kind) or {}
        versions[name] = " ".join(filter(None, map(information.get, ("compiler", "cuda")))) or "none"
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
        "versions": versions,
        "bandwidth_gb_s": None if bandwidth is None else bandwidth / 1e9,
    }
