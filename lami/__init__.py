"""LAMI: large displacement motion transfer by unsupervised anytime interpolation.

Names are imported on first use, so that `import lami` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lami import ops
    from lami.animation import Animator
    from lami.checkpoint import load
    from lami.model import LAMI

__version__ = "0.1.0"

_HOMES = {"LAMI": "lami.model", "load": "lami.checkpoint", "Animator": "lami.animation"}

__all__ = ["LAMI", "Animator", "__version__", "load", "ops"]


def __getattr__(name: str) -> Any:
    if name == "ops":
        return importlib.import_module("lami.ops")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'lami' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
