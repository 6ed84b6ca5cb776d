"""The benchmarks measure what they say, and all sides agree."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch

from benchmarks.ops import eager, measure, others
from benchmarks.ops.__main__ import Options, main
from benchmarks.ops.cases import BACKWARD, BOTH, FORWARD, Aim, Case, Other, Size, flat
from benchmarks.ops.catalogue import NAMES, load
from benchmarks.ops.inputs import Inputs
from benchmarks.ops.plan import PARAMETERS, Point, points
from benchmarks.ops.results import Run
from benchmarks.ops.runner import AGREEMENT, Runner, disagreement
from lami.bench.memory import peak_bytes

CPU = torch.device("cpu")
SMALL = Size(batch=2, side=16, flow=8, times=2, splines=3)


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_agree_with_gradients(name: str) -> None:
    case = load(name).setup(SMALL, Inputs(CPU, torch.float64))
    results = flat(case.eager(*case.arguments))
    grads = [torch.randn_like(result) for result in results]
    fused, theirs = (measure.passes(side, case.arguments, grads)[BOTH]()() for side in (case.fused, case.eager))
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
    moved = {name: case.bytes_moved([x], name) for name in (FORWARD, BACKWARD, BOTH)}
    assert moved == {FORWARD: 3 * 40, BACKWARD: 4 * 40, BOTH: 7 * 40}


def test_passes_compute_what_they_are_called_after() -> None:
    x, calls = torch.ones(3, requires_grad=True), []

    def double(x: torch.Tensor) -> torch.Tensor:
        calls.append(torch.is_grad_enabled())
        return 2 * x

    made = measure.passes(double, (x,), [torch.ones(3)])
    assert made[FORWARD]()()[0].grad_fn is None
    assert calls == [False]
    backward = made[BACKWARD]()
    for _ in range(2):
        torch.testing.assert_close(backward(), [torch.full((3,), 2.0)])
    assert calls == [False, True]  # one graph for all backward passes
    torch.testing.assert_close(made[BOTH]()(), [2 * x, torch.full((3,), 2.0)])


def test_copies_of_the_inputs_take_turns() -> None:
    run = measure.in_turn([lambda i=i: [torch.tensor(i)] for i in range(3)])
    assert [int(run()[0]) for _ in range(5)] == [0, 1, 2, 0, 1]


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


def test_sweep_changes_one_parameter_at_a_time() -> None:
    warp = load("warp")
    found = points([warp], PARAMETERS, "cpu")
    keys = [(point.aim.size, point.aim.dtype, point.aim.channels_last) for point in found]
    assert len(keys) == len(set(keys))
    assert [point.named for point in found[:5]] == [True] * 4 + [False]
    for point in found[5:]:
        aim = point.aim
        assert (aim.dtype != "float32") + aim.channels_last + (aim.size != warp.base) == 1
    sides = [point.aim.size for point in found if point.name.startswith("side")]
    assert {size.side for size in sides} == {128, 512, 1024}  # 256 has targets of its own
    assert all(size.flow == size.side // 4 for size in sides)
    assert not any(point.name.startswith("times") for point in found)
    assert [point.aim.size for point in points([warp], PARAMETERS, "cpu", base_only=True)] == [warp.base]


def test_gpus_have_targets_of_their_own() -> None:
    named = {
        (point.benchmark.name, point.name): point.aim
        for point in points(map(load, NAMES), PARAMETERS, "cuda")
        if point.named
    }
    assert named["blend_flow", "B=28, K=10, N=5, 64x64"].both == {"eager": 10, "torch.compile": 3}
    nhwc = named["warp", "64@256x256, B=16, NHWC bf16"]
    assert (nhwc.dtype, nhwc.channels_last, nhwc.forward) == ("bfloat16", True, {"copy": 0.85})
    assert named["motion_path", "image 256x256"].host_us == 60


@pytest.mark.parametrize("name", [name for name in NAMES if "dtype" in load(name).uses])
def test_features_in_bfloat16_and_channels_last(name: str) -> None:
    """Coordinates stay float32, and the other side computes in float32."""
    size, benchmark = Size(batch=2, side=32, flow=8, times=2, splines=3), load(name)
    rounded, exact = (
        disagreement(Point(benchmark, "", Aim(size, **form)).case_to_check(CPU))
        for form in ({"dtype": "bfloat16"}, {"channels_last": True})
    )
    assert exact < AGREEMENT["float32"] < rounded < AGREEMENT["bfloat16"]


def _runner(passes: tuple[str, ...], deadline: float = math.inf) -> Runner:
    return Runner(CPU, passes, windows=3, memory=1.0, compile=False, deadline=deadline, window=1e-4)


def test_all_sides_are_measured_or_missing_with_a_reason() -> None:
    runner = _runner((FORWARD,))
    size = Size(batch=1, times=1, splines=2, side=8, flow=4)
    for name in ("fit_tps", "grid_sample", "tps_grid", "warp"):
        runner.run(Point(load(name), "small", Aim(size)))
    sides = {case.op: set(case.passes[0].sides) for case in runner.cases}
    assert all({"fused", "eager", "copy"} <= found for found in sides.values())
    assert "torch.linalg.solve" in sides["fit_tps"]
    assert "F.grid_sample" in sides["warp"]
    assert runner.missing["flag_gems"] == "flag_gems runs on GPUs only"
    for name in ("fit_tps", "tps_grid"):
        assert "kornia" in sides[name] or runner.missing["kornia"] == "kornia is not installed"
    assert all("copy" in each.sides for case in runner.cases for each in case.passes)
    assert not runner.disagreeing()


def test_targets_are_of_the_pass_that_they_name() -> None:
    runner = _runner((FORWARD, BACKWARD, BOTH))
    aim = Aim(SMALL, forward={"eager": 5}, both={"eager": 6}, memory=0.4, host_us=60)
    runner.run(Point(load("fit_tps"), "small", aim, named=True))
    [case] = runner.cases
    assert [(each.wanted, each.wanted_memory, each.wanted_host_us) for each in case.passes] == [
        ({"eager": 5}, None, 60),
        ({"eager": 1}, None, None),
        ({"eager": 6}, 0.4, None),
    ]


def test_another_implementation_that_computes_something_else_is_found() -> None:
    def setup(size: Size, inputs: Inputs) -> Case:
        x = (inputs.normal(size.side),)
        return Case(x, torch.sin, torch.sin, lambda: {"wrong": Other(torch.cos, x)})

    assert disagreement(setup(Size(), Inputs(CPU))) > AGREEMENT["float32"]


def test_a_copy_moves_half_of_the_bytes_twice() -> None:
    copy = others.copy(1000, CPU)
    target, source = copy.arguments
    assert source.nbytes == target.nbytes == 500
    source.fill_(7)
    copy.function(target, source)
    assert bool((target == 7).all())


def test_nothing_is_begun_after_the_time_budget() -> None:
    runner = _runner((FORWARD,), deadline=0.0)
    runner.run(Point(load("fit_tps"), "base", Aim(SMALL)))
    assert not runner.cases
    assert [each.reason for each in runner.left_out] == ["the time budget was spent"]


def test_memory_bound_leaves_cases_out(tmp_path: Path) -> None:
    options = Options(ops=("tps_grid",), threads=1, parameters=("batch",), memory=1e-6, output=tmp_path)
    assert main(options) == 0
    (path,) = tmp_path.glob("*.json")
    run = Run.model_validate_json(path.read_text())
    assert not run.cases
    assert {case.op for case in run.left_out} == {"tps_grid"}
    assert all("eager PyTorch would need" in case.reason for case in run.left_out)


@pytest.mark.parametrize(
    ("wrong", "said"), [({"ops": ("wrap",)}, "wrap"), ({"parameters": ("time",)}, "times"), ({"passes": ("up",)}, "up")]
)
def test_unknown_choices_are_named(
    wrong: dict[str, tuple[str, ...]], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(Options(**wrong)) == 2
    assert said in capsys.readouterr().err
