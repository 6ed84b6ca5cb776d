"""Hostile calls of the native CPU ops: some of the ordinary library, many of one built with sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from csrc.fuzz import MisbehaviorError, check_finite, check_finite_gradients, fuzz
from ops.cases import Case

from lami import _native

ROOT = Path(__file__).resolve().parents[2]
CALLS = 10_000
COMPILER = shutil.which(os.environ.get("CXX", "g++"))
# The third because the others need its exceptions before Python brings it.
RUNTIMES = ("libasan.so", "libubsan.so", "libstdc++.so.6")

READ_PAST_THE_END = """
import numpy, torch
from lami import ops

too_short = numpy.lib.stride_tricks.as_strided(numpy.zeros(4, numpy.float32), (1, 1, 1, 5), (20, 20, 20, 4))
with ops.use_backend("native"):
    ops.warp(torch.from_numpy(too_short), torch.ones(1, 1, 5, 2))
"""


@pytest.mark.skipif(_native.native_error("cpu") is not None, reason=f"native kernels: {_native.native_error('cpu')}")
def test_hostile_calls() -> None:
    assert fuzz(first=CALLS, calls=300) == []


def test_what_is_not_finite_is_found() -> None:
    case = Case("warp", {"features": torch.ones(1, 1, 2, 2), "flow": torch.full((1, 2, 2, 2), torch.nan)})
    spoilt = torch.tensor([0.0, torch.nan])
    with pytest.raises(MisbehaviorError, match="result"):
        check_finite(case, [spoilt])
    with pytest.raises(MisbehaviorError, match="flow"):
        check_finite_gradients(case, {"flow": spoilt})
    case.tensors["features"][0, 0, 0, 0] = torch.nan
    check_finite(case, [spoilt])


def runtime(name: str) -> str:
    """Where the compiler has one of its libraries; the test is skipped where it has not."""
    if COMPILER is None:
        pytest.skip("no C++ compiler; install g++ or set CXX")
    path = subprocess.run([COMPILER, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout
    if not Path(path.strip()).is_absolute():
        pytest.skip(f"{COMPILER} has no {name}; install GCC with its sanitizers")
    return path.strip()


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.skipif(sys.platform != "linux", reason="the sanitizers are preloaded, which is done for Linux alone")
def test_sanitizers_report_nothing(tmp_path: Path) -> None:
    preload = " ".join(runtime(name) for name in RUNTIMES)
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    folders = ["--build-temp", str(tmp_path / "objects"), "--build-lib", str(tmp_path)]
    build = [sys.executable, "setup.py", "--quiet", "build_ext", *folders]
    subprocess.run(build, cwd=ROOT, env=environment | {"LAMI_SANITIZE": "1", "LAMI_BUILD": "1"}, check=True)
    environment |= {
        "LAMI_NATIVE_DIR": str(tmp_path / "lami"),
        "LD_PRELOAD": preload,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python frees little at its end
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert "heap-buffer-overflow" in run("-c", READ_PAST_THE_END).stderr

    fuzzing = run("tests/csrc/fuzz.py", "--calls", str(CALLS), "--trace")
    last = fuzzing.stdout.splitlines()[-1:]
    assert fuzzing.returncode == 0, f"after {last}:\n{fuzzing.stderr[-20000:]}"
    assert last == [f"{CALLS} calls, 0 misbehaved"]
    assert "Sanitizer" not in fuzzing.stderr
    assert "runtime error" not in fuzzing.stderr
