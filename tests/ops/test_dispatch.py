"""How calls reach kernels: registration, choice of a backend, autocast, what the backward passes are asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ops.cases import BUILDERS
from ops.samples import affine, keypoints, random_like
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from lami import ops
from lami.errors import BackendUnavailableError
from lami.ops import _backend

IMAGE, LOGITS = random_like((2, 3, 4, 5), 0).float(), random_like((2, 3, 4, 5), 1).float()
DRIVING, SOURCE = keypoints(2, 2, 5, 1), keypoints(2, 2, 5, 2)
FLOW, MASK, FLOWS = (random_like(shape, 3).float() for shape in ((2, 3, 4, 2), (2, 1, 2, 3), (2, 2, 3, 4, 2)))
TIMES, KEEP = torch.tensor([[0.25, 0.5], [0.3, 0.7]]), torch.tensor([[True, False, True], [True, True, False]])

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "fit_tps": (DRIVING, SOURCE, 0.01),
    "tps_grid": (SOURCE[..., :3, :].mT, SOURCE, DRIVING, 4, 5),
    "keypoint_heatmaps": (DRIVING[:, 0], SOURCE[:, 0], 4, 5, 0.1),
    "motion_features": (IMAGE, DRIVING, SOURCE, affine(2), 0.1),
    "blend_flow": (LOGITS, DRIVING, SOURCE, affine(2), KEEP, False),
    "warp": (IMAGE, FLOW, MASK, "zeros", True),
    "tps_warp": (IMAGE, LOGITS, DRIVING, SOURCE, None, None, False),
    "grid_sample": (IMAGE, FLOW, "border", False),
    "anytime_keypoints": (SOURCE, DRIVING, TIMES),
    "anytime_motion_features": (IMAGE, SOURCE, DRIVING, TIMES, None, 0.1),
    "anytime_warp": ([IMAGE, IMAGE[..., :2].contiguous()], FLOWS, [random_like((2, 2, 1, 4, 5), 3).float()] * 2),
}
"""Of the registered ops."""


def to(device: torch.device, value: Any, **kwargs: Any) -> Any:
    if isinstance(value, list):
        return [to(device, x, **kwargs) for x in value]
    if not isinstance(value, Tensor):
        return value
    moved = value.detach().to(device).clone()
    return moved.requires_grad_(kwargs.get("requires_grad", False) and moved.is_floating_point())


def registered(op: str, backend: str, suffix: str = "") -> Any:
    if backend == "reference" or not hasattr(torch.ops.lami, op + ("_triton" if backend == "triton" else "")):
        pytest.skip(f"{op} has no op of its own on the {backend} backend")
    return getattr(torch.ops.lami, op + ("_triton" if backend == "triton" else "") + suffix).default


class Calls(TorchDispatchMode):
    """Records the arguments of one op."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.arguments: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name() == self.name:
            self.arguments.append(args)
        return func(*args, **(kwargs or {}))


# --- registration


@pytest.mark.parametrize("op", ARGUMENTS)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_the_op_is_registered_correctly(device: torch.device, op: str, backend: str, requires_grad: bool) -> None:
    arguments = tuple(to(device, x, requires_grad=requires_grad) for x in ARGUMENTS[op])
    torch.library.opcheck(registered(op, backend), arguments)


@pytest.mark.parametrize("op", ARGUMENTS)
def test_the_backward_op_is_registered_correctly(device: torch.device, op: str, backend: str) -> None:
    """On the arguments that autograd calls it with, and where no gradient is needed."""
    backward = registered(op, backend, "_backward")
    arguments = tuple(to(device, x, requires_grad=True) for x in ARGUMENTS[op])
    outputs = registered(op, backend)(*arguments)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    with Calls(backward.name()) as calls:
        torch.autograd.backward([y.sum() for y in outputs])
    (called,) = calls.arguments
    detached = tuple(to(device, x) for x in called)
    torch.library.opcheck(backward, detached)
    # opcheck takes two tensors without elements, gradients that are not needed, for aliases of each other.
    unneeded = tuple(False if isinstance(x, bool) else x for x in detached)
    real, fake = (backward(*(to(d, x) for x in unneeded)) for d in (device, torch.device("meta")))
    assert tree_map(lambda x: (x.shape, x.dtype), real) == tree_map(lambda x: (x.shape, x.dtype), fake)


@pytest.mark.parametrize("op", ARGUMENTS)
def test_second_derivatives_are_refused(device: torch.device, op: str, backend: str) -> None:
    forward = registered(op, backend)
    arguments = tuple(to(device, x, requires_grad=True) for x in ARGUMENTS[op])
    outputs = forward(*arguments)
    first = outputs if isinstance(outputs, Tensor) else outputs[0]
    leaf = arguments[0][0] if isinstance(arguments[0], list) else arguments[0]
    (gradient,) = torch.autograd.grad(first.square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match=rf"{op} can be differentiated once; use lami.ops.use_backend\('reference'"):
        gradient.sum().backward()


def test_every_op_is_covered() -> None:
    assert set(ARGUMENTS) == set(BUILDERS)
    assert {name.removesuffix("s") for name in ops.__all__} - {"tps_point", "use_backend"} == {
        name.removesuffix("s") for name in ARGUMENTS
    }


# --- what is computed


NEEDS = {
    "motion_features": (slice(-4, -1), {0: "source", 1: "keypoints", 3: "background"}),
    "blend_flow": (slice(-3, None), {0: "logits", 1: "keypoints", 3: "background"}),
    "warp": (slice(-4, -1), {0: "features", 1: "flow", 2: "mask"}),
    "grid_sample": (slice(-3, -1), {0: "input", 1: "grid"}),
    "tps_warp": (slice(-5, -1), {0: "image", 1: "logits", 2: "keypoints", 4: "background"}),
    "anytime_motion_features": (slice(-5, -1), {0: "source", 1: "keypoints", 3: "times", 4: "background"}),
    "anytime_warp": (slice(-4, -1), {0: "features", 1: "flow", 2: "masks"}),
}
"""Where the flags are among the arguments of a backward op, and the input that each is about."""


@pytest.mark.parametrize(("op", "index"), [(op, i) for op, (_, inputs) in NEEDS.items() for i in inputs])
def test_only_needed_gradients_are_asked_for(device: torch.device, op: str, index: int, backend: str) -> None:
    flags, inputs = NEEDS[op]
    arguments = list(ARGUMENTS[op])
    if arguments[index] is None:
        arguments[index] = affine(2) if op == "tps_warp" else affine(2)[:, None].expand(2, 2, 3, 3)
    arguments = [to(device, x, requires_grad=i == index) for i, x in enumerate(arguments)]
    outputs = registered(op, backend)(*arguments)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    with Calls(registered(op, backend, "_backward").name()) as calls:
        torch.autograd.backward([y.sum() for y in outputs if y.requires_grad])
    (called,) = calls.arguments
    assert list(called[flags]) == [i == index for i in inputs]


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("op", [op for op in NEEDS if op != "blend_flow"])
@pytest.mark.parametrize("wanted", [False, True])
def test_determinism_is_chosen_with_the_forward_pass(device: torch.device, op: str, backend: str, wanted: bool) -> None:
    arguments = tuple(to(device, x, requires_grad=True) for x in ARGUMENTS[op])
    forward = registered(op, backend)
    torch.use_deterministic_algorithms(wanted)
    try:
        outputs = forward(*arguments)
    finally:
        torch.use_deterministic_algorithms(False)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    with Calls(registered(op, backend, "_backward").name()) as calls:
        torch.autograd.backward([y.sum() for y in outputs])
    assert calls.arguments[0][-1] is wanted


@pytest.mark.parametrize("op", ARGUMENTS)
@pytest.mark.usefixtures("deterministic")
def test_backward_passes_repeat_bitwise(device: torch.device, op: str, backend: str) -> None:
    arguments = tuple(to(device, x, requires_grad=True) for x in ARGUMENTS[op])
    leaves = [x for group in arguments for x in (group if isinstance(group, list) else [group])]
    leaves = [x for x in leaves if isinstance(x, Tensor) and x.requires_grad]
    runs = []
    for _ in range(3):
        outputs = registered(op, backend)(*arguments)
        outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        runs.append(torch.autograd.grad([y.square().sum() for y in outputs], leaves))
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


# --- autocast


def _public_calls(device: torch.device) -> dict[str, Callable[[], Any]]:
    image, logits, driving, source, flow = (x.to(device) for x in (IMAGE, LOGITS, DRIVING, SOURCE, FLOW))
    times, flows = TIMES.to(device), FLOWS.to(device)
    return {
        "fit_tps": lambda: ops.fit_tps(driving, source),
        "tps_grid": lambda: ops.tps_grid(source[..., :3, :].mT, source, driving, (4, 5)),
        "keypoint_heatmaps": lambda: ops.keypoint_heatmaps(driving[:, 0], source[:, 0], (4, 5)),
        "motion_features": lambda: ops.motion_features(image.half(), driving, source),
        "blend_flow": lambda: ops.blend_flow(logits.bfloat16(), driving, source),
        "warp": lambda: ops.warp(image, flow),
        "tps_warp": lambda: ops.tps_warp(image, logits, driving, source),
        "anytime_keypoints": lambda: ops.anytime_keypoints(source, driving, times),
        "anytime_motion_features": lambda: ops.anytime_motion_features(image, source, driving, times),
        "anytime_warp": lambda: ops.anytime_warp([image], flows),
    }


@pytest.mark.parametrize("op", [op for op in ARGUMENTS if op != "grid_sample"])
@pytest.mark.usefixtures("backend")
def test_autocast_changes_nothing(device: torch.device, op: str) -> None:
    call = _public_calls(device)[op]
    plain = call()
    with torch.autocast(device.type, torch.bfloat16):
        cast = call()
    assert_close(cast, plain, atol=0, rtol=0)


# --- choice of a backend


def test_the_choice_ends_with_its_context(device: torch.device) -> None:
    """Also after an error, and inside another choice."""
    before = _backend.choose("warp", device)
    with pytest.raises(KeyError), ops.use_backend("reference"):
        assert _backend.choose("warp", device) == "reference"
        with ops.use_backend(None):
            assert _backend.choose("warp", device) == before
        assert _backend.choose("warp", device) == "reference"
        raise KeyError
    assert _backend.choose("warp", device) == before


def test_a_cpu_never_gets_the_interpreter_by_itself() -> None:
    assert all(_backend.automatic(op, "cpu") in ("native", "reference") for op in ARGUMENTS)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("native", "there are no native ops for meta devices; use the reference backend"),
        ("triton", "Triton kernels need a CUDA device, not meta; set TRITON_INTERPRET=1 to debug them on a CPU"),
    ],
)
def test_a_backend_that_cannot_run_says_why(name: str, reason: str) -> None:
    features, flow = torch.zeros(1, 1, 2, 2, device="meta"), torch.zeros(1, 2, 2, 2, device="meta")
    with pytest.raises(BackendUnavailableError) as caught, ops.use_backend(name):
        ops.warp(features, flow)
    assert str(caught.value) == f"warp cannot run on the {name} backend: {reason}"
    assert ops.warp(features, flow).shape == (1, 1, 2, 2)


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("LAMI_", "TRITON_"))}
    return subprocess.run(
        [sys.executable, "-c", code], env=variables | environment, capture_output=True, text=True, check=False
    )


WARP = "ops.warp(torch.ones(1, 1, 2, 2), torch.zeros(1, 2, 2, 2)).sum()"


def test_the_environment_has_to_name_a_backend() -> None:
    result = _python("from lami import ops", LAMI_BACKEND="cuda")
    assert result.stderr.strip().endswith(
        "ValueError: the backend must be one of reference, native, triton, got 'cuda'; choose one of these"
    )


def test_a_library_that_is_missing_is_replaced_only_by_the_automatic_choice(tmp_path: Path) -> None:
    code = f"import torch; from lami import ops\nwith ops.use_backend(None): print({WARP})\n{WARP}"
    result = _python(code, LAMI_NATIVE_DIR=str(tmp_path), LAMI_BACKEND="native")
    assert result.stdout.strip() == "tensor(4.)"
    assert (
        "BackendUnavailableError: warp cannot run on the native backend: lami's CPU kernels are not built"
        in (result.stderr.strip().splitlines()[-1])
    )


def test_a_gpu_without_triton_leaves_what_needs_it_to_the_reference() -> None:
    code = (
        "import sys, torch; sys.modules['triton'] = None; torch.cuda.is_available = lambda: True\n"
        "from lami import ops; from lami.ops import _backend\n"
        f"print({WARP}.item(), _backend.automatic('warp', 'cuda'), _backend.missing('triton', 'warp', 'cuda'))"
    )
    result = _python(code)
    assert result.stdout.strip() == "4.0 reference triton is not installed; pip install triton", result.stderr
