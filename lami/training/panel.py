"""The visual panel of a run: a few pairs of the batch, their interpolated images, and the result."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lami.configs.schema import Selector
from lami.data import to_uint8
from lami.model import LAMI
from lami.visualize import interpolation_panel


@torch.no_grad()
def training_panel(
    model: LAMI, source: Tensor, driving: Tensor, selector: Selector | None = None, rows: int = 4
) -> NDArray[np.uint8]:
    """Source, images at the configured times with the selected one framed, driving frame and prediction.

    Runs in eval mode and leaves the model as it was.

    Args:
        source, driving: (B, 3, H, W) in [0, 1].
        selector: in place of the model's.
        rows: pairs to show.
    """
    source, driving = source[:rows], driving[:rows]
    training, interpolation = model.training, model.interpolation
    model.eval()
    if selector is not None:
        model.interpolation = interpolation.model_copy(update={"selector": selector})
    try:
        encoded = model.encode(source)
        kp_source, kp_driving = model.detect_keypoints(source), model.detect_keypoints(driving)
        background = model.predict_background(source, driving)
        if not model.interpolation.enabled:
            result = model.transfer_directly(encoded, kp_source, kp_driving, background)
            times: tuple[float, ...] = ()
            chosen: list[int | None] = [None] * len(source)
        else:
            times = model.interpolation.times
            images = model.interpolate(encoded, kp_source, kp_driving, times, background)
            result = model.transfer(encoded, driving, background=background)
            chosen = [
                next((i for i, t in enumerate(times) if math.isclose(t, time, abs_tol=1e-4)), None)
                for time in result.selected_time.tolist()
            ]
    finally:
        model.interpolation = interpolation
        model.train(training)
    return interpolation_panel(
        list(to_uint8(source)),
        list(to_uint8(driving)),
        [list(to_uint8(row)) for row in images] if times else [[] for _ in source],
        chosen,
        list(to_uint8(result.prediction)),
        times,
        source_keypoints=kp_source.cpu().numpy(),
        driving_keypoints=kp_driving.cpu().numpy(),
    )
