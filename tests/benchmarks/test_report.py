"""Files of results: their schema, the tables and plots made from them, and whether the README has the latest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from benchmarks import report, system
from benchmarks.ops import growth, tables
from benchmarks.ops.__main__ import Options, main
from benchmarks.ops.results import FOLDER, Run

STORED = sorted(FOLDER.glob("*/*/ops/*.json"))


def side(ms: float, peak: int = 100, **more: float) -> dict[str, Any]:
    return {"median_ms": ms, "p20_ms": ms, "p80_ms": ms, "windows": 3, "peak_bytes": peak} | more


def case(batch: int, sides: dict[str, Any], named: bool = False, **wanted: Any) -> dict[str, Any]:
    both = {"name": "forward + backward", "sides": sides, "bytes_moved": 4_000_000, "wanted": {"eager": 1.0}} | wanted
    size = {"batch": batch, "side": 8, "flow": 8, "channels": 3, "times": 1, "splines": 1}
    facts = {"op": "warp", "case": f"batch {batch}", "named": named, "size": size, "backend": "native"}
    return facts | {"relative_error": 0.0, "passes": [both]}


def run(*cases: dict[str, Any], **changes: Any) -> Run:
    facts = {"date": "2026-01-01T00:00:00Z", "commit": "0" * 40, "dirty": True, "device": "cpu-2core", "gpu": None}
    facts |= {"driver": None, "processor": "x", "cores": 2, "threads": 2, "clocks_mhz": {"cpu": 2700.0}, "load": 0.5}
    facts |= {"versions": {}, "command": "python -m benchmarks.ops", "window_s": 0.1, "limits": {"warp": "Bandwidth."}}
    return Run.model_validate(facts | {"missing": {}, "left_out": [], "cases": list(cases)} | changes)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.name)
def test_stored_results_fit_the_schema(path: Path) -> None:
    stored = Run.model_validate_json(path.read_text())
    assert stored.device == path.parents[2].name
    assert stored.versions["lami"] == path.parents[1].name
    broken = json.loads(path.read_text())
    del broken["commit"]
    with pytest.raises(ValidationError):
        Run.model_validate(broken)


def test_readme_and_tables_are_made_from_the_latest_results() -> None:
    assert report.check(report.README, FOLDER) == []


def test_numbers_of_version_1_stay_as_they_are() -> None:
    old = json.loads(next(path for path in STORED if json.loads(path.read_text())["schema_version"] == 1).read_text())
    new = Run.model_validate(old)
    assert new.schema_version == 3
    for before, after in zip(old["cases"], new.cases, strict=True):
        for one, other in zip(before["passes"], after.passes, strict=True):
            assert (other.wanted, other.wanted_memory) == ({"eager": one["target"]}, one["memory_target"])
            for name, found in (("fused", other.fused), ("eager", other.eager)):
                assert found.model_dump(exclude_unset=True) == {
                    k: v for k, v in one[name].items() if k != "bandwidth_percent"
                }


def test_a_pass_without_both_sides_is_refused() -> None:
    with pytest.raises(ValidationError, match="fused and eager"):
        run(case(1, {"fused": side(1)}))


def test_sides_ratios_and_misses_are_told() -> None:
    sides = {"fused": side(2, 50), "eager": side(4), "kornia": side(1), "copy": side(0.5)}
    found = run(case(1, sides, named=True, wanted={"eager": 3.0}), missing={"flag_gems": "flag_gems is not installed"})
    text = tables.section(found, "results/x.json")
    (row,) = [line for line in text.splitlines() if line.startswith("| `warp`")]
    assert "2.00 (2.00 to 2.00)" in row
    assert "**2.0x (wanted 3x)**" in row
    assert "| **0.5x** | 25 % | 4.0 | 50 % |" in row  # than kornia, of a copy's bandwidth, MB moved, peak memory
    assert "- `warp`: Bandwidth." in text
    assert "flag_gems (flag_gems is not installed)" in text
    assert "cpu 2700 MHz" in text
    rows = [line for line in tables.everything(found, "x.json").splitlines() if line.startswith("| `warp`")]
    assert len(rows) == 4
    assert "| kornia | 1.00 (1.00 to 1.00) | 0.50x | 4.00 | 50 % | 0.00 |" in rows[2]


def test_what_is_slower_or_left_out_at_many_sizes_is_told_in_a_line() -> None:
    cases = [case(b, {"fused": side(2), "eager": side(slower)}) for b, slower in ((1, 1), (2, 4), (8, 0.5))]
    left_out = [
        {"op": op, "case": each, "reason": "the time budget was spent"}
        for op in ("warp", "fit_tps")
        for each in ("batch 32", "times 2", "batch 64")
    ]
    left_out.append({"op": "warp", "case": "16x16, batch 1", "reason": "it needs too much memory"})
    text = tables.section(run(*cases, left_out=left_out), "results/x.json")
    assert "  - forward + backward: **0.2x to 0.5x** at batch 1, 8" in text
    assert "- The time budget was spent: `fit_tps`, `warp`: batch 32, 64; times 2." in text
    assert "- It needs too much memory: `warp`: 16x16, batch 1." in text


def test_targets_of_a_gpu() -> None:
    sides = {"fused": side(2, host_us=80), "eager": side(8), "torch.compile": side(3), "copy": side(1)}
    wanted = {"eager": 3.0, "torch.compile": 2.0, "copy": 0.85, "kornia": 5.0}  # kornia was not measured
    found = run(case(1, sides, named=True, wanted=wanted, wanted_host_us=60))
    assert found.cases[0].passes[0].missed == ["torch.compile", "copy", "host"]
    text = tables.section(found, "results/x.json")
    (row,) = [line for line in text.splitlines() if line.startswith("| `warp`")]
    assert "| 4.0x (wanted 3x) | **1.5x (wanted 2x)** | **50 % (wanted 85 %)** | **80 (wanted 60)** |" in row
    assert (
        "  - batch 1, forward + backward: **1.5x (wanted 2x)** of torch.compile, **50 % (wanted 85 %)** of a copy's "
        "bandwidth, **80 (wanted 60)** us of the CPU"
    ) in text


def test_growth_is_fitted_to_the_upper_half_and_marked() -> None:
    batches = (1, 2, 4, 8)
    times = (9.0, 9.0, 16.0, 64.0)  # flat at first, then the square
    cases = [
        case(b, {"fused": side(t, 8 * b), "eager": side(b, b), "copy": side(b**1.5)})
        for b, t in zip(batches, times, strict=True)
    ]
    found = run(*cases)
    (only,) = growth.growths(found)
    assert (only.parameter, only.values) == ("batch", [1, 2, 4, 8])
    assert only.exponent(only.time["fused"]) == pytest.approx(2)
    assert only.exponent(only.memory["fused"]) == pytest.approx(1)
    assert only.exponent([1.0, 1.0, 0.0, 1.0]) is None
    assert "| `warp` | **2.00** (1.00, 1.50) | 1.00 (1.00) |" in tables.section(found, "results/x.json")
    partly = run(*cases[:3], case(8, {"fused": side(8), "eager": side(8)}))  # without a copy of the last
    assert list(growth.growths(partly)[0].time) == ["fused", "eager"]


def test_report_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the extra lami[bench] is not installed")
    readme, folder = tmp_path / "README.md", tmp_path / "results"
    marks = [mark.format(name) for name in report.SECTIONS for mark in (report.BEGIN, report.END)]
    readme.write_text("before\n" + "\nold\n".join(marks) + "\nafter\n")
    cases = [case(b, {"fused": side(b), "eager": side(2 * b)}) for b in (1, 2, 4)]
    path = run(*cases).save(folder / "cpu-2core" / "0.1.0" / "ops")
    assert report.main(["--check"], readme, folder) == 1
    assert "README.md" in capsys.readouterr().err
    assert report.main([], readme, folder) == 0
    assert report.main(["--check"], readme, folder) == 0
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert f"{marks[2]}\n\nNot measured yet.\n\n{marks[3]}" in text
    assert "2.0x" in text
    assert all(picture.stat().st_size > 1000 for picture in report.plots(path))
    newer = run(*cases[:2], date="2026-02-01T00:00:00Z").save(folder / "cpu-2core" / "0.2.0" / "ops")
    assert report.latest(folder) == [newer]
    assert report.main(["--check"], readme, folder) == 1


@pytest.mark.slow
def test_a_run_leaves_a_file_that_nothing_overwrites(tmp_path: Path) -> None:
    options = Options(ops=("fit_tps",), threads=1, parameters=(), passes=("forward",), windows=3, output=tmp_path)
    assert main(options) == 0
    (path,) = tmp_path.glob("*.json")
    stored = Run.model_validate_json(path.read_text())
    assert [found.case for found in stored.cases] == ["120 systems"]
    assert [each.wanted for each in stored.cases[0].passes] == [{"eager": 5}]
    assert stored.versions["torch"] == torch.__version__
    assert stored.command
    with pytest.raises(FileExistsError):
        stored.save(tmp_path)


def test_tables_of_training_animation_and_data(tmp_path: Path) -> None:
    """Ratios are of rounds of the same turn, and older results of a device are not told."""
    machine = {
        "device": "cpu-2core",
        "gpu": None,
        "processor": "x",
        "threads": 2,
        "cores": 2,
        "load": 0.5,
        "versions": {"torch": "2.15.0"},
    }
    machine |= {"commit": "0" * 40, "dirty": False, "date": "2026-01-02 03:04:05"}
    naive = {"name": "naive", "seconds": [4.0, 8.0, 4.0], "peak_bytes": 4_000_000}
    ours = {"name": "ours", "seconds": [2.0, 2.0, 2.0], "peak_bytes": 1_000_000}
    train = {
        "machine": machine,
        "settings": {"model": {"image_size": [64, 64]}},
        "batch_size": 8,
        "sides": [naive, ours],
    }
    frame = {"latency": [0.5, 0.5, 0.5], "difference": 0.01, "other_times": 0.25}
    case = {"size": 256, "times": [0.3, 0.7], "sides": [naive | frame, ours | frame]}
    rounds = [
        {"root": root, "workers": 0, "pairs_per_second": rate, "rounds": [rate]}
        for root, rate in (("a", 2.0), ("b", 5.0))
    ]
    cost = {"milliseconds": 3.0, "milliseconds_without_augmentation": 1.0, "bytes_read": 2000}
    costs = [{"root": root} | cost for root in "ab"]
    for kind, found in (
        ("train", train),
        ("animate", {"machine": machine, "command": "lami bench animate", "cases": [case]}),
        ("data", {"machine": machine, "throughputs": rounds, "costs": costs}),
    ):
        folder = tmp_path / "cpu-2core" / kind
        folder.mkdir(parents=True)
        older = machine | {"commit": "f" * 40, "date": "2026-01-01 23:00:00"}
        (folder / "20260102-fffffff.json").write_text(json.dumps({"machine": older}))
        (folder / "20260102-0000000.json").write_text(json.dumps(found))
    told = {name: report.SECTIONS[name](tmp_path, tmp_path / "README.md") for name in ("training", "animation", "data")}
    assert "| ours | 2.00 (2.00 to 2.00) | 4.00 | 2.00x (2.00 to 3.20) | 1 | 25 % |" in told["training"]
    assert "| 256 | 2 | ours | 0.50 | 2.00x (2.00 to 3.20) | 500 (500 to 500) | 1 | 2.55 | 25% |" in told["animation"]
    assert "by `lami bench animate`" in told["animation"]
    assert "| 0 (in the training process) | 2 | 5 (2.5x) |" in told["data"]
    assert "| KB read a pair | 2 | 2 |" in told["data"]
    assert system.ablation(tmp_path, tmp_path / "README.md") == "Not measured yet."
    study = tmp_path / "cpu-2core" / "ablation" / "actions"
    study.mkdir(parents=True)
    (study / "summary.md").write_text("| TPSMM | 2.0 |\n")
    (study / "displacement.png").touch()
    text = system.ablation(tmp_path, tmp_path / "README.md")
    assert text.startswith(
        "### actions, cpu-2core\n\n| TPSMM | 2.0 |\n\n![AKD by displacement](cpu-2core/ablation/actions/"
    )
    assert "Losses" not in text
