"""What packages say about their licences, beside the table of docs/licences.md: `python docs/licences.py`.

Reports requirements of pyproject.toml that the table lacks, rows that nothing requires, and licences that an installed
package states otherwise than the table; then the exit code is 1. `--all` lists every installed package that lami needs,
directly or not, with what its metadata state, as a table.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"

_ROW = re.compile(r"^\| `([A-Za-z0-9._-]+)` \| [^|]*\| ([^|]+) \|", re.MULTILINE)
_SPDX = {
    "apache 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "boost software license": "BSL-1.0",
    "mit license": "MIT",
}
"""Names that packages use for what SPDX calls otherwise."""


def required(project: Path = ROOT / "pyproject.toml") -> set[str]:
    """Names of all packages that building lami, lami itself and its extras ask for."""
    content = tomllib.loads(project.read_text())
    groups = [content["build-system"]["requires"], content["project"]["dependencies"]]
    groups += content["project"]["optional-dependencies"].values()
    lines = [line for group in groups for line in group]
    names = {canonicalize_name(Requirement(line).name) for line in lines}
    return names - {"lami"}  # which extras may name to include each other


def documented(page: Path = PAGE) -> dict[str, str]:
    """Licences of the table by the name of the package."""
    section = page.read_text().split("## Dependencies")[1].split("\n## ")[0]
    return {canonicalize_name(name): licence.strip() for name, licence in _ROW.findall(section)}


def stated(name: str) -> str | None:
    """Licence that the metadata of an installed package state; None where it is not installed or states none."""
    try:
        content = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    classifiers = [
        line.split("::")[-1].strip() for line in content.get_all("Classifier") or [] if line.startswith("License ::")
    ]
    texts = [content.get("License-Expression"), content.get("License"), *classifiers]
    short = [text for text in texts if text and len(text) < 200 and "\n" not in text]  # the others are whole licences
    return _SPDX.get(short[0].lower(), short[0]) if short else None


def problems(names: Iterable[str], table: dict[str, str]) -> list[str]:
    """Requirements without a row, and rows without a requirement."""
    wanted, rows = set(names), set(table)
    return [f"{name} has no row in {PAGE.name}" for name in sorted(wanted - rows)] + [
        f"nothing requires {name}, which has a row in {PAGE.name}" for name in sorted(rows - wanted)
    ]


def everything(names: Iterable[str]) -> dict[str, str]:
    """Licences of installed packages that these need, and those that they need in turn."""
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        try:
            needs = [Requirement(line) for line in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue
        found[name] = stated(name) or "none stated"
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="list all installed packages that lami needs")
    if parser.parse_args().all:
        print("| package | version | licence, as its metadata state |\n| --- | --- | --- |")
        for name, licence in sorted(everything(required()).items()):
            print(f"| {name} | {metadata.version(name)} | {licence} |")
        return 0
    table = documented()
    found = problems(required(), table)
    for name, licence in table.items():
        if (now := stated(name)) is not None and now != licence:
            found.append(f"{name} states {now!r}, the table says {licence!r}")
    print("\n".join(found) or f"the table has all {len(table)} packages")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
