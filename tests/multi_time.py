"""The multi-time ops and their gradients beside the float64 reference, for any library and device that has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lami.ops import reference

TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}
"""Of the error relative to the largest value, after arithmetic in fp32 or better and rounding to the dtype."""


def assert_close(got: Tensor, wanted: Tensor, dtype: torch.dtype, what: str) -> None:
    assert got.shape == wanted.shape, what
    if wanted.numel() == 0:
        return
    error = (got.double().cpu() - wanted.double().cpu()).abs().max().item()
    size = max(wanted.abs().max().item(), 1e-3)
    assert error <= TOLERANCE[dtype] * size, f"{what}: error {error:.3g} beside values up to {size:.3g}"


def exact(tensor: Tensor) -> Tensor:
    """A leaf on the CPU in float64."""
    return tensor.detach().double().cpu().requires_grad_()


class MultiTime:
    """Calls `torch.ops.<namespace>` on a device; each check compares values and all gradients."""

    def __init__(self, namespace: str, device: str) -> None:
        self.namespace, self.device = namespace, device

    def call(self, name: str, *arguments: Any) -> Any:
        return getattr(getattr(torch.ops, self.namespace), name).default(*arguments)

    def random(self, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.rand(shape, dtype=torch.float64).mul(1.6).sub(0.8).to(self.device, dtype)

    def check_fit(self, leading: Sequence[int], n: int, dtype: torch.dtype) -> None:
        points, values = self.random(*leading, n, 2, dtype=dtype), self.random(*leading, n, 2, dtype=dtype)
        theta, weights = self.call("fit_tps", points, values, 0.01)
        inputs = [exact(points), exact(values)]
        outputs = reference.fit_tps(*inputs)
        compute = torch.promote_types(dtype, torch.float32)
        assert theta.dtype == weights.dtype == compute
        assert_close(theta, outputs[0], compute, "theta")
        assert_close(weights, outputs[1], compute, "weights")
        grads = [torch.randn_like(output) for output in outputs]
        wanted = torch.autograd.grad(outputs, inputs, grads)
        grads = [grad.to(self.device, compute) for grad in grads]
        got = self.call("fit_tps_backward", *grads, points, theta, weights, 0.01)
        assert_close(got[0], wanted[0], dtype if dtype != torch.float32 else torch.float32, "grad control_points")
        assert_close(got[1], wanted[1], compute, "grad values")

    def check_keypoints(self, b: int, t: int, k: int, n: int, dtype: torch.dtype) -> None:
        source, driving = self.random(b, k, n, 2, dtype=dtype), self.random(b, k, n, 2, dtype=dtype)
        times = torch.rand(b, t).to(self.device, dtype)
        got = self.call("anytime_keypoints", source, driving, times)
        inputs = [exact(tensor) for tensor in (source, driving, times)]
        wanted = reference.anytime_keypoints(*inputs)
        assert got.dtype == dtype
        assert_close(got, wanted, dtype, "keypoints")
        grad = torch.randn_like(wanted).to(dtype)
        grads = self.call("anytime_keypoints_backward", grad.to(self.device), source, driving, times)
        for name, mine, other in zip(
            ("source", "driving", "times"), grads, torch.autograd.grad(wanted, inputs, grad.double()), strict=True
        ):
            assert_close(mine, other, dtype, f"grad {name}")

    def features_inputs(
        self, shape: tuple[int, int, int, int], t: int, k: int, n: int, dtype: torch.dtype, background: bool
    ) -> list[Tensor | None]:
        b = shape[0]
        coordinates = torch.promote_types(dtype, torch.float32)
        maps = torch.eye(3, dtype=torch.float64) + 0.1 * torch.randn(b, t, 3, 3, dtype=torch.float64)
        return [
            torch.rand(shape, dtype=torch.float64).to(self.device, dtype),
            self.random(b, k, n, 2, dtype=coordinates),
            self.random(b, k, n, 2, dtype=coordinates),
            (torch.rand(b, t) * 0.8 + 0.1).to(self.device, coordinates),
            maps.to(self.device, coordinates) if background else None,
        ]

    def check_features(
        self,
        inputs: list[Tensor | None],
        deterministic: bool = False,
        needs: Sequence[bool] = (True, True, True, True),
        variance: float = 0.02,
    ) -> None:
        source = inputs[0]
        assert source is not None
        got = self.call("anytime_motion_features", *inputs, variance)
        leaves = [None if tensor is None else exact(tensor) for tensor in inputs]
        wanted = reference.anytime_motion_features(*leaves, variance)
        assert got.dtype == source.dtype
        assert got.is_contiguous()
        assert_close(got, wanted, source.dtype, "features")
        grad = torch.randn_like(wanted).to(source.dtype)
        every = torch.autograd.grad(wanted, [leaf for leaf in leaves if leaf is not None], grad.double())
        grads = self.call(
            "anytime_motion_features_backward", grad.to(self.device), *inputs, variance, *needs, deterministic
        )
        names = ("source", "kp_source", "kp_driving", "times", "background")
        needed = (needs[0], needs[1], needs[1], needs[2], needs[3])
        for i, name in enumerate(names):
            if inputs[i] is None or not needed[i]:
                assert grads[i].shape == (0,), name
            else:
                assert grads[i].dtype == inputs[i].dtype, name
                assert_close(grads[i], every[i], source.dtype, f"grad {name}")

    def check_warp(
        self,
        features: list[Tensor],
        flow: Tensor,
        masks: list[Tensor],
        deterministic: bool = False,
        needs: Sequence[bool] = (True, True, True),
    ) -> None:
        warped = self.call("anytime_warp", features, flow, masks)
        leaves = [exact(tensor) for tensor in features], exact(flow), [exact(tensor) for tensor in masks]
        wanted = reference.anytime_warp(leaves[0], leaves[1], leaves[2] or None)
        for i, level in enumerate(features):
            assert warped[i].dtype == level.dtype
            assert_close(warped[i], wanted[i], level.dtype, f"level {i}")
        grads = [torch.randn_like(level).to(features[i].dtype) for i, level in enumerate(wanted)]
        every = torch.autograd.grad(
            wanted, [*leaves[0], leaves[1], *leaves[2]], [grad.double() for grad in grads], allow_unused=True
        )
        there = [grad.to(self.device) for grad in grads]
        of_features, of_flow, of_masks = self.call(
            "anytime_warp_backward", there, features, flow, masks, *needs, deterministic
        )
        coarsest = max((level.dtype for level in features), key=TOLERANCE.__getitem__)
        for i, level in enumerate(features):
            if needs[0]:
                assert of_features[i].dtype == level.dtype
                assert_close(of_features[i], every[i], level.dtype, f"grad features {i}")
            else:
                assert of_features[i].shape == (0,)
        if needs[1]:
            assert_close(of_flow, every[len(features)], coarsest, "grad flow")
        else:
            assert of_flow.shape == (0,)
        for i, mask in enumerate(masks):
            if needs[2]:
                assert of_masks[i].dtype == mask.dtype
                assert_close(of_masks[i], every[len(features) + 1 + i], features[i].dtype, f"grad mask {i}")
            else:
                assert of_masks[i].shape == (0,)
