"""Parts as `torch.export` packages (.pt2), with the ops of lami inside."""

from __future__ import annotations

from pathlib import Path

import torch

from lami.export.parts import Part


def write_package(part: Part, path: Path) -> None:
    """Write a part for the device that it is on, its batch of any size.

    The ops of lami stay what they are, `torch.ops.lami.*`, so that whoever loads the file must `import lami.ops` first.
    """
    torch.export.save(part.trace(), path)


def run_package(part: Part, path: Path) -> tuple[torch.Tensor, ...]:
    """What the package makes of the part's inputs."""
    with torch.no_grad():
        result = torch.export.load(path).module()(*part.inputs.values())
    return result if isinstance(result, tuple) else (result,)
