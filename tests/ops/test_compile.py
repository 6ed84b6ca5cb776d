"""Compiled and exported calls give what eager ones give, for fixed and changing sizes, with gradients."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from ops.samples import affine, keypoints, random_like
from torch import Tensor, nn
from torch.testing import assert_close

from lami import ops


def inputs(h: int, w: int, device: torch.device) -> dict[str, Tensor]:
    return {
        "image": random_like((2, 3, h, w), 0).float().to(device).requires_grad_(),
        "logits": random_like((2, 3, h, w), 1).float().to(device).requires_grad_(),
        "driving": keypoints(2, 2, 5, 1).to(device).requires_grad_(),
        "source": keypoints(2, 2, 5, 2).to(device).requires_grad_(),
        "background": affine(2).to(device).requires_grad_(),
        "flow": random_like((2, h + 1, w, 2), 2).float().to(device).requires_grad_(),
        "flows": random_like((2, 2, h, w, 2), 3).float().to(device).requires_grad_(),
        "times": torch.tensor([[0.25, 0.5], [0.3, 0.7]], device=device).requires_grad_(),
    }


CALLS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "fit_tps": lambda x: ops.fit_tps(x["driving"], x["source"]),
    "tps_grid": lambda x: ops.tps_grid(
        x["source"][..., :3, :].mT, x["source"], x["driving"], (x["image"].shape[2], x["image"].shape[3])
    ),
    "keypoint_heatmaps": lambda x: ops.keypoint_heatmaps(
        x["driving"][:, 0], x["source"][:, 0], (x["image"].shape[2], x["image"].shape[3]), 0.1
    ),
    "motion_features": lambda x: ops.motion_features(x["image"], x["driving"], x["source"], x["background"], 0.1),
    "blend_flow": lambda x: ops.blend_flow(x["logits"], x["driving"], x["source"], x["background"]),
    "warp": lambda x: ops.warp(x["image"], x["flow"]),
    "tps_warp": lambda x: ops.tps_warp(x["image"], x["logits"], x["driving"], x["source"], x["background"]),
    "grid_sample": lambda x: ops.grid_sample(x["image"], x["flow"], align_corners=True),
    "anytime_keypoints": lambda x: ops.anytime_keypoints(x["source"], x["driving"], x["times"]),
    "anytime_motion_features": lambda x: ops.anytime_motion_features(
        x["image"], x["source"], x["driving"], x["times"], x["background"], 0.1
    ),
    "anytime_warp": lambda x: ops.anytime_warp([x["image"], x["image"][..., :2]], x["flows"]),
}


def run(call: Callable[[dict[str, Tensor]], Any], x: dict[str, Tensor]) -> list[Tensor]:
    """Outputs and all gradients."""
    result = call(x)
    outputs = [result] if isinstance(result, Tensor) else list(result)
    gradients = torch.autograd.grad([y.square().sum() for y in outputs], list(x.values()), materialize_grads=True)
    return [*(y.detach() for y in outputs), *gradients]


@pytest.mark.parametrize("op", CALLS)
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.usefixtures("backend")
def test_compiled_calls_agree(device: torch.device, op: str, dynamic: bool) -> None:
    torch.compiler.reset()
    compiled = torch.compile(CALLS[op], fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for size in ((4, 5), (6, 3)) if dynamic else ((4, 5),):
        x = inputs(*size, device)
        assert_close(run(compiled, x), run(CALLS[op], x), atol=1e-6, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="Inductor needs a C++ compiler")
@pytest.mark.parametrize("op", ["motion_features", "warp", "anytime_warp"])
@pytest.mark.usefixtures("backend")
def test_inductor_agrees(device: torch.device, op: str) -> None:
    torch.compiler.reset()
    compiled = torch.compile(lambda x: [y * 2 for y in run_outputs(CALLS[op], x)], fullgraph=True)
    x = inputs(4, 5, device)
    assert_close(run(compiled, x), run(lambda x: [y * 2 for y in run_outputs(CALLS[op], x)], x), atol=1e-5, rtol=1e-5)


def run_outputs(call: Callable[[dict[str, Tensor]], Any], x: dict[str, Tensor]) -> list[Tensor]:
    result = call(x)
    return [result] if isinstance(result, Tensor) else list(result)


class Motion(nn.Module):
    """A dense motion network in miniature."""

    def __init__(self) -> None:
        super().__init__()
        self.contributions = nn.Conv2d(2 * 5 + 1 + 3 * 3, 3, 3, padding=1)

    def forward(self, image: Tensor, kp_driving: Tensor, kp_source: Tensor) -> Tensor:
        logits = self.contributions(ops.motion_features(image, kp_driving, kp_source))
        flow, _ = ops.blend_flow(logits, kp_driving, kp_source)
        return ops.warp(image, flow)


@pytest.mark.parametrize("op", ["warp"])
@pytest.mark.usefixtures("backend", "op")
def test_a_module_is_exported(device: torch.device) -> None:
    module = Motion().to(device).eval()
    arguments = tuple(inputs(6, 8, device)[name].detach() for name in ("image", "driving", "source"))
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(module, arguments, dynamic_shapes=[{0: batch}] * 3)
    assert_close(exported.module()(*arguments), module(*arguments))
    repeated = tuple(torch.cat((x, x, x)) for x in arguments)
    assert_close(exported.module()(*repeated), module(*repeated))
