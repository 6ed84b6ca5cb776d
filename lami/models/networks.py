"""The networks of one model and what each of them answers, with everything about a source computed once."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from lami.configs.schema import AVDConfig, ModelConfig
from lami.models.avd import AVDNetwork
from lami.models.background_predictor import BackgroundPredictor
from lami.models.dense_motion import ContributionDropout, DenseMotionNetwork, Motion
from lami.models.generator import Generated, Generator
from lami.models.keypoint_detector import KeypointDetector
from lami.models.size import check_image_size


@dataclass
class EncodedImage:
    """An image with all that motion transfer needs of it, whatever the driving pose.

    image (B, 3, H, W) in [0, 1]; low_res (B, 3, h, w); features: generator features, coarse to fine.
    """

    image: Tensor
    low_res: Tensor
    features: list[Tensor]

    def __len__(self) -> int:
        return len(self.image)

    def expand(self, batch: int) -> EncodedImage:
        """The same single image for a whole batch, without copies."""
        image, low_res, *features = (
            level.expand(batch, *level.shape[1:]) for level in (self.image, self.low_res, *self.features)
        )
        return EncodedImage(image, low_res, features)

    def rows(self, rows: slice) -> EncodedImage:
        """Some samples of the batch."""
        return EncodedImage(self.image[rows], self.low_res[rows], [level[rows] for level in self.features])


class Networks(nn.Module):
    """Keypoint detector, background predictor, dense motion network, generator and, once trained, AVD network.

    Raises:
        ConfigError: the configured image size or scale does not fit the networks.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        check_image_size(config, *config.image_size)
        self.config = config
        self.keypoint_detector = KeypointDetector(config)
        self.background_predictor = BackgroundPredictor(config.background) if config.background else None
        self.dense_motion = DenseMotionNetwork(config)
        self.generator = Generator(config)
        self.avd: AVDNetwork | None = None
        if config.avd is not None:
            self.add_avd(config.avd)

    def add_avd(self, config: AVDConfig) -> AVDNetwork:
        """A fresh AVD network, in place of any there was."""
        self.config = self.config.model_copy(update={"avd": config})
        self.avd = AVDNetwork(self.config, config)
        return self.avd

    def encode(self, image: Tensor) -> EncodedImage:
        """Image (B, 3, H, W) in [0, 1] -> `EncodedImage`.

        Raises:
            ConfigError: a side is not a multiple of `lami.models.size_multiple`.
        """
        check_image_size(self.config, *image.shape[-2:])
        return EncodedImage(image, self.dense_motion.down(image), self.generator.encode(image))

    def detect_keypoints(self, image: Tensor) -> Tensor:
        """Image (B, 3, H, W) in [0, 1] -> keypoints (B, K, N, 2), (x, y) in [-1, 1]."""
        return self.keypoint_detector(image)

    def predict_background(self, source: Tensor, driving: Tensor) -> Tensor | None:
        """Camera motion between two images (B, 3, H, W) -> (B, 3, 3), from driving to source coordinates.

        None for a model without background predictor, which the other methods take as the identity.
        """
        return None if self.background_predictor is None else self.background_predictor(source, driving)

    def predict_motion(
        self,
        source: Tensor | EncodedImage,
        kp_driving: Tensor,
        kp_source: Tensor,
        background: Tensor | None = None,
        dropout: ContributionDropout | None = None,
    ) -> Motion:
        """Motion that brings a source into the driving pose.

        Args:
            source: (B, 3, H, W) in [0, 1], or its encoding.
            kp_driving, kp_source: (B, K, N, 2).
            background: (B, 3, 3) from driving to source coordinates; None is the identity.
            dropout: contribution dropout while training.

        Returns:
            `Motion` with flow (B, h, w, 2), contributions (B, K + 1, h, w), occlusions (coarse to fine).
        """
        if isinstance(source, Tensor):
            check_image_size(self.config, *source.shape[-2:])
            low_res = self.dense_motion.down(source)
        else:
            low_res = source.low_res
        return self.dense_motion(low_res, kp_driving, kp_source, background, dropout)

    def generate(self, source: Tensor | EncodedImage, motion: Motion) -> Generated:
        """Image of the source moved by a motion: `prediction` and `deformed`, (B, 3, H, W) in [0, 1]."""
        encoded = self.encode(source) if isinstance(source, Tensor) else source
        return self.generator(encoded.image, encoded.features, motion)
