"""What a generated frame differs from the real one by, and what a data set's figures are made of that."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lami.evaluation.estimators import Keypoints


@dataclass(frozen=True)
class KeypointErrors:
    """Differences of the keypoints of one frame; distances are nan where no point is in both.

    Attributes:
        points: found in the real frame.
        missing: of these, not found in the generated one.
        distance: mean Euclidean distance in pixels of the points in both.
        coordinate_distance: mean of |dx| and |dy| over the points in both.
        displacement: mean Euclidean distance in pixels that the points have moved since the first real frame; nan where
            none is in both.
    """

    points: int = 0
    missing: int = 0
    distance: float = math.nan
    coordinate_distance: float = math.nan
    displacement: float = math.nan


def compare_keypoints(real: Keypoints | None, generated: Keypoints | None, first: Keypoints | None) -> KeypointErrors:
    """Keypoints of a generated frame against the real one's.

    Args:
        real, generated: of the same frame; None where nothing was found.
        first: of the first real frame of the clip.
    """
    if real is None:
        return KeypointErrors()
    points = int(real.present.sum())
    displacement = _mean_distance(real, first)
    if generated is None:
        return KeypointErrors(points, points, displacement=displacement)
    both = real.present & generated.present
    difference = np.abs(real.points - generated.points)[both]
    return KeypointErrors(
        points,
        points - int(both.sum()),
        _mean_distance(real, generated),
        float(difference.mean()) if both.any() else math.nan,
        displacement,
    )


def _mean_distance(a: Keypoints, b: Keypoints | None) -> float:
    both = np.zeros_like(a.present) if b is None else a.present & b.present
    if b is None or not both.any():
        return math.nan
    return float(np.linalg.norm(a.points - b.points, axis=1)[both].mean())


@dataclass(frozen=True)
class FrameErrors:
    """One frame; nan for what was not measured or found.

    Attributes:
        l1: mean absolute difference of images in [0, 1]: of a model's floating-point images, or of the 8-bit ones where
            only those exist.
        psnr: in dB, at most 100.
        ssim, lpips: structural similarity, learned perceptual distance.
        keypoints: see `KeypointErrors`.
        identity: Euclidean distance of the embeddings; nan where one of the versions has none.
        embeddings: found in the real version: 1 or 0.
    """

    l1: float
    psnr: float
    ssim: float
    lpips: float
    keypoints: KeypointErrors
    identity: float
    embeddings: int = 0


@dataclass(frozen=True)
class Means:
    """Figures of a clip or a data set; nan for what was not measured.

    Attributes:
        frames: number of frames.
        l1, psnr, ssim, lpips: means over frames.
        akd: average keypoint distance in pixels.
        mkr: missing keypoint rate: share of the real frames' points that the generated ones lack.
        aed: average Euclidean distance of embeddings.
        real_without_keypoints: share of frames in whose real version nothing was found. They tell nothing.
        generated_without_keypoints: share of the other frames in whose generated version nothing was found. They count
            for `mkr`, and cannot for `akd`.
        real_without_identity: share of frames whose real version has no embedding. They tell nothing.
        generated_without_identity: share of the other frames whose generated version has none. They cannot count for
            `aed`.
    """

    frames: int
    l1: float
    psnr: float
    ssim: float
    lpips: float
    akd: float
    mkr: float
    aed: float
    real_without_keypoints: float
    generated_without_keypoints: float
    real_without_identity: float
    generated_without_identity: float


def summarize(frames: Sequence[FrameErrors], reference_protocol: bool = False) -> Means:
    """Figures of all frames together.

    By default each keypoint counts the same for `akd` (Euclidean) and `mkr`, whatever the frame it is in, and `aed` is
    the mean distance. With `reference_protocol`, as in the official evaluation: `akd` is the mean of |dx| and |dy|, it
    and `mkr` are averaged in each frame first, and `aed` is the mean squared distance.

    Frames do not tell whether anybody looked: where nothing was found in any, `real_without_keypoints` and
    `real_without_identity` are 1, which `Evaluation.means` makes nan for estimators that were left out.
    """
    keypoints = [frame.keypoints for frame in frames]
    seen = [k for k in keypoints if k.points > 0]
    shared = [k for k in seen if k.missing < k.points]
    described = [frame for frame in frames if frame.embeddings > 0]
    identity = [frame.identity for frame in frames if not math.isnan(frame.identity)]
    if reference_protocol:
        akd = mean(k.coordinate_distance for k in shared)
        mkr = mean(k.missing / k.points for k in seen)
        aed = mean(distance**2 for distance in identity)
    else:
        akd = _ratio(
            sum(k.distance * (k.points - k.missing) for k in shared), sum(k.points - k.missing for k in shared)
        )
        mkr = _ratio(sum(k.missing for k in seen), sum(k.points for k in seen))
        aed = mean(identity)
    return Means(
        frames=len(frames),
        l1=mean(frame.l1 for frame in frames),
        psnr=mean(frame.psnr for frame in frames),
        ssim=mean(frame.ssim for frame in frames),
        lpips=mean(frame.lpips for frame in frames),
        akd=akd,
        mkr=mkr,
        aed=aed,
        real_without_keypoints=1 - _ratio(len(seen), len(frames)),
        generated_without_keypoints=1 - _ratio(len(shared), len(seen)),
        real_without_identity=1 - _ratio(len(described), len(frames)),
        generated_without_identity=1 - _ratio(len(identity), len(described)),
    )


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean, nan for nothing."""
    known = list(values)
    return _ratio(math.fsum(known), len(known))


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan
