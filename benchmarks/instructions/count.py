"""Calls every op once under callgrind: `python -m benchmarks.instructions.count LIBRARY`, LIBRARY being requests.c.

Each dump of callgrind is named after an op and a pass. Sizes are so large that kernels are most of what is counted, and
so small that all takes seconds.
"""

from __future__ import annotations

import ctypes
import gc
import sys

import torch

from benchmarks.ops import measure
from benchmarks.ops.cases import BACKWARD, FORWARD, Size
from benchmarks.ops.catalogue import NAMES, load
from benchmarks.ops.inputs import Inputs
from lami import ops

TURNS = 1_000_000
COUNTS = 2
"""Of each call; the lower one counts, without what happens now and then."""
SIZE = Size(batch=2, side=48, flow=24, channels=16, times=2, splines=4)


def calls() -> dict[str, measure.Run]:
    """By op and pass; each has run before: first calls find kernels and fill caches."""
    benchmarks = [benchmark for benchmark in map(load, NAMES) if benchmark.op is None]  # the others repeat their ops
    found = {}
    for benchmark in benchmarks:
        case = benchmark.setup(SIZE, Inputs(torch.device("cpu")))
        made = measure.passes(case.fused, case.arguments)
        for name in (FORWARD, BACKWARD):
            found[f"{benchmark.name}, {name}"] = run = made[name]()
            run()
    return found


def main(library: str) -> None:
    callgrind = ctypes.CDLL(library)
    callgrind.turns.argtypes, callgrind.turns.restype = [ctypes.c_long], ctypes.c_double
    torch.set_num_threads(1)
    torch.manual_seed(0)
    gc.disable()  # it would run at some time or other
    with ops.use_backend("native"):
        ready = calls()
        callgrind.start()
        callgrind.zero()
        callgrind.turns(TURNS)
        callgrind.dump(b"loop")
        for name, run in ready.items():
            for _ in range(COUNTS):
                callgrind.zero()
                run()
                callgrind.dump(name.encode())


if __name__ == "__main__":
    main(sys.argv[1])
