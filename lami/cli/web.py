"""`lami web`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lami.cli.options import parse


@dataclass
class WebOptions:
    checkpoint: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Trained model; by default the packaged one, which knows nothing but generated figures."""
    host: str = "127.0.0.1"
    """Address to listen at. Only this computer can reach the default; 0.0.0.0 lets in the whole network."""
    port: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Port to listen at; by default the first free one from 7860."""
    open: bool = False
    """Open the page in a browser."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the networks; auto is bf16 where the processor or GPU is made for it. Coordinates stay in fp32."""
    weights_vit: Annotated[str | None, tyro.conf.arg(metavar="pretrained|FILE|random")] = None
    """Weights of the selector's transformer; by default as in the checkpoint."""
    max_seconds: float = 60
    """Longest driving video, in seconds."""
    max_megabytes: float = 200
    """Largest file, in megabytes."""
    max_waiting: int = 8
    """Animations that may wait for their turn; they are made one at a time."""
    keep_minutes: float = 60
    """How long results can be downloaded, in minutes."""


def main(arguments: list[str]) -> None:
    options = parse(WebOptions, arguments, "web", "A page in the browser that animates pictures.")

    from lami.animation.loading import load_with_options
    from lami.demo import WEIGHTS
    from lami.web.limits import Limits
    from lami.web.server import running, serve

    limits = Limits(options.max_seconds, options.max_megabytes, options.max_waiting, options.keep_minutes)
    checkpoint = options.checkpoint or WEIGHTS
    model = load_with_options(checkpoint, options.device, None, None, options.weights_vit, precision=options.precision)
    with running(model, limits, options.host, options.port, options.precision, checkpoint == WEIGHTS) as address:
        if options.open:
            import webbrowser

            webbrowser.open(address)
        serve(address, options.host)
