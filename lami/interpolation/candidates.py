"""Images at times between source and driving pose (Eq. 1 to 3)."""

from __future__ import annotations

from torch import Tensor

from lami import ops
from lami.models import ContributionDropout, EncodedImage, Motion, Networks


def generate_candidates(
    networks: Networks,
    source: EncodedImage,
    kp_source: Tensor,
    kp_driving: Tensor,
    times: Tensor,
    background: Tensor | None = None,
    dropout: ContributionDropout | None = None,
) -> tuple[Tensor, Tensor, Motion]:
    """Interpolated images, their keypoints, and the motion that made them; the source is encoded once for all times.

    Args:
        source: B encoded sources, or a single one for all samples.
        kp_source, kp_driving: (B, K, N, 2).
        times: (T,) or (B, T), strictly between 0 (source) and 1 (driving).
        background: (B, T, 3, 3) from interpolated to source coordinates; None is the identity.
        dropout: contribution dropout while training.

    Returns:
        images (B, T, 3, H, W) in [0, 1], keypoints (B, T, K, N, 2), and motion of B * T samples.
    """
    kp_times = ops.anytime_keypoints(kp_source, kp_driving, times)
    b, t = kp_times.shape[:2]
    low_res = source.low_res.expand(b, *source.low_res.shape[1:])
    features = ops.anytime_motion_features(low_res, kp_source, kp_driving, times, background)
    motion = networks.dense_motion.decode(
        features.flatten(0, 1),
        kp_times.flatten(0, 1),
        kp_source[:, None].expand_as(kp_times).flatten(0, 1),
        None if background is None else background.flatten(0, 1),
        dropout,
    )
    generated = networks.generator(source.image, source.features, motion, repeat=b * t // len(source))
    return generated.prediction.unflatten(0, (b, t)), kp_times, motion
