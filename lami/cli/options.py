"""Options that several commands share, and their parsing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import tyro

Options = TypeVar("Options")

Checkpoint = Annotated[Path, tyro.conf.arg(metavar="FILE")]
Output = Annotated[Path, tyro.conf.arg(aliases=("-o",), metavar="PATH")]
ConfigName = Annotated[str, tyro.conf.arg(metavar="CONFIG")]


def parse(options: type[Options], arguments: list[str], command: str, description: str) -> Options:
    """Fill a dataclass of options from the command line; exits with a message where that fails."""
    return tyro.cli(
        options,
        args=arguments,
        prog=f"lami {command}",
        description=description,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
