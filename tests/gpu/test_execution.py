"""CUDA graphs, streams, several devices and repeated runs."""

from __future__ import annotations

import pytest
import torch
from small_calls import NAMES, agree, make, training

from benchmarks.ops.cases import Case

pytestmark = pytest.mark.gpu
AGREEMENT = 1e-5
"""Atomic additions of feature gradients come in any order."""


def fill(case: Case, values: Case) -> None:
    with torch.no_grad():
        for tensor, value in zip(case.tensors(), values.tensors(), strict=True):
            tensor.copy_(value)


@pytest.mark.parametrize("name", NAMES)
def test_captured_graph_replays_with_new_inputs(name: str, cuda: torch.device) -> None:
    case, wanted = make(name, cuda), make(name, cuda)
    with torch.no_grad():
        for tensor in wanted.tensors():
            tensor.mul_(0.9)
    run = training(case)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # compiles the kernels, which capture forbids
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()
    fill(case, wanted)
    for _ in range(2):
        graph.replay()
    agree(results, training(wanted)(), AGREEMENT)


@pytest.mark.parametrize("name", NAMES)
def test_runs_on_the_current_stream(name: str, cuda: torch.device) -> None:
    """Inputs come late on a side stream: kernels on any other stream would read NaN."""
    case, values = make(name, cuda), make(name, cuda)
    expected = training(values)()
    run = training(case)
    with torch.no_grad():
        for tensor in case.tensors():
            tensor.fill_(torch.nan)
    torch.cuda.synchronize()
    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):
        torch.cuda._sleep(100_000_000)
        fill(case, values)
        results = run()
    aside.synchronize()
    agree(results, expected, AGREEMENT)


@pytest.mark.parametrize("name", NAMES)
def test_second_device(name: str, cuda: torch.device) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    other = torch.device("cuda", (cuda.index + 1) % torch.cuda.device_count())
    case = make(name, other)
    fill(case, make(name, cuda))
    results = training(case)()
    assert {tensor.device for tensor in results} == {other}
    agree([tensor.to(cuda) for tensor in results], training(make(name, cuda))(), AGREEMENT)


@pytest.mark.parametrize("name", NAMES)
def test_deterministic_runs_are_bitwise_equal(name: str, cuda: torch.device) -> None:
    run = training(make(name, cuda))
    torch.use_deterministic_algorithms(True)
    try:
        first = run()
        for _ in range(9):
            agree(run(), first)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", NAMES)
def test_forward_is_bitwise_equal_without_asking(name: str, cuda: torch.device) -> None:
    case = make(name, cuda)
    outputs = len(training(case)()) - sum(tensor.requires_grad for tensor in case.tensors())
    first = training(case)()[:outputs]
    for _ in range(9):
        agree(training(case)()[:outputs], first)
