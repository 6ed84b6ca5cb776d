"""Compile what launchers launch, for a GPU that is not present, and read from the machine code what it takes."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import triton
from torch._library.triton import set_wrap_triton_enabled
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from benchmarks.aot.variants import Variant

Table = dict[str, dict[str, dict[str, dict[str, int]]]]
"""kernel -> variant -> architecture -> resources."""


@dataclass(frozen=True)
class Resources:
    """What a kernel takes from a multiprocessor, and how it reads global memory."""

    registers: int  # of each thread
    spill_bytes: int  # of each thread: local memory, for what found no register
    shared_bytes: int  # of each block
    loads: int  # instructions
    wide_loads: int  # those that read 16 bytes


class _AbsentDevice:
    """What compiling asks a Triton driver for."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_device(self) -> int:
        return self.arch  # Triton keeps kernels by device

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)


@contextmanager
def compiled_not_launched(arch: int) -> Iterator[list[tuple[JITFunction, Any]]]:
    """Within the context a launch compiles for `arch` and adds the kernel to the list, but runs nothing."""
    launches: list[tuple[JITFunction, Any]] = []
    run = JITFunction.run

    def compile_only(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        launches.append((self, run(self, *args, grid=grid, warmup=True, **kwargs)))

    driver.set_active(_AbsentDevice(arch))
    with patch.object(JITFunction, "run", compile_only), set_wrap_triton_enabled(False):
        yield launches


def _inspect(tool: str, option: str, cubin: Path) -> str:
    program = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / tool
    return subprocess.run([program, option, cubin], capture_output=True, text=True, check=True).stdout


def resources(compiled: Any) -> Resources:
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "kernel.cubin")
        cubin.write_bytes(compiled.asm["cubin"])
        usage = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", _inspect("cuobjdump", "-res-usage", cubin)))
        code = _inspect("nvdisasm", "-c", cubin)
    return Resources(
        registers=int(usage["REG"]),
        spill_bytes=int(usage["STACK"]) + int(usage["LOCAL"]),
        shared_bytes=compiled.metadata.shared,
        loads=len(re.findall(r"\bLDG\b", code)),
        wide_loads=len(re.findall(r"\bLDG\S*\.128\b", code)),
    )


def measure(variants: Iterable[Variant], arch: int) -> Table:
    """Compile what the variants launch for one architecture.

    Kernels in files with a leading underscore count for each op that launches them; an op that launches the kernels of
    another one leaves them to the variants of that.
    """
    table: Table = {}
    known: dict[str, dict[str, int]] = {}
    counted: set[tuple[str, str, str]] = set()
    for variant in variants:
        with compiled_not_launched(arch) as launches:
            variant.launch()
        for launched, compiled in launches:
            owner = launched.fn.__module__.rpartition(".")[2]
            shared = owner.startswith("_")
            if not shared and owner != variant.op:
                continue
            kernel = f"{owner}.{launched.fn.__name__}"
            name = f"{variant.op} {variant.name}" if shared else variant.name
            if (kernel, name, compiled.hash) in counted:
                continue
            counted.add((kernel, name, compiled.hash))
            if compiled.hash not in known:
                known[compiled.hash] = asdict(resources(compiled))
            rows = table.setdefault(kernel, {})
            names = chain([name], (f"{name} ({number})" for number in count(2)))
            rows[next(free for free in names if free not in rows)] = {f"sm_{arch}": known[compiled.hash]}
    return table
