"""The networks: keypoint detector, background predictor, dense motion network, generator and AVD network.

Nothing here knows about losses, data or training. Images are (B, 3, H, W) in [0, 1], keypoints (B, K, N, 2) as (x, y)
in [-1, 1]; see `lami.ops` for the other conventions.
"""

from lami.models.avd import AVDNetwork
from lami.models.background_predictor import BackgroundPredictor
from lami.models.dense_motion import ContributionDropout, DenseMotionNetwork, Motion
from lami.models.generator import Generated, Generator
from lami.models.keypoint_detector import KeypointDetector
from lami.models.networks import EncodedImage, Networks
from lami.models.size import check_image_size, size_multiple

__all__ = [
    "AVDNetwork",
    "BackgroundPredictor",
    "ContributionDropout",
    "DenseMotionNetwork",
    "EncodedImage",
    "Generated",
    "Generator",
    "KeypointDetector",
    "Motion",
    "Networks",
    "check_image_size",
    "size_multiple",
]
