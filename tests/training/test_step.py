"""One training step: which losses there are, and what each of them is made of."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from tiny import tiny_config, tiny_model, tiny_pair
from torch import Tensor
from torch.testing import assert_close

from lami.configs import load_config
from lami.interpolation import generate_candidates
from lami.model import LAMI
from lami.models import ContributionDropout
from lami.training import step as step_module
from lami.training.step import StepState, TrainingStep

Overrides = dict[str, Any]

TPSMM = {
    "interpolation.enabled": False,
    "losses": {"bidirectional": False, "feature": 0, "appearance": 0, "structure": 0},
}
MODEL1 = {"losses": {"bidirectional": False, "feature": 0, "appearance": 0, "structure": 0}}
MODEL2 = {"losses": {"appearance": 0, "structure": 0}}
FULL: Overrides = {}
V2 = {"interpolation.fusion": "occlusion"}
LITERAL = {"losses": load_config("paper_literal").losses.model_dump(exclude={"vgg", "scales"})}

REGULARIZERS = {"equivariance", "warp", "background"}
EQ9 = {"reconstruction", "feature", "appearance", "structure"}

ONLY = {"reconstruction": 0, "feature": 0, "appearance": 0, "structure": 0, "equivariance": 0, "warp": 0}
"""No loss but the background's; that of the pixels is the cheapest to add."""


def create(overrides: Overrides) -> tuple[LAMI, TrainingStep]:
    config = tiny_config(overrides)
    model = tiny_model(config)
    return model, TrainingStep(model, config.losses, config.training.selector)


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


# --- which losses


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (TPSMM, {"reconstruction"} | REGULARIZERS),
        (MODEL1, {"reconstruction"} | REGULARIZERS),
        (MODEL2, {"reconstruction", "feature"} | REGULARIZERS),
        (FULL, EQ9 | REGULARIZERS),
        (V2, EQ9 | REGULARIZERS),
        (LITERAL, EQ9),
    ],
    ids=["tpsmm", "model1", "model2", "full", "v2", "paper_literal"],
)
def test_rows_of_the_ablation(overrides: Overrides, names: set[str]) -> None:
    model, step = create(overrides)
    losses = step(*tiny_pair(), StepState(ContributionDropout(0.3)))
    assert set(losses) == names
    assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
    total(losses).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_weights_scale_their_losses() -> None:
    names = ["reconstruction", "pixel", "feature", "appearance", "structure", "equivariance", "warp", "background"]
    pair = tiny_pair()
    results = []
    for weight in (1.0, 3.0):
        _, step = create({"losses": dict.fromkeys(names, weight), "interpolation.selector": "fixed"})
        torch.manual_seed(1)
        with torch.no_grad():
            results.append(step(*pair, StepState()))
    assert set(results[0]) == set(names)
    for name in names:
        assert_close(results[1][name], 3 * results[0][name])


def test_keypoints_alone_generate_no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    model, step = create({"losses": {**ONLY, "background": 0}})
    step.config = step.config.model_copy(update={"keypoints": 3.0})
    monkeypatch.setattr(model, "encode", lambda images: pytest.fail("an image was encoded"))
    source, driving = tiny_pair()
    model.eval()  # batch norm: detecting again gives the same
    kp_source, kp_driving = model.detect_keypoints(source), model.detect_keypoints(driving)
    wanted = torch.stack((kp_source, kp_driving), dim=1) + torch.tensor([0.25, -0.5])
    losses = step(source, driving, StepState(), wanted.detach())
    assert set(losses) == {"keypoints"}
    assert_close(losses["keypoints"].item(), 3 * 0.375)
    losses["keypoints"].backward()
    assert all(parameter.grad is not None for parameter in model.keypoint_detector.parameters())


SELECTORS = itertools.cycle(["eq4", "fixed", "random", "eq4", "random"])


@pytest.mark.parametrize(
    ("selector", "fusion", "background"),
    [
        (next(SELECTORS), *second_stage)
        for second_stage in itertools.product(
            ["none", "occlusion", "mean"], ["consistent", "identity", "full", "repredict"]
        )
    ],
)
def test_every_combination_is_finite(selector: str, fusion: str, background: str) -> None:
    _, step = create(
        {
            "interpolation": {"selector": selector, "fusion": fusion, "background": background},
            "interpolation.keypoints": "redetect" if fusion == "mean" else "reuse",
            "losses": {**ONLY, "pixel": 1},
        }
    )
    with torch.no_grad():
        losses = step(*tiny_pair(), StepState(ContributionDropout(0.5, "reference")))
    assert set(losses) == {"pixel", "background"}
    assert all(loss.isfinite() for loss in losses.values())


def test_single_occlusion_map() -> None:
    _, step = create({"model.dense_motion.multi_mask": False, "interpolation.fusion": "occlusion"})
    assert total(step(*tiny_pair(), StepState())).isfinite()


# --- the same, one direction after the other


def step_by_step(
    model: LAMI, step: TrainingStep, source: Tensor, driving: Tensor, time: float, transforms: list[Any]
) -> dict[str, Tensor]:
    """The losses of Eq. 5 to 8 and the regularisers as they are written down, without batching of directions."""
    config = step.config
    assert step.vit is not None
    kp = {"S": model.detect_keypoints(source), "D": model.detect_keypoints(driving)}
    image = {"S": source, "D": driving}
    camera = {"SD": model.predict_background(source, driving), "DS": model.predict_background(driving, source)}
    encoded = {name: model.encode(picture) for name, picture in image.items()}
    sums = {name: torch.zeros(()) for name in ("reconstruction", "pixel", "feature", "appearance", "structure", "warp")}
    between = {}
    for a, b, t in [("S", "D", time), ("D", "S", 1 - time)][: 2 if config.bidirectional else 1]:
        kp_time = (1 - t) * kp[a] + t * kp[b]
        second = (1 - t) * camera[a + b] + t * torch.eye(3)
        first = camera[a + b] @ second.inverse()
        motion = model.predict_motion(encoded[a], kp_time, kp[a], first)
        between[a] = model.generate(encoded[a], motion).prediction
        start = model.encode(between[a])
        motion = model.predict_motion(start, kp[b], kp_time, second)
        if model.interpolation.fusion == "none":
            result = model.generate(start, motion).prediction
        else:
            direct = model.predict_motion(encoded[a], kp[b], kp[a], camera[a + b])
            result = model.generator.forward_fused(
                [image[a], between[a]], [encoded[a].features, start.features], [direct, motion], "occlusion"
            ).prediction
            sums["warp"] += step_module.warp_consistency(
                encoded[a].features, direct.flow, encoded[b].features, direct.occlusions
            )
        sums["reconstruction"] += step.perceptual(result, image[b])
        sums["pixel"] += (result - image[b]).abs().mean()
        real, fake = step.vit(image[b]), step.vit(result)
        sums["appearance"] += step_module.appearance_loss(fake.cls, real.cls)
        sums["structure"] += step_module.structure_loss(fake.keys, real.keys)
        sums["warp"] += step_module.warp_consistency(
            start.features, motion.flow, encoded[b].features, motion.occlusions
        )
    if config.bidirectional:
        first_vit, second_vit = step.vit(between["S"]), step.vit(between["D"])
        sums["appearance"] += step_module.appearance_loss(first_vit.cls, second_vit.cls)
        sums["structure"] += step_module.structure_loss(first_vit.keys, second_vit.keys)
        sums["feature"] += step_module.feature_consistency(
            model.generator.encode(between["S"]), model.generator.encode(between["D"])
        )
    else:
        del sums["feature"]
    equivariance = [
        (kp[name] - transform.keypoints(model.detect_keypoints(transform.image(image[name])))).abs().mean()
        for name, transform in zip("DS" if config.bidirectional else "D", transforms, strict=False)
    ]
    sums["equivariance"] = torch.stack(equivariance).mean()
    sums["background"] = (torch.eye(3) - camera["SD"] @ camera["DS"]).abs().mean()
    return {name: 10 * value for name, value in sums.items()}


@pytest.mark.parametrize(("bidirectional", "fusion"), [(True, "none"), (False, "none"), (True, "occlusion")])
def test_batched_directions_equal_separate_passes(
    bidirectional: bool, fusion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, step = create(
        {
            "interpolation": {"selector": "fixed", "fixed_time": 0.3, "fusion": fusion},
            "losses": {"bidirectional": bidirectional, "pixel": 10, "feature_encoder": "shared"},
        }
    )
    source, driving = tiny_pair()
    transforms = [step_module.RandomTPS(2, model.device) for _ in range(2)]
    remaining = iter(transforms)
    monkeypatch.setattr(step_module, "RandomTPS", lambda batch, device: next(remaining))
    gradients = []
    results = []
    for compute in (
        lambda: step(source, driving, StepState()),
        lambda: step_by_step(model, step, source, driving, 0.3, transforms),
    ):
        losses = compute()
        results.append({name: loss.detach() for name, loss in losses.items()})
        model.zero_grad()
        total(losses).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert_close(results[0], results[1], atol=1e-5, rtol=1e-4)
    # In norms: an absolute difference and a bilinear tap have kinks, at which the last bit decides single elements.
    largest = max(gradient.norm().item() for gradient in gradients[1].values())
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[1].items():
        difference = (gradients[0][name] - gradient).norm().item()
        assert difference <= 3e-2 * gradient.norm().item() + 1e-5 * largest, name


# --- selection


@pytest.fixture
def interpolated(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Times, keypoints and images of every call that makes interpolated images; the images are leaves."""
    calls: list[dict[str, Tensor]] = []

    def recorded(networks: LAMI, source: Any, kp_source: Tensor, kp_driving: Tensor, times: Tensor, *rest: Any) -> Any:
        images, keypoints, motion = generate_candidates(networks, source, kp_source, kp_driving, times, *rest)
        images = images.detach().requires_grad_(torch.is_grad_enabled())
        calls.append({"times": times, "keypoints": keypoints, "images": images})
        return images, keypoints, motion

    monkeypatch.setattr(step_module, "generate_candidates", recorded)
    return calls


@pytest.mark.parametrize("bidirectional", [True, False])
def test_candidates_are_made_without_gradient_and_dropout(bidirectional: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, step = create({"losses": {**ONLY, "pixel": 1, "bidirectional": bidirectional}})
    motions: list[tuple[int, bool, bool]] = []
    decode = model.dense_motion.decode

    def recorded(features: Tensor, *arguments: Any) -> Any:
        motions.append((len(features), torch.is_grad_enabled(), arguments[-1] is not None))
        return decode(features, *arguments)

    monkeypatch.setattr(model.dense_motion, "decode", recorded)
    generated: list[tuple[int, bool]] = []
    model.generator.register_forward_hook(
        lambda module, inputs, output: generated.append((len(output.prediction), torch.is_grad_enabled()))
    )
    step(*tiny_pair(2), StepState(ContributionDropout(0.3)))
    b = 4 if bidirectional else 2
    assert motions == [(6, False, False), (b, True, True), (b, True, True)]
    assert generated == [(6, False), (b, True), (b, True)]


def test_reverse_direction_goes_through_the_same_keypoints(interpolated: list[dict[str, Tensor]]) -> None:
    _, step = create({"interpolation.selector": "random", "losses": {**ONLY, "pixel": 1}})
    with torch.no_grad():
        step(*tiny_pair(8), StepState())
    (call,) = interpolated
    assert_close(call["times"][8:], 1 - call["times"][:8])
    assert {round(t, 6) for t in call["times"][:8, 0].tolist()} == {0.3, 0.5, 0.7}  # drawn for each sample
    assert_close(call["keypoints"][8:], call["keypoints"][:8])


def test_eq4_selects_what_the_model_would(interpolated: list[dict[str, Tensor]]) -> None:
    model, step = create({"interpolation.times": (0.2, 0.8), "losses": {**ONLY, "pixel": 1}})
    source, driving = tiny_pair(8)
    with torch.no_grad():
        step(source, driving, StepState(ContributionDropout(0.5)))
        kp_source, kp_driving = model.detect_keypoints(source), model.detect_keypoints(driving)
        background = model.predict_background(source, driving)
        best = model.candidates(model.encode(source), kp_source, kp_driving, background=background).best()
    assert len(interpolated) == 2
    assert_close(interpolated[1]["times"][:8, 0], torch.tensor([0.2, 0.8])[best])


@pytest.mark.parametrize(
    ("settings", "time"),
    [
        ({"interpolation.selector": "fixed", "interpolation.fixed_time": 0.4}, 0.4),
        ({"interpolation.times": (0.6,)}, 0.6),
        ({"training.selector": "fixed"}, 0.5),
    ],
)
def test_without_a_choice_no_transformer_is_made(
    settings: Overrides, time: float, interpolated: list[dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LAMI, "vit", lambda self: pytest.fail("the transformer was asked for"))
    _, step = create({**settings, "losses": {**ONLY, "pixel": 1}})
    with torch.no_grad():
        step(*tiny_pair(), StepState())
    (call,) = interpolated
    assert_close(call["times"], torch.tensor([[time], [time], [1 - time], [1 - time]]))


# --- batch norm statistics


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("second_stage", [("reuse", "consistent"), ("redetect", "repredict")])
def test_statistics_come_from_real_images_alone(second_stage: tuple[str, str], bidirectional: bool) -> None:
    overrides = {
        "interpolation": {"keypoints": second_stage[0], "background": second_stage[1], "selector": "fixed"},
        "losses": {**ONLY, "pixel": 1, "equivariance": 1, "bidirectional": bidirectional},
    }
    model, step = create(overrides)
    networks = {"detector": model.keypoint_detector, "predictor": model.background_predictor}
    seen: dict[str, list[tuple[bool, tuple[Tensor, ...]]]] = {name: [] for name in networks}
    for name, network in networks.items():
        assert network is not None
        network.register_forward_pre_hook(
            lambda module, inputs, name=name: seen[name].append((module.training, tuple(x.detach() for x in inputs)))
        )
    source, driving = tiny_pair()
    total(step(source, driving, StepState())).backward()

    trained = {name: [inputs for training, inputs in calls if training] for name, calls in seen.items()}
    generated = {name: len(calls) - len(trained[name]) for name, calls in seen.items()}
    assert generated == dict.fromkeys(networks, 0 if second_stage[0] == "reuse" else 1)
    # Last, as the backward pass of evaluation mode uses the running statistics, which training calls change.
    for calls in seen.values():
        modes = [training for training, _ in calls]
        assert modes == sorted(modes, reverse=True)
    # Source, driving frame, and the two or, in one direction, the driving frame transformed.
    assert len(trained["detector"]) == (4 if bidirectional else 3)
    assert torch.equal(trained["detector"][0][0], source)
    assert torch.equal(trained["detector"][1][0], driving)
    for (a, b), (x, y) in zip(trained["predictor"], [(source, driving), (driving, source)], strict=True):
        assert torch.equal(a, x)
        assert torch.equal(b, y)
    # Replaying these calls gives the statistics, and nothing else has touched them.
    fresh, _ = create(overrides)
    for name, network in (("detector", fresh.keypoint_detector), ("predictor", fresh.background_predictor)):
        assert network is not None
        for inputs in trained[name]:
            network(*inputs)
        buffers = dict(networks[name].named_buffers())  # type: ignore[union-attr]
        assert any("running_mean" in key for key in buffers)
        assert all(torch.equal(buffers[key], buffer) for key, buffer in network.named_buffers())
        assert network.training
        assert all(module.training for module in networks[name].modules())  # type: ignore[union-attr]


# --- where gradients go


@pytest.mark.parametrize(("mode", "reaches_encoder"), [("frozen", False), ("shared", True)])
def test_feature_loss_and_the_encoder(mode: str, reaches_encoder: bool, interpolated: list[dict[str, Tensor]]) -> None:
    model, step = create(
        {
            "interpolation.selector": "fixed",
            "losses": {**ONLY, "background": 0, "feature": 1, "feature_encoder": mode},
        }
    )
    losses = step(*tiny_pair(), StepState())
    assert set(losses) == {"feature"}
    losses["feature"].backward()
    images = interpolated[0]["images"].grad
    assert images is not None
    assert (images.flatten(1).abs().amax(1) > 0).all()  # both images of every sample
    encoder = [*model.generator.first.parameters(), *model.generator.down_blocks.parameters()]
    assert all((parameter.grad is not None) == reaches_encoder for parameter in encoder)


def test_both_encoder_modes_have_the_same_value() -> None:
    pair = tiny_pair()
    values = []
    for mode in ("frozen", "shared"):
        _, step = create({"interpolation.selector": "fixed", "losses": {**ONLY, "feature": 1, "feature_encoder": mode}})
        values.append(step(*pair, StepState())["feature"])
    assert_close(values[0], values[1])


@pytest.mark.parametrize("detach", [True, False])
def test_detached_interpolated_image(detach: bool, interpolated: list[dict[str, Tensor]]) -> None:
    _, step = create(
        {
            "interpolation.selector": "fixed",
            "losses": {**ONLY, "background": 0, "pixel": 1, "detach_interpolated": detach},
        }
    )
    step(*tiny_pair(), StepState())["pixel"].backward()
    assert (interpolated[0]["images"].grad is None) == detach


# --- what has not started


def test_before_interpolation_starts(interpolated: list[dict[str, Tensor]]) -> None:
    model, step = create({"losses": {"appearance": 0, "structure": 0}})
    assert step.vit is not None
    step.vit.register_forward_hook(lambda *_: pytest.fail("nothing is selected yet"))
    losses = step(*tiny_pair(), StepState(interpolation=False))
    assert set(losses) == {"reconstruction"} | REGULARIZERS
    assert interpolated == []
    total(losses).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("overrides", [{}, {"model.background": None}])
def test_before_the_background_starts(overrides: Overrides) -> None:
    model, step = create({**overrides, "losses": {**ONLY, "pixel": 1}})
    losses = step(*tiny_pair(), StepState(background=False))
    assert set(losses) == {"pixel"}
    losses["pixel"].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("background_predictor."), name


# --- precision


def test_bfloat16_is_close_to_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    # Equal times: the candidates are made, and whichever is picked is the same.
    model, step = create({"interpolation.times": (0.5, 0.5)})
    pair = tiny_pair()
    transforms = [step_module.RandomTPS(2, model.device) for _ in range(2)]
    results = []
    for enabled in (False, True):
        remaining = iter(transforms)
        monkeypatch.setattr(step_module, "RandomTPS", lambda *_, remaining=remaining: next(remaining))
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses = step(*pair, StepState())
        assert all(loss.dtype == torch.float32 for loss in losses.values())
        results.append({name: loss.item() for name, loss in losses.items()})
    for name, value in results[0].items():
        assert results[1][name] == pytest.approx(value, rel=0.15, abs=0.01), name
    # Casts of weights made while candidates are generated without gradient must not be reused with gradient.
    total(losses).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_source_equal_to_driving_is_finite() -> None:
    model, step = create({})
    image, _ = tiny_pair()
    losses = step(image, image, StepState())
    assert all(loss.isfinite() for loss in losses.values())
    total(losses).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
