"""Results at the source's own size that keep its detail wherever it stays visible."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lami import ops
from lami.animation.letterbox import Letterbox
from lami.animation.prepared import Moved
from lami.data import to_tensor, to_uint8
from lami.models.dense_motion import identity_flow

_BAND = 2**19
"""Pixels computed at once, about 100 MB."""


class SourceDetail:
    """Draws moved images at the size of the source: motion and occlusion are the model's, the pixels are the source's.

    Each pixel is followed along the flows back to the source, which is sampled there at its full size, and mixed with
    the model's own result, enlarged, as far as the source was visible all the way.

    Args:
        image: the source, uint8 (H, W, 3).
        letterbox: where it lies in the model's image.
        device: to draw on, in fp32.
        band: pixels to compute at once, whole rows and at least one of them.
    """

    def __init__(self, image: np.ndarray, letterbox: Letterbox, device: torch.device, band: int = _BAND) -> None:
        self._source = to_tensor(image)[None].to(device)
        self._letterbox = letterbox
        self._band = band
        # 1 is the middle of the model's last pixel, whose outer half shows something of the source, too.
        self._edge = 1 + 1 / (torch.tensor(letterbox.model_size[::-1], device=device) - 1)

    def draw(self, moved: Moved, enlarged: np.ndarray) -> np.ndarray:
        """The moved image at the source's size.

        Args:
            moved: of this source.
            enlarged: its prediction at the source's size, uint8 (H, W, 3).
        """
        height, width = enlarged.shape[:2]
        shifts = moved.flows - identity_flow(moved.flows)
        rows = max(1, self._band // width)
        drawn = np.empty_like(enlarged)
        for top in range(0, height, rows):
            band = slice(top, min(top + rows, height))
            points = self._points(band)
            visible = torch.ones_like(points[..., :1])
            for shift, kept in zip(shifts, moved.visible, strict=True):
                visible = visible * _sample(kept, points)
                points = points + _sample(shift.permute(2, 0, 1), points)
                visible = visible * (points.abs() <= self._edge).all(dim=-1, keepdim=True)
            own = ops.grid_sample(
                self._source, self._to_source(points)[None], padding_mode="border", align_corners=False
            )
            mixed = torch.lerp(to_tensor(enlarged[band]).to(own), own[0], visible.permute(2, 0, 1))
            drawn[band] = to_uint8(mixed)
        return drawn

    def _points(self, rows: slice) -> Tensor:
        """Some rows of pixels of the source's size as points (rows, W, 2) of the model's image, in [-1, 1]."""
        box, device = self._letterbox, self._source.device
        axes = []
        for place, start, content, side, model in (
            (torch.arange(box.image_size[1]), box.left, box.width, box.image_size[1], box.model_size[1]),
            (torch.arange(rows.start, rows.stop), box.top, box.height, box.image_size[0], box.model_size[0]),
        ):
            pixel = start + (place.to(device, torch.float32) + 0.5) * (content / side) - 0.5
            axes.append(2 * pixel / (model - 1) - 1)
        return torch.stack(torch.meshgrid(*axes, indexing="xy"), dim=-1)

    def _to_source(self, points: Tensor) -> Tensor:
        """Points (h, w, 2) of the model's image -> of the source, both in [-1, 1], the latter from edge to edge."""
        box = self._letterbox
        model, start, content = (
            points.new_tensor(pair) for pair in (box.model_size[::-1], (box.left, box.top), (box.width, box.height))
        )
        pixel = (points + 1) / 2 * (model - 1)
        return 2 * (pixel - start + 0.5) / content - 1


def _sample(image: Tensor, points: Tensor) -> Tensor:
    """Image (C, H, W) at points (h, w, 2) -> (h, w, C)."""
    sampled = ops.grid_sample(image[None].float(), points[None], padding_mode="border", align_corners=True)
    return sampled[0].permute(1, 2, 0)
