"""Loading a model for use, with options in place of what its weight file says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lami.acceleration import Precision, accelerated
from lami.checkpoint import load
from lami.configs.schema import Fusion, InterpolationConfig, Selector
from lami.errors import ConfigError
from lami.model import LAMI
from lami.worklist import digest


def load_with_options(
    checkpoint: str | Path,
    device: str,
    times: Sequence[float] | None,
    selector: Selector | None,
    weights_vit: str | None,
    fusion: Fusion | None = None,
    precision: Precision = "fp32",
) -> LAMI:
    """A model with options laid over the configuration in its weight file.

    Args:
        checkpoint: weight file.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        times: only checked against the selector: `fixed` takes one.
        selector: None takes the checkpoint's.
        weights_vit: weights of the selector's transformer, see `ViTConfig.weights`; None takes the checkpoint's.
        fusion: None takes the checkpoint's; weights are the same with and without it.
        precision: of the networks, see `lami.acceleration.accelerated`.

    Raises:
        ConfigError: several times for the selector `fixed`, or a time outside (0, 1).
        CheckpointError: the weight file cannot be used.
    """
    model = load(checkpoint, device)
    chosen: dict[str, Any] = {} if selector is None else {"selector": selector}
    if fusion is not None:
        chosen |= {"fusion": fusion}
    if (selector or model.interpolation.selector) == "fixed" and times is not None:
        if len(times) != 1:
            raise ConfigError(f"selector fixed takes one time, got {len(times)}; give one, or choose selector eq4")
        chosen |= {"fixed_time": times[0]}
    try:
        model.interpolation = InterpolationConfig.model_validate(model.interpolation.model_dump() | chosen)
    except ValidationError as error:
        raise ConfigError(f"{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}; correct it") from None
    if weights_vit is not None:
        model.vit_config = model.vit_config.model_copy(update={"weights": weights_vit})
    return accelerated(model, precision)


def identify(
    checkpoint: str | Path,
    times: Sequence[float] | None,
    selector: Selector | None,
    weights_vit: str | None,
    fusion: Fusion | None = None,
) -> dict[str, Any]:
    """What results depend on, of the arguments of `load_with_options`; as JSON, with digests in the place of files.

    Raises:
        DataError: a file cannot be read.
    """
    vit = None if weights_vit is None else Path(weights_vit)
    return {
        "checkpoint_sha256": digest(Path(checkpoint)),
        "times": None if times is None else list(times),
        "selector": selector,
        "fusion": fusion,
        "weights_vit": digest(vit) if vit and vit.is_file() else weights_vit,
    }
