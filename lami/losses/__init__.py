"""Training losses: perceptual pyramid (Eq. 5), feature consistency (Eq. 6), ViT appearance and structure (Eq. 7 and 8),
and TPSMM's equivariance, warp and background regularisers. All are unweighted means over the batch."""

from lami.losses.features import feature_consistency
from lami.losses.perceptual import PerceptualLoss
from lami.losses.regularizers import RandomTPS, background_consistency, warp_consistency
from lami.losses.vit import appearance_loss, structure_loss

__all__ = [
    "PerceptualLoss",
    "RandomTPS",
    "appearance_loss",
    "background_consistency",
    "feature_consistency",
    "structure_loss",
    "warp_consistency",
]
