"""The benchmarks measure what they say, agree with the other side, and leave files that the report can read."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from benchmarks.ops import eager, measure, report
from benchmarks.ops.__main__ import NAMES, Options, load, main
from benchmarks.ops.cases import Case, Inputs, Size
from benchmarks.ops.results import FOLDER, Run
from lami.bench.memory import peak_bytes

CPU = torch.device("cpu")
SMALL = Size(batch=2, side=16, flow=8, times=2, splines=3)


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_agree_with_gradients(name: str) -> None:
    case = load(name).setup(SMALL, Inputs(CPU, torch.float64))
    results = measure.forward(case.eager, case)()
    grads = [torch.randn_like(result) for result in results]
    fused, theirs = (measure.forward_backward(side, case, grads)() for side in (case.fused, case.eager))
    assert len(fused) > len(results)
    assert measure.disagreement(fused, theirs) < 1e-6


def test_eager_spline_reproduces_tpsmm() -> None:
    c = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [0.1, 0.05]])[None, None]
    v = c + torch.tensor([[0.1, 0], [0, 0.1], [-0.1, 0], [0, -0.1], [0.05, 0.05]])
    theta, weights = eager.fit_tps(c, v)
    torch.testing.assert_close(
        theta[0, 0], torch.tensor([[0.8831, -0.1010, 0.0437], [0.0954, 0.8861, 0.0303]]), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(weights[0, 0, 4], torch.tensor([0.0642, 0.0444]), atol=1e-4, rtol=0)


def test_disagreement_is_seen() -> None:
    a = torch.ones(4)
    assert measure.disagreement([a], [a]) == 0
    assert measure.disagreement([a, a * 1.1], [a, a]) == pytest.approx(0.1, rel=1e-5)


def test_peak_memory_counts_what_lives_at_the_same_time() -> None:
    x = torch.zeros(250_000)  # a megabyte

    def one_after_the_other() -> list[torch.Tensor]:
        y = x + 1
        y = y.sum()
        return [x + y]

    def together() -> list[torch.Tensor]:
        y, z = x + 1, x + 2
        return [y + z]

    assert 1e6 <= peak_bytes(one_after_the_other, CPU) < 1.1e6
    assert 3e6 <= peak_bytes(together, CPU) < 3.1e6


def test_bytes_moved() -> None:
    x, y = torch.zeros(10, requires_grad=True), torch.zeros(10)
    case = Case((x, [y]), torch.add, torch.add)
    assert measure.bytes_moved(case, [x], backward=False) == 3 * 40
    assert measure.bytes_moved(case, [x], backward=True) == 7 * 40


def test_windows_are_long_enough_and_in_turn() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) or [] for name in ("a", "b")}
    seconds = measure.interleaved(runs, CPU, window=0.001, windows=4)
    assert [len(taken) for taken in seconds.values()] == [4, 4]
    changes = sum(before != after for before, after in itertools.pairwise(order))
    assert changes == 1 + 8  # warming up, then four windows of each in turn
    low, median, high = measure.percentiles([1.0, 2.0, 3.0, 4.0, 100.0])
    assert low < median == 3.0 < high


def test_expected_memory_grows_with_the_size_and_costs_none() -> None:
    setup, meta = load("motion_features").setup, torch.device("meta")
    small, large = (measure.expected_bytes(setup(Size(side=side), Inputs(meta))) for side in (64, 128))
    assert small > 1e6
    assert large == pytest.approx(4 * small, rel=0.05)


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    options = Options(ops=("fit_tps",), threads=1, sizes=("16x1",), windows=3, output=tmp_path)
    assert main(options) == 0
    (path,) = tmp_path.glob("*.json")
    return path


@pytest.mark.slow
def test_run_leaves_a_file_for_the_report(run_file: Path) -> None:
    run = Run.model_validate_json(run_file.read_text())
    assert {case.case for case in run.cases} == {"120 systems", "batch 1"}
    named = next(case for case in run.cases if case.named)
    assert [each.target for each in named.passes] == [5, 5]
    assert run.versions["torch"] == torch.__version__
    text = report.tables(run, "results/x.json")
    assert f"{named.passes[0].ratio:.1f}x" in text
    assert run.commit[:8] in text
    with pytest.raises(FileExistsError):
        run.save(run_file.parent)


def test_memory_bound_leaves_cases_out(tmp_path: Path) -> None:
    assert main(Options(ops=("tps_grid",), threads=1, sizes=("64x4",), memory=1e-6, output=tmp_path)) == 0
    (path,) = tmp_path.glob("*.json")
    run = Run.model_validate_json(path.read_text())
    assert not run.cases
    assert [case.op for case in run.left_out] == ["tps_grid"]
    assert "tps_grid, 64x64, batch 4" in report.tables(run, "results/x.json")


def test_unknown_benchmark_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(Options(ops=("wrap",))) == 2
    assert "wrap" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/ops/*.json")), ids=lambda path: path.name)
def test_stored_results_fit_the_schema(path: Path) -> None:
    run = Run.model_validate_json(path.read_text())
    assert run.device == path.parents[1].name
    assert all(len(case.passes) == 2 for case in run.cases)
    broken = json.loads(path.read_text())
    del broken["commit"]
    with pytest.raises(ValidationError):
        Run.model_validate(broken)


def test_sweep_repeats_no_case() -> None:
    for name in NAMES:
        sizes = [size for size, _ in load(name).sizes([(16, 1), (64, 4), (128, 4), (64, 4)]).values()]
        assert len(sizes) == len(set(sizes))


def test_report_marks_misses() -> None:
    side = {"median_ms": 2.0, "p20_ms": 2.0, "p80_ms": 2.0, "windows": 3, "peak_bytes": 100}
    fast = side | {"median_ms": 1.0, "peak_bytes": 50}
    each = {"fused": fast, "eager": side, "bytes_moved": 1, "target": 3.0}
    passes = [{"name": name, **each} for name in ("forward", "forward + backward")]
    case = {"op": "warp", "case": "one", "named": True, "size": {"batch": 1, "side": 8}, "backend": "native"}
    facts = {"date": "2026-01-01T00:00:00Z", "commit": "0" * 40, "dirty": True, "device": "cpu-2core", "gpu": None}
    facts |= {"processor": "x", "cores": 2, "threads": 2, "load": 0.5, "versions": {}, "dtype": "float32"}
    run = Run.model_validate(
        facts
        | {"window_s": 0.1, "bandwidth_gb_s": None, "limits": {"warp": "Bandwidth."}, "left_out": []}
        | {"cases": [case | {"relative_error": 0.0, "passes": passes}]}
    )
    text = report.tables(run, "results/x.json")
    assert "**2.0x (wanted 3x)**" in text
    assert "- `warp`: Bandwidth." in text
    assert "50 %" in text
