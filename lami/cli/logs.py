"""Where log messages go."""

from __future__ import annotations

import logging
import os
import sys


def configure_logging() -> None:
    """Send the messages of lami to stderr: with colours on a terminal, as plain lines in files and pipes.

    Under torchrun only the first process reports progress; the others speak up for warnings.
    """
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False)
        handler.setFormatter(logging.Formatter("%(message)s", datefmt="[%X]"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"))
    logger = logging.getLogger("lami")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING)
