"""Commands that have commands of their own."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from lami.errors import ConfigError

Subcommands = Mapping[str, tuple[str, Callable[[list[str]], None]]]
"""Purpose and function by name."""


def dispatch(command: str, subcommands: Subcommands, arguments: list[str]) -> None:
    """Call the sub-command that `arguments` begin with, or print what there is.

    Raises:
        ConfigError: there is no such sub-command.
    """
    first, *rest = arguments or ["--help"]
    if first in ("-h", "--help"):
        width = max(map(len, subcommands))
        print(f"usage: lami {command} COMMAND [OPTIONS]\n\ncommands:")
        for name, (purpose, _) in subcommands.items():
            print(f"  {name:<{width}}  {purpose}")
        print(f"\n`lami {command} COMMAND --help` explains a command.")
        return
    if first not in subcommands:
        close = difflib.get_close_matches(first, subcommands, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(subcommands)}"
        raise ConfigError(f"unknown command {command} {first}, {hint}")
    subcommands[first][1](rest)
