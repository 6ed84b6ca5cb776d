"""Watch what the Triton kernels cost, without a GPU.

    python -m benchmarks.aot                    compare with resources.json, exit 1 if a kernel got worse
    python -m benchmarks.aot --arch 90 --op warp      the same for a part
    python -m benchmarks.aot --write            accept the kernels as they are: rewrite resources.json

A kernel got worse if it takes more registers or shared memory, spills, has fewer wide loads than the table says, is
not in the table, or is there but no longer launched. Another Triton or ptxas allocates registers differently: under
other versions than the table's only spills count.
"""

from __future__ import annotations

import argparse
import json
import operator
import re
import sys
from functools import partial
from pathlib import Path

import triton
from triton.backends.nvidia.compiler import get_ptxas_version

from benchmarks.aot.compile import Table, measure
from benchmarks.aot.variants import variants

TABLE = Path(__file__).with_name("resources.json")
ARCHES = (80, 89, 90, 120)
"""A100, RTX 4090, H100 and H200, RTX 5090."""

_Rows = dict[tuple[str, str, str], dict[str, int]]
_WORSE = {"registers": operator.gt, "shared_bytes": operator.gt, "wide_loads": operator.lt}


def versions() -> dict[str, str]:
    """Of the compilers, the one for an architecture after its name."""

    def ptxas(arch: int) -> str:
        return re.findall(r"V(\d+\.\d+\.\d+)", get_ptxas_version(arch))[0]

    return {"triton": triton.__version__, **{f"ptxas sm_{arch}": ptxas(arch) for arch in ARCHES}}


def _rows(table: Table) -> _Rows:
    return {
        (kernel, variant, arch): resources
        for kernel, of_kernel in table.items()
        for variant, of_variant in of_kernel.items()
        for arch, resources in of_variant.items()
    }


def spills(found: _Rows) -> list[str]:
    """One sentence for each kernel that spills."""
    return [f"{', '.join(key)}: spills {row['spill_bytes']} bytes" for key, row in found.items() if row["spill_bytes"]]


def regressions(expected: _Rows, found: _Rows) -> list[str]:
    """One sentence for each way in which `found` is worse than `expected`; spills aside."""
    sentences = [
        f"{', '.join(key)}: not in the table, accept it with --write" for key in found.keys() - expected.keys()
    ]
    sentences += [f"{', '.join(key)}: in the table, but not launched" for key in expected.keys() - found.keys()]
    sentences += [
        f"{', '.join(key)}: {resource} were {expected[key][resource]}, are {found[key][resource]}"
        for key in found.keys() & expected.keys()
        for resource, worse in _WORSE.items()
        if worse(found[key][resource], expected[key][resource])
    ]
    return sorted(sentences)


def write(found: _Rows) -> None:
    """Sorted, and the resources on one line for each architecture: a changed kernel is a changed line."""
    compact = partial(json.dumps, separators=(", ", ": "))
    arch_last = sorted(found, key=lambda key: (key[0], key[1], int(key[2].removeprefix("sm_"))))
    body = ",\n".join(f"    {compact(' | '.join(key))}: {compact(found[key])}" for key in arch_last)
    TABLE.write_text(f'{{\n  "versions": {compact(versions())},\n  "kernels": {{\n{body}\n  }}\n}}\n')


def read() -> tuple[dict[str, str], _Rows]:
    stored = json.loads(TABLE.read_text())
    rows: _Rows = {}
    for name, resources in stored["kernels"].items():
        kernel, variant, arch = name.split(" | ")
        rows[kernel, variant, arch] = resources
    return stored["versions"], rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", type=int, action="append", choices=ARCHES, help="only this architecture")
    parser.add_argument("--op", action="append", help="only the kernels in kernels/OP.py")
    parser.add_argument("--name", action="append", help="only variants of this name, such as 'bf16 channels_last'")
    parser.add_argument("--write", action="store_true", help="rewrite the table instead of comparing with it")
    chosen = parser.parse_args()
    partly = chosen.arch or chosen.op or chosen.name
    if chosen.write and partly:
        parser.error("--write needs everything: leave out --arch, --op and --name")

    wanted = [
        variant
        for variant in variants()
        if (not chosen.op or variant.op in chosen.op) and (not chosen.name or variant.name in chosen.name)
    ]
    found: _Rows = {}
    for arch in chosen.arch or ARCHES:
        found |= _rows(measure(wanted, arch))
    sentences = spills(found)
    if chosen.write:
        write(found)
    else:
        made_by, expected = read()
        if partly:  # what else is in the table was not asked for
            expected = {key: row for key, row in expected.items() if key in found}
        if made_by == versions():
            sentences += regressions(expected, found)
        print(f"{len(found)} kernels compiled" + ("" if made_by == versions() else ", table of other versions"))
    print(*sentences, sep="\n")
    return 1 if sentences else 0


if __name__ == "__main__":
    sys.exit(main())
