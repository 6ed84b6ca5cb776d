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
    """TPSMM checkpoint (.pth.tar), or a lami checkpoint (.safetensors) to write anew."""
    output: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="OUT")]]
    """lami checkpoint to write (.safetensors)."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Side of the square images that a TPSMM model was trained at; 256 by default."""
    half: bool = False
    """Store the weights in half precision (fp16), for half of the size."""
    overwrite: bool = False
    """Replace an output that exists."""


def main(arguments: list[str]) -> None:
    options = parse(ConvertOptions, arguments, "convert", "Turn a published TPSMM checkpoint into a lami one.")

    import torch

    from lami.convert import convert_tpsmm, copy_weights
    from lami.errors import ConfigError

    dtype = torch.float16 if options.half else None
    if options.path.suffix != ".safetensors":
        convert_tpsmm(options.path, options.output, options.image_size, dtype, overwrite=options.overwrite)
    elif options.image_size is not None:
        raise ConfigError("a lami checkpoint knows the size it was trained at; leave out --image-size")
    else:
        copy_weights(options.path, options.output, dtype, overwrite=options.overwrite)
