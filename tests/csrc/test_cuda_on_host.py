"""The sources of the CUDA library, compiled for the CPU: their index arithmetic, sums and host code, thread by thread.

What only a GPU shows (the compiler, real warps, streams) is in test_cuda_ops.py.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from multi_time import MultiTime
from torch import Tensor
from torch.library import Library

import lami.ops  # noqa: F401  # defines the schemas

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "lami_cuda_on_host"
OPS = ("fit_tps", "anytime_keypoints", "anytime_motion_features", "anytime_warp")
COMPILER = shutil.which(os.environ.get("CXX", "g++"))
SIZES = [(3, 7, 11), (8, 6, 6), (70, 3, 4)]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler; install g++ or set CXX"),
]


@pytest.fixture(scope="session")
def ops(tmp_path_factory: pytest.TempPathFactory) -> MultiTime:
    folder = tmp_path_factory.mktemp("cuda_on_host")
    torch_root = Path(torch.__file__).parent

    def build(source: Path) -> str:
        target = str(folder / f"{source.stem}.o")
        flags = ["-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
        folders = ["-isystem", str(torch_root / "include"), f"-I{ROOT / 'tests' / 'csrc'}"]
        target_version = "-DTORCH_TARGET_VERSION=0x020b000000000000"
        command = [str(COMPILER), "-x", "c++", *flags, target_version, *folders, "-c", str(source), "-o", target]
        subprocess.run(command, check=True)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(build, sorted((ROOT / "csrc" / "cuda").glob("*.cu"))))
    library = folder / "cuda_on_host.so"
    links = [f"-L{torch_root / 'lib'}", "-ltorch_cpu", "-lc10", "-lpthread"]
    subprocess.run([str(COMPILER), "-shared", *objects, "-o", str(library), *links], check=True)

    definitions = Library(NAMESPACE, "FRAGMENT")
    for name in (f"{op}{suffix}" for op in OPS for suffix in ("", "_backward")):
        schema = str(getattr(torch.ops.lami, name).default._schema)
        definitions.define(schema.removeprefix("lami::"))
    torch.ops.load_library(str(library))
    host = MultiTime(NAMESPACE, "cpu")
    host.definitions = definitions  # type: ignore[attr-defined]  # lives as long as the ops are called
    return host


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n", [3, 5, 6, 13, 14, 16])
def test_fits(ops: MultiTime, n: int, dtype: torch.dtype) -> None:
    ops.check_fit((2, 3), n, dtype)


def test_no_fits(ops: MultiTime) -> None:
    ops.check_fit((0, 3), 5, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 3, 2, 5), (0, 3, 2, 5), (1, 1, 1, 3), (3, 2, 5, 16)])
def test_keypoints(ops: MultiTime, shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    ops.check_keypoints(*shape, dtype)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_features(ops: MultiTime, dtype: torch.dtype, deterministic: bool) -> None:
    ops.check_features(ops.features_inputs((2, 3, 9, 35), 2, 2, 5, dtype, True), deterministic)


@pytest.mark.parametrize(
    "shape", [(0, 3, 4, 4), (1, 0, 4, 4), (1, 2, 1, 1), (1, 2, 1, 5), (1, 2, 0, 5), (1, 1, 17, 33)]
)
def test_features_of_odd_sizes(ops: MultiTime, shape: tuple[int, int, int, int]) -> None:
    ops.check_features(ops.features_inputs(shape, 2, 1, 4, torch.float64, False))


def test_features_of_a_strided_source(ops: MultiTime) -> None:
    inputs = ops.features_inputs((1, 3, 8, 12), 2, 1, 16, torch.float64, True)
    assert inputs[0] is not None
    inputs[0] = inputs[0].to(memory_format=torch.channels_last)
    ops.check_features(inputs)
    inputs[0] = inputs[0][:, :, ::2, 1::3]
    ops.check_features(inputs)
    inputs[0] = inputs[0][:, :1].expand(-1, 3, -1, -1)
    ops.check_features(inputs)


@pytest.mark.parametrize("needs", list(itertools.product([False, True], repeat=4)))
def test_wanted_gradients_of_features(ops: MultiTime, needs: Sequence[bool]) -> None:
    ops.check_features(ops.features_inputs((1, 2, 5, 6), 2, 1, 4, torch.float64, True), needs=needs)


def pyramid(
    b: int, t: int, sizes: Sequence[tuple[int, int, int]], flow: tuple[int, int], dtypes: Sequence[torch.dtype]
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    coordinates = torch.float64 if torch.float64 in dtypes else torch.float32
    features = [torch.randn(b, *size).to(dtype) for size, dtype in zip(sizes, dtypes, strict=True)]
    grid = (torch.rand(b, t, *flow, 2) * 2.4 - 1.2).to(coordinates)
    return features, grid, [torch.rand(b, t, 1, h, w).to(coordinates) for _, h, w in sizes]


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_warps(ops: MultiTime, dtype: torch.dtype, layout: torch.memory_format, deterministic: bool) -> None:
    features, flow, masks = pyramid(2, 2, SIZES, (6, 6), [dtype] * 3)
    ops.check_warp([level.to(memory_format=layout) for level in features], flow, masks, deterministic)


def test_warps_of_many_levels_and_dtypes(ops: MultiTime) -> None:
    sizes = [(2, i, i + 1) for i in range(1, 11)]
    ops.check_warp(*pyramid(1, 2, sizes, (4, 3), [torch.float64] * 10))
    ops.check_warp(*pyramid(1, 2, SIZES, (4, 3), [torch.bfloat16, torch.float32, torch.float16]))
    ops.check_warp(*pyramid(1, 2, SIZES, (4, 3), [torch.float64, torch.float32, torch.float16]))


def test_warps_without_masks_and_with_masks_of_other_sizes(ops: MultiTime) -> None:
    features, flow, _ = pyramid(1, 3, SIZES, (5, 9), [torch.float64] * 3)
    ops.check_warp(features, flow, [])
    masks = [torch.rand(1, 3, 1, *size, dtype=torch.float64) for size in ((1, 1), (9, 4), (2, 7))]
    ops.check_warp(features, flow, masks)


def test_warps_of_unaligned_features(ops: MultiTime) -> None:
    features, flow, _ = pyramid(1, 2, [(17, 5, 6)], (5, 6), [torch.float32])
    dense = features[0].to(memory_format=torch.channels_last)
    ops.check_warp([dense[:, 1:], dense[:, :16], dense[:, ::2]], flow, [])


@pytest.mark.parametrize(
    ("b", "t", "size", "flow"),
    [
        (0, 2, (3, 4, 4), (3, 3)),
        (1, 0, (3, 4, 4), (3, 3)),
        (1, 2, (0, 4, 4), (3, 3)),
        (1, 2, (2, 0, 4), (3, 3)),
        (1, 2, (2, 1, 1), (1, 1)),
        (1, 2, (2, 4, 1), (1, 5)),
    ],
)
def test_warps_of_odd_sizes(ops: MultiTime, b: int, t: int, size: tuple[int, int, int], flow: tuple[int, int]) -> None:
    ops.check_warp(*pyramid(b, t, [size], flow, [torch.float64]))


@pytest.mark.parametrize("needs", list(itertools.product([False, True], repeat=3)))
def test_wanted_gradients_of_warps(ops: MultiTime, needs: Sequence[bool]) -> None:
    ops.check_warp(*pyramid(1, 2, SIZES, (4, 3), [torch.float64] * 3), needs=needs)


def test_hostile_flows_read_nothing(ops: MultiTime) -> None:
    flow = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 3e4]).repeat(8)[:40]
    flow = flow.reshape(1, 1, 4, 5, 2)
    features = [torch.ones(1, 3, 4, 5)]
    assert not ops.call("anytime_warp", features, flow, [])[0].any()
    grads = ops.call("anytime_warp_backward", [torch.ones(1, 1, 3, 4, 5)], features, flow, [], True, True, True, False)
    assert not grads[0][0].any()
    assert not grads[1].any()


def test_a_gradient_that_is_not_finite_is_not_hidden(ops: MultiTime) -> None:
    features, flow, _ = pyramid(1, 1, [(1, 4, 4)], (4, 4), [torch.float32])
    grad = torch.ones(1, 1, 1, 4, 4)
    grad[0, 0, 0, 1, 2] = float("inf")
    backward = ops.call("anytime_warp_backward", [grad], features, flow, [], True, False, False, True)
    assert backward[0][0].isnan().all()
