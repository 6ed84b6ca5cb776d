"""Creating timm models, with weights that are trained here, pretrained, from a file, or explicitly random."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from lami.backbones._torchvision import ensure_torchvision
from lami.configs.schema import BackboneConfig
from lami.errors import ConfigError, WeightsUnavailableError

logger = logging.getLogger(__name__)


def _create(name: str, **arguments: Any) -> Any:
    """A timm model, of whichever class: hence Any."""
    ensure_torchvision()
    import timm

    if not timm.is_model(name):
        close = timm.list_models(f"*{name.split('.')[0]}*")[:5]
        raise ConfigError(
            f"timm has no model named {name!r}" + (f"; similar names: {', '.join(close)}" if close else "")
        )
    try:
        return timm.create_model(name, pretrained=False, **arguments)
    except TypeError as error:
        raise ConfigError(f"timm cannot create {name!r} with {arguments}: {error}") from error


def create_backbone(config: BackboneConfig, in_channels: int, outputs: int) -> Any:
    """A regression network (B, in_channels, H, W) -> (B, outputs), randomly initialised, to be trained."""
    return _create(config.name, in_chans=in_channels, num_classes=outputs, **config.args)


def create_pretrained(name: str, weights: str, needed: str = "", **arguments: Any) -> Any:
    """A frozen network in eval mode.

    Args:
        name: timm model name.
        weights: `pretrained`, the path of a state dict (.safetensors, or a .pth that holds tensors only), or `random`
            (seeded, the same every time, and said in the log).
        needed: prefix of the parameters that are used; a file may lack the others, or hold them in another form.

    Raises:
        WeightsUnavailableError: pretrained weights are neither cached nor downloadable, or the path cannot be read.
    """
    if weights == "random":
        logger.warning("%s has random weights, as configured: its features carry no learned meaning", name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = _create(name, **arguments)
    else:
        path = _download(name) if weights == "pretrained" else Path(weights)
        model = _create(name, **arguments)
        _load(model, name, path, needed)
    return model.eval().requires_grad_(False)


def _download(name: str) -> Path:
    """Path of the pretrained weights, from the cache or the hub; fails within seconds when offline."""
    ensure_torchvision()
    import timm

    from lami.backbones._hub import fetch

    pretrained = timm.get_pretrained_cfg(name) if timm.is_model_pretrained(name) else None
    if pretrained is None:
        raise WeightsUnavailableError(f"timm has no pretrained weights for {name!r}; give a path or 'random'")
    url = pretrained.url if isinstance(pretrained.url, str) else None
    return fetch(name, pretrained.hf_hub_id, url)


def _load(model: Any, name: str, path: Path, needed: str) -> None:
    ensure_torchvision()
    from timm.models import load_state_dict

    if not path.is_file():
        raise WeightsUnavailableError(
            f"weights for {name} not found at {path}; give an existing file, 'pretrained' or 'random'"
        )
    try:
        state = load_state_dict(str(path), use_ema=False, weights_only=True)
    except Exception as error:
        raise WeightsUnavailableError(f"{path} cannot be read as a state dict of {name}: {error}") from error
    if hasattr(model, "pos_embed"):
        from timm.models.vision_transformer import checkpoint_filter_fn

        state = checkpoint_filter_fn(state, model, interpolation="bicubic", antialias=False)  # other input sizes
    wanted = {key: value for key, value in model.state_dict().items() if key.startswith(needed)}
    missing = [key for key in wanted if key not in state]
    wrong = [key for key, value in wanted.items() if key in state and state[key].shape != value.shape]
    if missing or wrong:
        raise WeightsUnavailableError(
            f"{path} does not fit {name}: {len(missing)} tensors are missing and {len(wrong)} have another shape "
            f"(first: {(missing + wrong)[0]})"
        )
    model.load_state_dict({key: state[key] for key in wanted}, strict=False)
