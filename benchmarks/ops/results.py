"""The file that a run of the benchmarks leaves."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from lami.environment import describe_machine

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


def machine(device: torch.device, bandwidth: float | None) -> dict[str, object]:
    """The fields of a run that tell where it ran, and with what."""
    return describe_machine(device) | {"bandwidth_gb_s": None if bandwidth is None else bandwidth / 1e9}
