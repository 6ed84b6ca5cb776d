"""Options that several commands share, and their parsing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from lami.errors import IncompleteError

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


def check_complete(failed: Mapping[str, str], total: int, report: Path) -> None:
    """Raises IncompleteError if some files of a list, by name, failed, for the reason given; `report` tells of all."""
    if failed:
        name, error = next(iter(failed.items()))
        raise IncompleteError(
            f"{len(failed)} of {total} failed, the first is {name} ({error}); {report} tells of all, "
            "and the same command tries them again"
        )
