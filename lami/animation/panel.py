"""One picture of what happens between source and driving poses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lami.animation.prepared import Moved, PreparedSource
from lami.data import to_uint8
from lami.visualize import interpolation_panel

_SAME_TIME = 1e-4


@torch.inference_mode()
def draw_panel(
    source: PreparedSource,
    rows: Sequence[Moved],
    times: Sequence[float] | None = None,
    captions: Sequence[str] | None = None,
) -> np.ndarray:
    """Source, images at all candidate times with the selected one framed, driving image and result, with keypoints.

    Everything is shown as the model sees it, letterboxed.

    Args:
        source: the source of all rows.
        rows: one result for each row of the picture, at least one.
        times: candidate times; None takes the model's. Selected times that are not among them get columns too.
        captions: one for each row.

    Returns:
        uint8 (H, W, 3).
    """
    interpolation = source.model.interpolation
    columns = list(interpolation.times if times is None else times) if interpolation.enabled else []
    for row in rows:
        if row.selected_time > 0 and _column(columns, row.selected_time) is None:
            columns.append(round(row.selected_time, 4))
    columns.sort()
    keypoints = torch.stack([row.keypoints for row in rows])
    candidates: list[list[np.ndarray]] = [[] for _ in rows]
    candidate_keypoints = None
    if columns:
        given = [row.background for row in rows if row.background is not None]
        background = torch.stack(given) if len(given) == len(rows) else None
        kp_source = source.keypoints.expand_as(keypoints)
        images = source.model.interpolate(source.encoded, kp_source, keypoints, columns, background)
        candidates = [list(row) for row in to_uint8(images)]
        t = torch.tensor(columns, device=keypoints.device)[:, None, None, None]
        candidate_keypoints = torch.lerp(kp_source[:, None], keypoints[:, None], t).cpu().numpy()
    return interpolation_panel(
        to_uint8(source.image[0]),
        [to_uint8(row.driving) for row in rows],
        candidates,
        [_column(columns, row.selected_time) for row in rows],
        [to_uint8(row.prediction) for row in rows],
        times=columns,
        source_keypoints=source.keypoints[0].cpu().numpy(),
        driving_keypoints=torch.stack([row.driving_keypoints for row in rows]).cpu().numpy(),
        candidate_keypoints=candidate_keypoints,
        row_captions=captions,
    )


def _column(columns: Sequence[float], time: float) -> int | None:
    return next((i for i, column in enumerate(columns) if abs(column - time) < _SAME_TIME), None)
