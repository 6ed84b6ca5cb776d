"""`lami demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lami.cli.options import Output, parse


@dataclass
class DemoOptions:
    output: Output = Path("out/demo")
    """Folder of the pictures and videos."""
    overwrite: bool = False
    """Replace those that are there."""


def main(arguments: list[str]) -> None:
    options = parse(DemoOptions, arguments, "demo", "Show what lami does, on generated figures and without a GPU.")

    from lami.demo import run_demo

    run_demo(options.output, overwrite=options.overwrite)
