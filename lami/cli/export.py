"""`lami export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lami.cli.options import Output, parse
from lami.errors import ConfigError


@dataclass
class ExportOptions:
    checkpoint: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="FILE")]]
    """Trained model."""
    output: Output
    """Folder to write: new, empty, or an earlier export, which is replaced."""
    onnx: bool = False
    """Write ONNX graphs, NAME.onnx, that run without PyTorch and lami (needs lami[export])."""
    torch: bool = False
    """Write torch.export packages, NAME.pt2, with the fused ops inside (loading them needs `import lami.ops`)."""
    device: str = "cpu"
    """cpu, cuda or cuda:N: where packages are to run; ONNX graphs are made on the cpu."""
    selector: Annotated[Literal["eq4", "fixed", "random"] | None, tyro.conf.arg(metavar="{eq4,fixed,random}")] = None
    """How a candidate time is chosen, by default as in the checkpoint; all but eq4 leave out the transformer."""
    weights_vit: Annotated[str | None, tyro.conf.arg(metavar="pretrained|FILE|random")] = None
    """Weights of the selector's transformer; by default as in the checkpoint."""


def main(arguments: list[str]) -> None:
    options = parse(ExportOptions, arguments, "export", "Write a model as ONNX graphs or torch.export packages.")
    if not (options.onnx or options.torch):
        raise ConfigError("say what to export: --onnx, --torch or both")

    from lami.animation.loading import load_with_options
    from lami.export import export

    model = load_with_options(options.checkpoint, options.device, None, options.selector, options.weights_vit)
    export(model, options.output, onnx=options.onnx, packages=options.torch)
