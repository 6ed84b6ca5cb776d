"""Animation via disentanglement: driving keypoints given the source's proportions (MRAA, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lami.configs.schema import AVDConfig, ModelConfig


def _perceptron(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(inputs, outputs))
        if i < len(widths) - 2:
            layers += [nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class AVDNetwork(nn.Module):
    """Keypoints of the source (identity) and of a driving frame (pose), (B, K, N, 2) each -> (B, K, N, 2)."""

    def __init__(self, config: ModelConfig, avd: AVDConfig) -> None:
        super().__init__()
        inputs = config.num_splines * config.points_per_spline * 2
        self.id_encoder = _perceptron((inputs, 256, 512, 1024, avd.identity_width))
        self.pose_encoder = _perceptron((inputs, 256, 512, 1024, avd.pose_width))
        self.decoder = _perceptron((avd.pose_width + avd.identity_width, 1024, 512, 256, inputs))

    def forward(self, kp_source: Tensor, kp_driving: Tensor) -> Tensor:
        pose = self.pose_encoder(kp_driving.flatten(1))
        identity = self.id_encoder(kp_source.flatten(1))
        return self.decoder(torch.cat((pose, identity), dim=1)).view_as(kp_driving)
