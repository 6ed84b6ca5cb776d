"""Compare instructions of the CPU kernels with the baseline: `python -m benchmarks.instructions --help`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from lami import _native

FOLDER = Path(__file__).resolve().parent
BASELINE = FOLDER / "baseline.json"
TOLERANCE = 0.1
"""Growth that is an error; fewer instructions never are."""


class CountingError(Exception):
    """Instructions could not be counted; the message says why and what to do."""


def count() -> dict[str, float]:
    """Instructions by op and pass, divided by those of a loop of a million divisions.

    callgrind pretends to be a processor without AVX-512, so that every machine runs the same code, that for AVX2.

    Raises:
        CountingError: callgrind or a C compiler is missing, or the counted program failed.
    """
    compiler = os.environ.get("CC", "cc")
    for program, package in (("valgrind", "valgrind"), (compiler, "gcc")):
        if shutil.which(program) is None:
            raise CountingError(f"counting instructions needs {program}: install it (sudo apt install {package})")
    # torch ships callgrind's headers for its own counts.
    torch = Path(importlib.util.find_spec("torch").origin).parent  # type: ignore[union-attr, arg-type]  # it is installed
    headers = torch / "utils" / "benchmark" / "utils" / "valgrind_wrapper"
    with tempfile.TemporaryDirectory() as folder:
        library, dumps = Path(folder) / "requests.so", Path(folder) / "callgrind.out"
        source = str(FOLDER / "requests.c")
        _run([compiler, "-O2", "-shared", "-fPIC", f"-I{headers}", source, "-o", str(library)])
        watch = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={dumps}"]
        _run([*watch, sys.executable, "-m", "benchmarks.instructions.count", str(library)])
        dumped = filter(None, (_read(path) for path in Path(folder).glob("callgrind.out.*")))
        found = {name: min(total for _, total in group) for name, group in groupby(sorted(dumped), itemgetter(0))}
    loop = found.pop("loop")
    return {name: round(found[name] / loop, 5) for name in sorted(found)}


def _run(command: list[str]) -> None:
    # Hashes decide about the order of sets, threads about who does what.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        command, cwd=FOLDER.parents[1], env=environment, capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        last = (answer.stderr.strip() or f"exit code {answer.returncode}").splitlines()[-1]
        raise CountingError(f"{Path(command[0]).name} failed while instructions were counted: {last}")


def _read(dump: Path) -> tuple[str, int] | None:
    """Name and instructions of a dump that was asked for."""
    text = dump.read_text()
    name = re.search(r"^desc: Trigger: Client Request: (.+)$", text, re.MULTILINE)
    total = re.search(r"^totals: (\d+)", text, re.MULTILINE)
    return (name[1], int(total[1])) if name and total else None


def compare(found: dict[str, float], baseline: dict[str, float]) -> list[str]:
    """What is wrong, a phrase each: growth beyond the tolerance, and counts without a baseline or the reverse."""
    wrong = [
        f"{name} executes {100 * (found[name] / before - 1):.0f} % more instructions"
        for name, before in baseline.items()
        if name in found and found[name] > (1 + TOLERANCE) * before
    ]
    wrong += [f"{name} has no baseline" for name in found.keys() - baseline.keys()]
    return wrong + [f"{name} was not counted" for name in baseline.keys() - found.keys()]


def _versions() -> dict[str, str]:
    information = _native.build_info("cpu") or {}
    compiler, python = information.get("compiler", "unknown"), platform.python_version()
    return {"compiler": compiler, "python": python, "torch": version("torch")}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--update", action="store_true", help="make what is counted now the baseline")
    update = parser.parse_args(arguments).update
    try:
        found = count()
    except CountingError as error:
        print(error, file=sys.stderr)
        return 2
    versions = _versions()
    if update:
        BASELINE.write_text(json.dumps({"versions": versions, "instructions": found}, indent=1) + "\n")
        return 0
    stored = json.loads(BASELINE.read_text())
    baseline = stored["instructions"]
    for name, value in found.items():
        change = f"{100 * (value / baseline[name] - 1):+.2f} %" if name in baseline else "new"
        print(f"{name:36} {value:10.5f}  {change}")
    if wrong := compare(found, baseline):
        others = (
            "" if stored["versions"] == versions else f" (it was made with {stored['versions']}, this is {versions})"
        )
        print(
            f"against {BASELINE.name}, {'; '.join(wrong)}{others}: find out why, or accept it with "
            "python -m benchmarks.instructions --update and say so in the commit",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
