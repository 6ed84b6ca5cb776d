"""Each test of an op runs on every device and backend that is there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from lami import ops
from lami.ops import _backend

SLOW_IN_THE_INTERPRETER = {
    "test_gradients_are_derivatives",
    "test_the_op_is_registered_correctly",
    "test_a_module_is_exported",
    "test_it_is_a_loop_over_times",
}
"""Tests that call a kernel dozens of times; those of the kernels themselves repeat them on smaller input."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if (
            parameters.get("backend") == "triton"
            and _backend.triton_interpreted()
            and item.originalname in SLOW_IN_THE_INTERPRETER
        ):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return torch.device(request.param)


@pytest.fixture
def op(request: pytest.FixtureRequest) -> str:
    """The op of a test file that is named after it."""
    return request.path.stem.removeprefix("test_")


@pytest.fixture(params=_backend.NAMES)
def backend(request: pytest.FixtureRequest, op: str, device: torch.device) -> Iterator[str]:
    """The test runs once on each backend; where one cannot run the op, it is skipped and says why."""
    reason = _backend.missing(request.param, op, device.type)
    if reason is not None:
        pytest.skip(reason)
    with ops.use_backend(request.param):
        yield request.param
