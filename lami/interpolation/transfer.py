"""The second stage: from an interpolated image to the driving pose."""

from __future__ import annotations

from torch import Tensor

from lami.models import ContributionDropout, EncodedImage, Generated, Motion, Networks


def transfer_from(
    networks: Networks,
    start: EncodedImage,
    kp_start: Tensor,
    kp_driving: Tensor,
    background: Tensor | None = None,
    dropout: ContributionDropout | None = None,
    view: tuple[EncodedImage, Tensor, Tensor | None] | None = None,
    fusion: str = "none",
) -> tuple[Generated, list[Motion]]:
    """Move the start image into the driving pose, optionally together with a second view, the source (V2).

    Args:
        start: encoded start image, B samples.
        kp_start, kp_driving: (B, K, N, 2).
        background: (B, 3, 3) from driving to start coordinates; None is the identity.
        dropout: contribution dropout while training, drawn for each motion anew.
        view: the source's encoding, keypoints and background (driving -> source), for `fusion` other than `none`.
        fusion: `none`, `occlusion` or `mean`.

    Returns:
        What was generated, and the motion from the start image to the driving pose, followed by the source's where
        that takes part.
    """
    motion = networks.predict_motion(start, kp_driving, kp_start, background, dropout)
    if fusion == "none" or view is None:
        return networks.generate(start, motion), [motion]
    source, kp_source, source_background = view
    source = source.expand(len(start))
    source_motion = networks.predict_motion(source, kp_driving, kp_source, source_background, dropout)
    generated = networks.generator.forward_fused(
        [source.image, start.image], [source.features, start.features], [source_motion, motion], fusion
    )
    return generated, [motion, source_motion]
