"""Entry point of `lami`: chooses the command, and turns errors into one line and an exit code."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import lami
from lami.errors import IncompleteError, LamiError

COMMANDS = {
    "train": "train a model on videos",
    "train-avd": "add the network that separates shape from pose (mode avd)",
    "reconstruct": "rebuild test videos from their first frames and score them",
    "evaluate": "measure how far rebuilt test videos are from the real ones",
    "ablate": "train and evaluate variants of a configuration side by side",
    "animate": "move the object of an image as a driving video does",
    "data": "check a data set, pack it for fast reading, verify a packed one",
    "weights": "list, find, download and verify weight files",
    "convert": "turn a TPSMM checkpoint into a lami one",
    "export": "write a model as ONNX graphs or torch.export packages",
    "demo": "show what lami does, on generated figures",
    "web": "open a page in the browser that animates pictures",
    "bench": "measure training steps, animation and the speed of training data",
    "doctor": "print versions, devices and weights, for bug reports",
}


def usage() -> str:
    """The text of `lami --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join(
        [
            "usage: lami COMMAND [OPTIONS]",
            "",
            "Large displacement motion transfer by unsupervised anytime interpolation.",
            "",
            "commands:",
            *lines,
            "",
            "`lami COMMAND --help` explains a command, `lami --version` prints the version.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `lami` with `arguments`, by default those of the process.

    Exits with code 1 where some files of a list could not be made, 2 for input that cannot work, 130 when interrupted.
    """
    first, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if first in ("-h", "--help"):
        print(usage())
        return
    if first == "--version":
        print(f"lami {lami.__version__}")
        return
    if first not in COMMANDS:
        close = difflib.get_close_matches(first, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"the commands are {', '.join(COMMANDS)}"
        _fail(f"unknown command {first}, {hint}")

    from lami.cli.logs import configure_logging

    configure_logging()
    try:
        importlib.import_module(f"lami.cli.{first.replace('-', '_')}").main(rest)
    except IncompleteError as error:
        # All processes of torchrun know of it: the first one says so, and the others must not end it before.
        if os.environ.get("RANK", "0") == "0":
            _fail(str(error), code=1)
    except LamiError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("lami: interrupted", file=sys.stderr)
        sys.exit(130)


def _fail(sentence: str, code: int = 2) -> NoReturn:
    print(f"lami: error: {sentence}", file=sys.stderr)
    sys.exit(code)
