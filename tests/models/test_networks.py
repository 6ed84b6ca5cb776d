"""The networks in every shape that a configuration allows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from lami.configs.schema import AVDConfig, BackboneConfig, DenseMotionConfig, GeneratorConfig, ModelConfig
from lami.errors import ConfigError
from lami.models import (
    AVDNetwork,
    ContributionDropout,
    EncodedImage,
    Generated,
    Motion,
    Networks,
    check_image_size,
    size_multiple,
)
from lami.models.layers import AntiAliasDownsample

TINY_BACKBONE = BackboneConfig(args={"channels": [4, 4, 8, 8]})


def tiny(dense: dict[str, Any] | None = None, generator: dict[str, Any] | None = None, **model: Any) -> ModelConfig:
    """32x32 pixels, 2 splines of 3 points, a few channels."""
    defaults = {
        "image_size": 32,
        "num_splines": 2,
        "points_per_spline": 3,
        "detector": TINY_BACKBONE,
        "background": TINY_BACKBONE,
        "dense_motion": DenseMotionConfig(**{"block_channels": 4, "max_channels": 8, "num_blocks": 2} | (dense or {})),
        "generator": GeneratorConfig(**{"block_channels": 4, "max_channels": 8} | (generator or {})),
    }
    return ModelConfig(**defaults | model)


def run(networks: Networks, height: int, width: int, batch: int = 2) -> tuple[Motion, Generated]:
    """All networks on random images."""
    source, driving = torch.rand(2, batch, 3, height, width)
    with torch.no_grad():
        kp_source, kp_driving = networks.detect_keypoints(source), networks.detect_keypoints(driving)
        motion = networks.predict_motion(source, kp_driving, kp_source, networks.predict_background(source, driving))
        return motion, networks.generate(source, motion)


def check_shapes(config: ModelConfig, height: int, width: int) -> None:
    batch = 2
    networks = Networks(config).eval()
    motion, generated = run(networks, height, width, batch)
    scale = config.dense_motion.scale_factor
    flow_size = (int(height * scale), int(width * scale))
    assert networks.detect_keypoints(torch.rand(batch, 3, height, width)).shape == (
        batch,
        config.num_splines,
        config.points_per_spline,
        2,
    )
    assert motion.flow.shape == (batch, *flow_size, 2)
    assert motion.contributions.shape == (batch, config.num_splines + 1, *flow_size)
    assert_close(motion.contributions.sum(1), torch.ones(batch, *flow_size))
    levels = config.generator.num_down_blocks
    coarse_to_fine = [(height >> level, width >> level) for level in range(levels, -1, -1)]
    wanted = coarse_to_fine if config.dense_motion.multi_mask else [flow_size]
    assert [tuple(o.shape) for o in motion.occlusions] == [(batch, 1, *size) for size in wanted]
    assert generated.prediction.shape == generated.deformed.shape == (batch, 3, height, width)
    assert generated.prediction.isfinite().all()
    assert 0 <= generated.prediction.min() <= generated.prediction.max() <= 1


# --- sizes


@pytest.mark.parametrize(
    ("config", "multiple"),
    [
        (ModelConfig(), 128),
        (tiny(), 16),
        (tiny({"scale_factor": 1, "num_blocks": 3}), 8),
        (tiny({"scale_factor": 0.5, "num_blocks": 3}), 16),
        (tiny(generator={"num_down_blocks": 4}), 16),
        (tiny({"multi_mask": False}, {"num_down_blocks": 5}), 32),
    ],
)
def test_size_multiple(config: ModelConfig, multiple: int) -> None:
    assert size_multiple(config) == multiple
    check_image_size(config, multiple, 3 * multiple)


@pytest.mark.parametrize(
    ("height", "width", "nearest"), [(250, 224, "256 x 256"), (288, 320, "256 x 256"), (64, 400, "128 x 384")]
)
def test_wrong_size_names_the_nearest_that_works(height: int, width: int, nearest: str) -> None:
    wanted = f"multiples of 128, got {height} x {width}; resize or letterbox to {nearest}$"
    with pytest.raises(ConfigError, match=wanted):
        check_image_size(ModelConfig(), height, width)


def test_networks_reject_sizes_they_cannot_take() -> None:
    with pytest.raises(ConfigError, match="multiples of 128, got 300 x 300"):
        Networks(ModelConfig(image_size=300))
    networks = Networks(tiny())
    image, keypoints = torch.rand(1, 3, 32, 40), torch.zeros(1, 2, 3, 2)
    for call in (lambda: networks.encode(image), lambda: networks.predict_motion(image, keypoints, keypoints)):
        with pytest.raises(ConfigError, match="multiples of 16, got 32 x 40; resize or letterbox to 32 x 32"):
            call()


@pytest.mark.parametrize("scale", [0.3, 2.0, 0.0, -0.5])
def test_scale_factor_must_be_a_power_of_one_half(scale: float) -> None:
    with pytest.raises(ConfigError, match=f"scale_factor must be 1, 0.5, 0.25 .* got {scale}"):
        Networks(tiny({"scale_factor": scale}))


def test_generator_deeper_than_the_hourglass_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"use at most 4, or more model\.dense_motion"):
        Networks(tiny(generator={"num_down_blocks": 5}, image_size=64))


# --- shapes


@given(
    k=st.integers(1, 4),
    n=st.integers(3, 6),
    width=st.integers(1, 6),
    widest=st.integers(1, 12),
    sides=st.sampled_from([(32, 32), (32, 64), (48, 16), (64, 48)]),
    background=st.booleans(),
)
@settings(max_examples=8, deadline=None)
def test_any_count_width_and_size(
    k: int, n: int, width: int, widest: int, sides: tuple[int, int], background: bool
) -> None:
    config = tiny(
        {"block_channels": width + 3, "max_channels": widest + 3},  # two upsamplings halve the channels
        {"block_channels": width, "max_channels": widest},
        num_splines=k,
        points_per_spline=n,
        background=TINY_BACKBONE if background else None,
    )
    check_shapes(config, *sides)


@pytest.mark.parametrize("multi_mask", [True, False])
@pytest.mark.parametrize(
    ("scale", "num_blocks", "num_down"),
    [(1, 3, 1), (1, 3, 3), (0.5, 2, 1), (0.5, 2, 3), (0.25, 2, 1), (0.25, 2, 2), (0.25, 2, 4), (0.125, 1, 3)],
)
def test_scales_and_depths(scale: float, num_blocks: int, num_down: int, multi_mask: bool) -> None:
    dense = {"scale_factor": scale, "num_blocks": num_blocks, "multi_mask": multi_mask}
    check_shapes(tiny(dense, {"num_down_blocks": num_down}), 32, 48)


def test_single_mask_serves_all_levels() -> None:
    networks = Networks(tiny({"multi_mask": False})).eval()
    source, keypoints = torch.rand(1, 3, 32, 32), torch.rand(1, 2, 3, 2)
    with torch.no_grad():
        encoded = networks.encode(source)
        motion = networks.predict_motion(encoded, keypoints, keypoints)
        resized = [
            nn.functional.interpolate(motion.occlusions[0], level.shape[-2:], mode="bilinear", align_corners=True)
            for level in encoded.features
        ]
        each = networks.generate(encoded, Motion(motion.flow, motion.contributions, resized))
        assert_close(networks.generate(encoded, motion).prediction, each.prediction)


# --- encoding


def test_encoding_is_reused_and_expanded() -> None:
    networks = Networks(tiny()).eval()
    image, keypoints = torch.rand(1, 3, 32, 32), torch.rand(4, 2, 3, 2) * 2 - 1
    kp_driving, kp_source = keypoints[:3], keypoints[3:].expand(3, 2, 3, 2)
    with torch.no_grad():
        encoded = networks.encode(image)
        assert len(encoded) == 1
        assert encoded.low_res.shape == (1, 3, 8, 8)
        assert [level.shape[-1] for level in encoded.features] == [4, 8, 16, 32]
        many = encoded.expand(3)
        assert len(many) == 3
        assert many.image.data_ptr() == image.data_ptr()
        motion = networks.predict_motion(many, kp_driving, kp_source)
        generated = networks.generate(many, motion)
        for i in range(3):
            one = networks.predict_motion(image, kp_driving[i : i + 1], kp_source[i : i + 1])
            assert_close(motion.flow[i : i + 1], one.flow, atol=1e-5, rtol=0)
            prediction = networks.generate(image, one).prediction
            assert_close(generated.prediction[i : i + 1], prediction, atol=1e-5, rtol=0)


def test_repeated_motions_share_one_source() -> None:
    networks = Networks(tiny()).eval()
    source, keypoints = torch.rand(2, 3, 32, 32), torch.rand(6, 2, 3, 2) * 2 - 1
    with torch.no_grad():
        encoded = networks.encode(source)
        repeated = EncodedImage(
            *(x.repeat_interleave(3, 0) for x in (encoded.image, encoded.low_res)),
            [level.repeat_interleave(3, 0) for level in encoded.features],
        )
        motion = networks.predict_motion(repeated, keypoints, keypoints.roll(1, 0))
        wanted = networks.generate(repeated, motion)
        ours = networks.generator(encoded.image, encoded.features, motion, repeat=3)
    assert_close(ours.prediction, wanted.prediction)
    assert_close(ours.deformed, wanted.deformed)


@pytest.mark.parametrize("mode", ["reference", "corrected"])
def test_antialiasing_modes(mode: str) -> None:
    down = AntiAliasDownsample(3, 0.25, mode)
    white = down(torch.ones(1, 3, 32, 48))
    assert white.shape == (1, 3, 8, 12)
    # Zero padding darkens the border, replication does not.
    corner, edge = (0.40, 0.63) if mode == "reference" else (1.0, 1.0)
    assert white[0, 0, 0, 0].item() == pytest.approx(corner, abs=5e-3)
    assert white[0, 0, 0, 5].item() == pytest.approx(edge, abs=5e-3)
    assert white[0, 0, 4, 5].item() == pytest.approx(1, abs=1e-5)
    ramp = torch.linspace(-1, 1, 48).expand(1, 3, 32, 48)
    at_grid = torch.linspace(-1, 1, 12)[3:9]
    error = (down(ramp)[0, 0, 4, 3:9] - at_grid).abs().max()
    assert (error < 1e-5) == (mode == "corrected")


@pytest.mark.parametrize(("scale", "centre"), [(0.5, 0.6187), (0.25, 0.0707), (0.125, 0.01299)])
def test_antialiasing_kernels(scale: float, centre: float) -> None:
    weight = AntiAliasDownsample(3, scale).weight
    assert weight.shape[-1] == 4 * (1 / scale - 1) + 1
    middle = weight.shape[-1] // 2
    assert weight[0, 0, middle, middle].item() == pytest.approx(centre, abs=6e-5)


# --- keypoints, background, AVD, dropout


def test_keypoints_lie_inside() -> None:
    networks = Networks(tiny())
    head = networks.keypoint_detector.fg_encoder.fc
    nn.init.constant_(head.bias, 100.0)
    assert_close(networks.detect_keypoints(torch.rand(2, 3, 32, 32)), torch.ones(2, 2, 3, 2))
    nn.init.constant_(head.bias, -100.0)
    assert_close(networks.detect_keypoints(torch.rand(2, 3, 32, 32)), -torch.ones(2, 2, 3, 2))


def test_background_starts_as_the_identity() -> None:
    networks = Networks(tiny())
    transform = networks.predict_background(*torch.rand(2, 4, 3, 32, 48))
    assert_close(transform, torch.eye(3).expand(4, 3, 3), atol=0, rtol=0)
    assert Networks(tiny(background=None)).predict_background(*torch.rand(2, 4, 3, 32, 32)) is None


def test_avd_network_can_be_added_later() -> None:
    networks = Networks(tiny())
    assert networks.avd is None
    avd = networks.add_avd(AVDConfig(identity_width=5, pose_width=7))
    assert isinstance(avd, AVDNetwork)
    assert networks.avd is avd
    assert networks.config.avd == AVDConfig(identity_width=5, pose_width=7)
    assert "avd.decoder.9.weight" in networks.state_dict()
    kp_source, kp_driving = torch.rand(2, 3, 2, 3, 2)
    assert avd(kp_source, kp_driving).shape == (3, 2, 3, 2)
    avd.eval()
    # The decoder takes pose before identity.
    codes = torch.cat((avd.pose_encoder(kp_driving.flatten(1)), avd.id_encoder(kp_source.flatten(1))), dim=1)
    assert_close(avd(kp_source, kp_driving).flatten(1), avd.decoder(codes))


def test_contribution_dropout_never_drops_the_background() -> None:
    keep = ContributionDropout(0.7).draw(1000, 10, torch.device("cpu"))
    assert keep.shape == (1000, 11)
    assert keep[:, 0].all()
    assert keep[:, 1:].float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert not ContributionDropout(1.0).draw(5, 3, torch.device("cpu"))[:, 1:].any()
    assert ContributionDropout(0.0).draw(5, 3, torch.device("cpu")).all()


def test_dropping_every_spline_leaves_the_background() -> None:
    networks = Networks(tiny())
    source, keypoints = torch.rand(1, 3, 32, 32), torch.rand(1, 2, 3, 2)
    motion = networks.predict_motion(source, keypoints, keypoints.flip(1), dropout=ContributionDropout(1.0))
    ys, xs = torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="ij")
    assert_close(motion.flow[0], torch.stack((xs, ys), dim=-1), atol=1e-6, rtol=0)


# --- two views


def two_views() -> tuple[Networks, Tensor, list[EncodedImage], list[Motion]]:
    networks = Networks(tiny()).eval()
    images, keypoints = torch.rand(2, 2, 3, 32, 32), torch.rand(3, 2, 2, 3, 2) * 2 - 1
    with torch.no_grad():
        encoded = [networks.encode(image) for image in images]
        motions = [networks.predict_motion(e, keypoints[2], kp) for e, kp in zip(encoded, keypoints, strict=False)]
    return networks, images, encoded, motions


def fuse(networks: Networks, encoded: list[EncodedImage], motions: list[Motion], fusion: str) -> Generated:
    with torch.no_grad():
        return networks.generator.forward_fused(
            [e.image for e in encoded], [e.features for e in encoded], motions, fusion
        )


def test_occluded_view_changes_nothing() -> None:
    networks, _, encoded, motions = two_views()
    hidden = Motion(motions[0].flow, motions[0].contributions, [torch.zeros_like(o) for o in motions[0].occlusions])
    fused = fuse(networks, encoded, [hidden, motions[1]], "occlusion")
    with torch.no_grad():
        alone = networks.generate(encoded[1], motions[1])
    assert_close(fused.prediction, alone.prediction, atol=1e-6, rtol=0)
    assert_close(fused.deformed, alone.deformed, atol=0, rtol=0)


def test_occlusion_fusion_weighs_by_visibility() -> None:
    networks, _, encoded, motions = two_views()
    fused = fuse(networks, encoded, motions, "occlusion")
    with torch.no_grad():
        alone = [networks.generate(e, m).deformed for e, m in zip(encoded, motions, strict=True)]
    first, second = (m.occlusions[-1] ** 4 for m in motions)
    assert_close(fused.deformed, (first * alone[0] + second * alone[1]) / (first + second), atol=1e-6, rtol=0)


def test_views_hidden_everywhere_stay_finite() -> None:
    networks, _, encoded, motions = two_views()
    hidden = [Motion(m.flow, m.contributions, [torch.zeros_like(o) for o in m.occlusions]) for m in motions]
    assert fuse(networks, encoded, hidden, "occlusion").prediction.isfinite().all()


@pytest.mark.parametrize("fusion", ["occlusion", "mean"])
def test_equal_views_are_one_view(fusion: str) -> None:
    networks, _, encoded, motions = two_views()
    fused = fuse(networks, [encoded[0]] * 2, [motions[0]] * 2, fusion)
    with torch.no_grad():
        alone = networks.generate(encoded[0], motions[0])
    assert_close(fused.prediction, alone.prediction)


def test_mean_fusion_averages() -> None:
    networks, _, encoded, motions = two_views()
    mixed = fuse(networks, encoded, motions, "mean")
    with torch.no_grad():
        each = [networks.generate(e, m).deformed for e, m in zip(encoded, motions, strict=True)]
    assert_close(mixed.deformed, sum(each) / 2)
