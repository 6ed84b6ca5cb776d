"""Make torchvision importable where its build does not match torch's.

Package registries serve the CUDA build of torchvision only; beside the CPU build of torch its compiled library does not
load, `import torchvision` fails for want of the `torchvision::nms` operator, and timm with it. Declaring the operator's
schema is enough: lami and timm's models never call it.
"""

from __future__ import annotations

import sys

import torch

_library: torch.library.Library | None = None


def ensure_torchvision() -> None:
    """Import torchvision, declaring its missing operators first if that is what keeps it from importing."""
    global _library
    if "torchvision" in sys.modules:
        return
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            _library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401
