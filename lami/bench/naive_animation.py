"""What one gets by gluing the method onto TPSMM's demo: the other side of `lami bench animate`.

The same networks, equations and images as `lami.animation.Animator` in absolute mode (tests/bench/test_animate.py),
with the habits of the code that this method would grow from: fp32, plain PyTorch ops, one driving frame at a time, one
candidate after the other; each call of the generator encodes its source anew, and the transformer sees one image at a
time, the source again for each frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lami import ops
from lami.interpolation import eq4_cost, pick
from lami.model import LAMI


class NaiveAnimation:
    """One source, moved by one driving frame at a time.

    Args:
        model: in eval mode and fp32, interpolation without options that the presets do not use.
        source: (1, 3, H, W) in [0, 1].
        times: candidate times of Eq. 4; none for the single stage of TPSMM.
    """

    def __init__(self, model: LAMI, source: Tensor, times: Sequence[float]) -> None:
        self.model = model
        self.source = source
        self.times = times
        with torch.inference_mode():
            self.kp_source = model.detect_keypoints(source)

    @torch.inference_mode()
    def __call__(self, driving: Tensor) -> tuple[Tensor, float]:
        """Driving frame (1, 3, H, W) in [0, 1] -> the moved source (1, 3, H, W), and the selected time."""
        with ops.use_backend("reference"):
            kp_driving = self.model.detect_keypoints(driving)
            if not self.times:
                return self._generate(self.source, self.kp_source, kp_driving), 0.0
            time, image, keypoints = self._select(kp_driving)
            return self._generate(image, keypoints, kp_driving), time

    def _select(self, kp_driving: Tensor) -> tuple[float, Tensor, Tensor]:
        """Eq. 1 to 4: time, image and keypoints of the best candidate."""
        keypoints = [torch.lerp(self.kp_source, kp_driving, time) for time in self.times]
        images = [self._generate(self.source, self.kp_source, candidate) for candidate in keypoints]
        best = 0
        if len(self.times) > 1:
            cls = torch.stack([self.model.class_tokens(image) for image in images], dim=1)
            cls_source = self.model.class_tokens(self.source)
            best = int(pick(eq4_cost(cls_source, cls, torch.stack(keypoints, dim=1), kp_driving)))
        return self.times[best], images[best], keypoints[best]

    def _generate(self, image: Tensor, kp_image: Tensor, kp_target: Tensor) -> Tensor:
        return self.model.generate(image, self.model.predict_motion(image, kp_target, kp_image)).prediction
