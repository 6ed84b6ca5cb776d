"""Optimisers: what is in them, what is clipped, and what is stepped."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import tiny_config, tiny_model
from torch import Tensor, nn
from torch.optim import Adam

from lami.model import LAMI
from lami.training.optimizers import Optimizers

MAKE = Callable[..., tuple[LAMI, Optimizers]]
LARGEST = {"generator": 100.0, "dense_motion": 20.0, "keypoint_detector": 5.0, "background_predictor": 1000.0}
"""Gradients before clipping at 10."""


@pytest.fixture
def make() -> MAKE:
    def create(**overrides: Any) -> tuple[LAMI, Optimizers]:
        config = tiny_config(overrides)
        model = tiny_model(config)
        return model, Optimizers.create(model, config.training)

    return create


def set_gradients(model: LAMI) -> None:
    for name, value in LARGEST.items():
        for parameter in network(model, name).parameters():
            parameter.grad = torch.full_like(parameter, -value)
            parameter.grad.view(-1)[1:] /= 2


def network(model: LAMI, name: str) -> nn.Module:
    module = getattr(model, name)
    assert isinstance(module, nn.Module)
    return module


def values(model: LAMI, name: str) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network(model, name).parameters()]


def test_one_group_in_the_order_of_tpsmm(make: MAKE) -> None:
    model, optimizers = make()
    groups = {
        "main": ("generator", "dense_motion", "keypoint_detector"),
        "background": ("background_predictor",),
    }
    for attribute, names in groups.items():
        optimizer = getattr(optimizers, attribute)
        assert type(optimizer) is Adam
        (group,) = optimizer.param_groups
        wanted = [parameter for name in names for parameter in network(model, name).parameters()]
        assert [id(p) for p in group["params"]] == [id(p) for p in wanted]
        assert (group["betas"], group["weight_decay"], group["eps"]) == ((0.5, 0.999), 1e-4, 1e-8)


def test_settings_come_from_the_configuration(make: MAKE) -> None:
    _, optimizers = make(**{"training.betas": (0.1, 0.2), "training.weight_decay": 0.3})
    assert optimizers.main.param_groups[0]["betas"] == (0.1, 0.2)
    assert optimizers.main.param_groups[0]["weight_decay"] == 0.3


def test_each_network_is_clipped_alone_and_the_generator_never(make: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizers = make()
    set_gradients(model)
    seen: dict[str, tuple[float, float]] = {}

    def record(*names: str) -> Callable[[], None]:
        def step() -> None:
            for name in names:
                gradients = [p.grad.abs() for p in network(model, name).parameters() if p.grad is not None]
                seen[name] = (max(g.max().item() for g in gradients), min(g.min().item() for g in gradients))

        return step

    assert optimizers.background is not None
    monkeypatch.setattr(optimizers.main, "step", record("generator", "dense_motion", "keypoint_detector"))
    monkeypatch.setattr(optimizers.background, "step", record("background_predictor"))
    norms = optimizers.step(1e-3, with_background=True)
    assert {name: float(norm) for name, norm in norms.items()} == LARGEST
    assert seen == {
        "generator": (100.0, 50.0),
        "dense_motion": pytest.approx((10.0, 5.0)),  # scaled, not cut off
        "keypoint_detector": (5.0, 2.5),
        "background_predictor": pytest.approx((10.0, 5.0)),
    }
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("active", [True, False])
def test_background_predictor_moves_only_when_active(make: MAKE, active: bool) -> None:
    model, optimizers = make(**{"training.weight_decay": 0.0})
    before = {name: values(model, name) for name in LARGEST}
    set_gradients(model)
    optimizers.step(0.25, with_background=active)
    for name, old in before.items():
        # Adam's first step is the learning rate, against the sign of the gradient.
        moved = 0.25 if active or name != "background_predictor" else 0.0
        for a, b in zip(values(model, name), old, strict=True):
            torch.testing.assert_close(a - b, torch.full_like(a, moved), atol=1e-5, rtol=0)


def test_model_without_background_predictor(make: MAKE) -> None:
    model, optimizers = make(**{"model.background": None})
    assert optimizers.background is None
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers.step(1e-3, with_background=True)
    state = optimizers.state_dict()
    assert state["background"] is None
    optimizers.load_state_dict(state)


def test_state_continues_in_another_instance(make: MAKE) -> None:
    model, optimizers = make()
    set_gradients(model)
    optimizers.step(1e-3, with_background=True)
    twin, again = make()
    twin.load_state_dict(model.state_dict())
    again.load_state_dict(copy.deepcopy(optimizers.state_dict()))
    for instance, networks in ((optimizers, model), (again, twin)):
        for parameter in networks.parameters():
            parameter.grad = torch.ones_like(parameter)
        instance.step(1e-3, with_background=True)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)
