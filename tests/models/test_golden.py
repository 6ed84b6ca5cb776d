"""Our networks on the reference's weights and images give the reference's numbers."""

from __future__ import annotations

import golden
import pytest
import torch
from torch import Tensor, nn

from lami import ops
from lami.configs.schema import AVDConfig, DenseMotionConfig, GeneratorConfig, ModelConfig
from lami.models import Networks
from lami.models.layers import AntiAliasDownsample
from lami.ops._backend import missing

CONFIGS = {
    "taichi256": ModelConfig(),
    "mini64": ModelConfig(
        image_size=64,
        num_splines=4,
        dense_motion=DenseMotionConfig(block_channels=16, max_channels=64, num_blocks=3),
        generator=GeneratorConfig(block_channels=16, max_channels=64),
    ),
}
STRIDES = {"contribution_maps": 2} | dict.fromkeys(
    ["heatmap", "deformed_source", "prediction", "deformed", *(f"occlusion_{i}" for i in range(4))], 4
)
"""Images and maps of which every 2nd or 4th pixel is stored."""
FUSED_TOLERANCES = dict.fromkeys(["deformed_source", "deformed", "prediction"], 6e-5)
"""2e-5 unless given. The reference backend rounds as TPSMM does, the others are nearer to exact: at a zero-padded
border, where an image changes by up to 1 within a pixel, the last bits of a grid, 1.3e-6, move it by up to 3.7e-5."""


def tpsmm_networks(networks: Networks) -> dict[str, nn.Module]:
    background = networks.background_predictor
    return {
        "kp_detector": networks.keypoint_detector,
        **({"bg_predictor": background} if background else {}),
        "dense_motion_network": networks.dense_motion,
        "inpainting_network": networks.generator,
    }


def candidate_grids(kp_driving: Tensor, kp_source: Tensor, background: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, K + 1, h, w, 2), one motion at a time through a blend in which nothing else has weight."""
    count = kp_driving.shape[1] + 1
    logits = 200 * torch.eye(count)[..., None, None].expand(-1, -1, *size)
    keypoints = (kp.expand(count, *kp.shape[1:]) for kp in (kp_driving, kp_source))
    return ops.blend_flow(logits, *keypoints, background.expand(count, 3, 3))[0][None]


@pytest.fixture(
    scope="module",
    params=[
        ("mini64", "reference"),
        ("mini64", "native"),
        pytest.param(("mini64", "triton"), marks=pytest.mark.slow),
        ("taichi256", "reference"),
        ("taichi256", "native"),
    ],
    ids="-".join,
)
def computed(request: pytest.FixtureRequest) -> tuple[str, str, dict[str, Tensor]]:
    """Name of a case, backend of the ops, and outputs."""
    case, backend = request.param
    reason = missing(backend, "warp", "cpu")
    if reason is not None:
        pytest.skip(reason)
    config = CONFIGS[case]
    with torch.device("meta"):
        networks = Networks(config)
    networks.to_empty(device="cpu").eval()
    weights = golden.checkpoint(golden.shapes(case))
    for name, network in tpsmm_networks(networks).items():
        network.load_state_dict(weights[name])
    with torch.no_grad(), ops.use_backend(backend):
        return case, backend, compute(networks, case)


def compute(networks: Networks, case: str) -> dict[str, Tensor]:
    k, n = networks.config.num_splines, networks.config.points_per_spline
    source, driving = golden.image(case, "source"), golden.image(case, "driving")
    stored = golden.arrays(case)
    kp_source, kp_driving = (stored[f"kp_{role}_used"].unflatten(1, (k, n)) for role in ("source", "driving"))
    background = networks.predict_background(source, driving)
    assert background is not None

    encoded = networks.encode(source)
    size = encoded.low_res.shape[-2], encoded.low_res.shape[-1]
    features = ops.motion_features(encoded.low_res, kp_driving, kp_source, background)
    motion = networks.predict_motion(encoded, kp_driving, kp_source, background)
    generated = networks.generate(encoded, motion)
    warped = [
        level * occlusion
        for level, occlusion in zip(networks.generator.warp(encoded.features, motion), motion.occlusions, strict=True)
    ]
    target = [
        level * occlusion
        for level, occlusion in zip(networks.generator.encode(driving), motion.occlusions, strict=True)
    ]
    return {
        "kp_source": networks.detect_keypoints(source).flatten(1, 2),
        "kp_driving": networks.detect_keypoints(driving).flatten(1, 2),
        "bg_param": background,
        "source_down": encoded.low_res,
        "heatmap": features[:, : k * n + 1],
        "transformations": candidate_grids(kp_driving, kp_source, background, size)[:, :, ::4, ::4],
        "deformed_source": features[:, k * n + 1 :].unflatten(1, (k + 1, 3)),
        "contribution_maps": motion.contributions,
        "deformation": motion.flow,
        "deformation_no_bg": networks.predict_motion(source, kp_driving, kp_source).flow[:, ::2, ::2],
        **{f"occlusion_{i}": occlusion for i, occlusion in enumerate(motion.occlusions)},
        **{f"warped_encoder_{i}_mean": level.mean((2, 3)) for i, level in enumerate(warped)},
        "prediction": generated.prediction,
        "deformed": generated.deformed,
        "warp_loss": torch.stack([(a - b).abs().mean() for a, b in zip(warped, target, strict=True)]).sum()[None],
    }


def test_every_output_matches_the_reference(computed: tuple[str, str, dict[str, Tensor]]) -> None:
    case, backend, outputs = computed
    wanted = {name: tensor for name, tensor in golden.arrays(case).items() if not name.endswith("_used")}
    assert outputs.keys() == wanted.keys()
    for name, tensor in wanted.items():
        stride = STRIDES.get(name, 1)
        ours = outputs[name][..., ::stride, ::stride] if stride > 1 else outputs[name]
        atol = 2e-5 if backend == "reference" else FUSED_TOLERANCES.get(name, 2e-5)
        torch.testing.assert_close(ours, tensor, atol=atol, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("case", CONFIGS)
def test_state_dicts_have_the_names_shapes_and_order_of_the_reference(case: str) -> None:
    with torch.device("meta"):
        networks = Networks(CONFIGS[case])
    ours = {
        name: [(key, list(tensor.shape)) for key, tensor in network.state_dict().items()]
        for name, network in tpsmm_networks(networks).items()
    }
    assert ours == {name: list(parameters.items()) for name, parameters in golden.shapes(case).items()}


@pytest.mark.parametrize("configuration", ["taichi-256", "vox-256", "ted-384", "mgif-256"])
def test_published_names_shapes_and_optimizer_order(configuration: str) -> None:
    published = golden.published_shapes()[configuration]
    background = {} if "bg_predictor" in published else {"background": None}
    with torch.device("meta"):
        networks = Networks(ModelConfig(avd=AVDConfig(), **background))
    assert networks.avd is not None
    modules = {**tpsmm_networks(networks), "avd_network": networks.avd}
    assert modules.keys() == published.keys()
    for name, module in modules.items():
        ours = [(key, list(tensor.shape)) for key, tensor in module.state_dict().items()]
        assert ours == list(published[name].items())
    order = [
        f"{name}.{parameter}"
        for name in ("inpainting_network", "dense_motion_network", "kp_detector")
        for parameter, _ in modules[name].named_parameters()
    ]
    assert order == golden.optimizer_order(configuration)


@pytest.mark.parametrize("scale", [0.5, 0.25, 0.125])
def test_antialiasing_matches_the_reference(scale: float) -> None:
    stored = golden.arrays("antialias")
    ours = AntiAliasDownsample(3, scale)(stored["image"])
    torch.testing.assert_close(ours, stored[f"scale_{scale}"], atol=2e-5, rtol=0)
