"""`lami convert`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lami.cli.options import parse


@dataclass
class ConvertOptions:
    path: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="IN")]]
    """TPSMM checkpoint (.pth.tar)."""
    output: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="OUT")]]
    """lami checkpoint to write (.safetensors)."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Side of the square images that the model was trained at; 256 by default."""


def main(arguments: list[str]) -> None:
    options = parse(ConvertOptions, arguments, "convert", "Turn a published TPSMM checkpoint into a lami one.")

    from lami.convert import convert_tpsmm

    convert_tpsmm(options.path, options.output, options.image_size)
