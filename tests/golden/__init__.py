"""Outputs of the TPSMM reference implementation, and the weights and images they were made from; see README.md."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from golden import fill
from lami.models.layers import AntiAliasDownsample

_FOLDER = Path(__file__).parent

Shapes = dict[str, dict[str, list[int]]]
"""Network (key in a checkpoint) -> parameter -> shape, in the order of the reference."""


def arrays(case: str) -> dict[str, Tensor]:
    """What the reference computed for a case: `mini64`, `taichi256` or `antialias`."""
    with np.load(_FOLDER / f"{case}.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def shapes(case: str) -> Shapes:
    return json.loads((_FOLDER / f"{case}_keys.json").read_text())


def published_shapes() -> dict[str, Shapes]:
    """Of TPSMM's published configurations, the AVD network included."""
    return json.loads((_FOLDER / "published_shapes.json").read_text())


def optimizer_order(configuration: str) -> list[str]:
    """Names of the parameters in the order of the published optimiser state."""
    layout = json.loads((_FOLDER / "published_layout.json").read_text())
    return layout["per_config"][configuration]["optimizer_param_order"]


def image(case: str, role: str) -> Tensor:
    """`source` or `driving` image of a case, (1, 3, H, H)."""
    return fill.image(f"{case}.{role}", int(case[-3:]) if case[-3:].isdigit() else int(case[-2:]))


def checkpoint(networks: Shapes) -> dict[str, dict[str, Tensor]]:
    """A TPSMM checkpoint of these shapes with the weights that the reference ran with."""
    result = {}
    for network, parameters in networks.items():
        empty = {
            name: torch.zeros(shape, dtype=torch.int64 if name.endswith("num_batches_tracked") else torch.float32)
            for name, shape in parameters.items()
        }
        if "down.weight" in empty:
            taps = empty["down.weight"].shape[-1]
            empty["down.weight"] = AntiAliasDownsample(3, 4 / (taps + 3)).weight
        result[network] = fill.fill_state_dict(empty, network)
    if background := result.get("bg_predictor"):
        background["bg_encoder.fc.weight"] *= 0.05
        background["bg_encoder.fc.bias"] = torch.tensor([1, 0.05, 0.02, -0.03, 0.95, 0.01])
    return result
