"""Background transforms of the two stages (open in the paper; the forms are ours)."""

from __future__ import annotations

import torch
from torch import Tensor

_SMALLEST_DETERMINANT = 1e-3


def _invert_affine(matrix: Tensor) -> Tensor:
    """Inverse of (..., 3, 3) with last row (0, 0, 1); a determinant near zero is pushed away from it."""
    (a, b, x), (c, d, y) = (row.unbind(-1) for row in matrix[..., :2, :].unbind(-2))
    determinant = a * d - b * c
    sign = torch.where(determinant < 0, -1.0, 1.0).to(determinant.dtype)
    determinant = sign * determinant.abs().clamp_min(_SMALLEST_DETERMINANT)
    rows = (d, -b, b * y - d * x, -c, a, c * x - a * y)
    top = (torch.stack(rows, dim=-1) / determinant[..., None]).unflatten(-1, (2, 3))
    last = torch.eye(3, dtype=matrix.dtype, device=matrix.device)[2:].expand(*matrix.shape[:-2], 1, 3)
    return torch.cat((top, last), dim=-2)


def interpolate_background(background: Tensor, times: Tensor, form: str = "consistent") -> tuple[Tensor, Tensor]:
    """Split the background transform A (driving -> source) at times between source (0) and driving (1).

    Args:
        background: A, (B, 3, 3), affine.
        times: (T,) or (B, T).
        form: `consistent` moves background points linearly as Eq. 1 moves keypoints: B_t = (1 - t) A + t I and
            G_t = A B_t^-1; `identity` leaves the interpolated image on the source's background (G = I, B = A);
            `full` puts it on the driving frame's (G = A, B = I); `repredict` starts as `identity`, the caller then
            predicts B_t from the interpolated image.

    Returns:
        G_t and B_t, (B, T, 3, 3) each: interpolated -> source, and driving -> interpolated coordinates. G_t B_t = A.
    """
    t = times.expand(len(background), times.shape[-1]).to(background.dtype)[..., None, None]
    full = background[:, None].expand(-1, t.shape[1], 3, 3)
    identity = torch.eye(3, dtype=background.dtype, device=background.device).expand_as(full)
    if form == "consistent":
        second = (1 - t) * full + t * identity
        with torch.autocast(full.device.type, enabled=False):  # coordinates need their precision
            return full @ _invert_affine(second), second
    return (full, identity) if form == "full" else (identity, full)
