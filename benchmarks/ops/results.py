"""The file that a run leaves: the one place that says what is in it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "results"
"""<device>/<version of lami>/ops/<date>-<commit>.json"""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Side(_Record):
    """One implementation. Milliseconds a call, by percentile over the windows; peak memory beyond the arguments.

    Attributes:
        host_us: microseconds until a call returns, on a GPU, which still works then; median.
    """

    median_ms: float = Field(gt=0)
    p20_ms: float = Field(gt=0)
    p80_ms: float = Field(gt=0)
    windows: int = Field(ge=3)
    peak_bytes: int = Field(ge=0)
    host_us: float | None = None


class Pass(_Record):
    """Sides by name: `fused` is ours, `eager` what it is compared with, `copy` one of as many bytes; others as run.

    Attributes:
        wanted: times faster than a side, by its name, that ours should be. Sides that were not measured do not count.
        wanted_memory: peak memory that is wanted, as a part of eager's.
        wanted_host_us: in which a call should return.
    """

    name: Literal["forward", "backward", "forward + backward"]
    sides: dict[str, Side]
    bytes_moved: int = Field(ge=0)
    wanted: dict[str, float]
    wanted_memory: float | None = None
    wanted_host_us: float | None = None

    @model_validator(mode="after")
    def _has_both_sides(self) -> Self:
        if not {"fused", "eager"} <= self.sides.keys():
            raise ValueError("a pass needs the sides fused and eager")
        return self

    @property
    def fused(self) -> Side:
        return self.sides["fused"]

    @property
    def eager(self) -> Side:
        return self.sides["eager"]

    def faster(self, side: str) -> float | None:
        """How many times less time ours takes than a side; than a `copy`: which part of its bandwidth ours has."""
        return self.sides[side].median_ms / self.fused.median_ms if side in self.sides else None

    @property
    def ratio(self) -> float:
        """How many times less time the fused op takes than eager."""
        return self.eager.median_ms / self.fused.median_ms

    @property
    def memory(self) -> float:
        """Peak of the fused op as a part of eager's."""
        return self.fused.peak_bytes / max(self.eager.peak_bytes, 1)

    @property
    def missed(self) -> list[str]:
        """What of the wanted was not reached: sides, `memory` and `host`."""
        slower = [side for side, wanted in self.wanted.items() if (self.faster(side) or wanted) < wanted]
        memory = self.wanted_memory is not None and self.memory > self.wanted_memory
        host = self.wanted_host_us is not None and (self.fused.host_us or 0) > self.wanted_host_us
        return [*slower, *(["memory"] if memory else []), *(["host"] if host else [])]


class CaseResult(_Record):
    op: str
    case: str
    named: bool
    size: dict[str, int]
    dtype: str = "float32"
    channels_last: bool = False
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
        clocks_mhz: by part, at the start.
        missing: implementations that were not measured, and why.
        limits: by op, what keeps it from being faster.
    """

    schema_version: Literal[3] = 3
    date: datetime
    commit: str
    dirty: bool
    device: str
    gpu: str | None
    driver: str | None
    processor: str
    cores: int
    threads: int
    clocks_mhz: dict[str, float]
    load: float
    versions: dict[str, str]
    command: str
    window_s: float
    limits: dict[str, str]
    missing: dict[str, str]
    cases: list[CaseResult]
    left_out: list[LeftOut]

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("schema_version") == 1:
            data = _from_version_1(data)
        return _from_version_2(data) if isinstance(data, dict) and data.get("schema_version") == 2 else data

    def save(self, folder: Path) -> Path:
        """Write `<date>-<commit>.json`, never over another run.

        Raises:
            FileExistsError: there is such a file.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.date:%Y%m%d-%H%M%S}-{self.commit[:8]}.json"
        with path.open("x") as file:
            file.write(self.model_dump_json(indent=1) + "\n")
        return path


def _from_version_1(data: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had three fixed sides, one dtype, and neither clocks nor the command; its numbers stay as they are."""
    sides = {"fused": "fused", "eager": "eager", "compiled": "torch.compile"}

    def upgraded(each: dict[str, Any]) -> dict[str, Any]:
        found = {sides[old]: each[old] for old in sides if each.get(old) is not None}
        found = {name: {k: v for k, v in side.items() if k != "bandwidth_percent"} for name, side in found.items()}
        return {key: value for key, value in each.items() if key not in sides} | {"sides": found}

    cases = [
        case | {"dtype": data["dtype"], "passes": [upgraded(each) for each in case["passes"]]} for case in data["cases"]
    ]
    kept = {key: value for key, value in data.items() if key not in ("dtype", "bandwidth_gb_s")}
    added = {"schema_version": 2, "command": "unknown", "driver": None, "clocks_mhz": {}, "missing": {}}
    return kept | added | {"cases": cases}


def _from_version_2(data: dict[str, Any]) -> dict[str, Any]:
    """Version 2 compared with eager alone."""

    def upgraded(each: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in each.items() if key not in ("target", "memory_target")}
        return kept | {"wanted": {"eager": each["target"]}, "wanted_memory": each["memory_target"]}

    cases = [case | {"passes": [upgraded(each) for each in case["passes"]]} for case in data["cases"]]
    return data | {"schema_version": 3, "cases": cases}
