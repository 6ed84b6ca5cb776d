"""Two-stage transfer: candidates, selection, second stage."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import small_model
from torch import Tensor
from torch.testing import assert_close

from lami.errors import ConfigError
from lami.interpolation import interpolate_background
from lami.model import LAMI, Transferred

SIZE = 64
BACKGROUND = torch.tensor([[[1.1, 0.1, 0.2], [-0.2, 0.9, -0.1], [0, 0, 1]], [[0.9, 0, 0.1], [0.1, 1.2, 0], [0, 0, 1]]])


def images(count: int) -> Tensor:
    return torch.rand(count, 3, SIZE, SIZE)


@pytest.fixture(scope="module")
def model() -> LAMI:
    """Shared by the tests that leave its interpolation settings alone or set them with `configured`."""
    torch.manual_seed(0)
    return small_model()


@pytest.fixture
def configured(model: LAMI, monkeypatch: pytest.MonkeyPatch) -> Any:
    def configure(**settings: Any) -> LAMI:
        monkeypatch.setattr(model, "interpolation", model.interpolation.model_copy(update=settings))
        return model

    return configure


def transfer(model: LAMI, *arguments: Any, **options: Any) -> Transferred:
    with torch.no_grad():
        return model.transfer(*arguments, **options)


def check(result: Transferred, times: tuple[float, ...], batch: int, count: int) -> None:
    assert result.prediction.shape == result.selected_image.shape == (batch, 3, SIZE, SIZE)
    assert result.candidates.shape == (batch, count, 3, SIZE, SIZE)
    assert result.keypoints.shape == (batch, count, 4, 5, 2)
    assert result.prediction.isfinite().all()
    assert 0 <= result.prediction.min() <= result.prediction.max() <= 1
    assert result.selected_time.shape == (batch,)
    for i, time in enumerate(result.selected_time):
        assert min(abs(time - t) for t in times) < 1e-6
        assert any(torch.equal(result.selected_image[i], image) for image in result.candidates[i])


@pytest.mark.parametrize("background", ["consistent", "identity", "full", "repredict"])
@pytest.mark.parametrize("fusion", ["none", "occlusion", "mean"])
@pytest.mark.parametrize("selector", ["eq4", "fixed", "random"])
def test_every_combination(configured: Any, selector: str, fusion: str, background: str) -> None:
    model = configured(selector=selector, fusion=fusion, background=background, fixed_time=0.4)
    times = (0.4,) if selector == "fixed" else (0.3, 0.5, 0.7)
    result = transfer(model, images(2), images(2), background=BACKGROUND)
    check(result, times, 2, 3 if selector == "eq4" else 1)


def test_stages_are_those_of_the_equations(configured: Any) -> None:
    model = configured(selector="fixed", fixed_time=0.4)
    source, driving = images(2), images(2)
    result = transfer(model, source, driving, background=BACKGROUND)
    with torch.no_grad():
        kp_source, kp_driving = model.detect_keypoints(source), model.detect_keypoints(driving)
        kp_between = 0.6 * kp_source + 0.4 * kp_driving
        first, second = (x[:, 0] for x in interpolate_background(BACKGROUND, torch.tensor([0.4])))
        between = model.generate(source, model.predict_motion(source, kp_between, kp_source, first)).prediction
        wanted = model.generate(between, model.predict_motion(between, kp_driving, kp_between, second)).prediction
    assert_close(result.keypoints[:, 0], kp_between)
    assert_close(result.selected_image, between, atol=1e-5, rtol=0)
    assert_close(result.prediction, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("with_background", [True, False])
def test_candidates_are_those_made_one_by_one(model: LAMI, with_background: bool) -> None:
    source = images(2)
    background = BACKGROUND if with_background else None
    with torch.no_grad():
        kp_source, kp_driving = model.detect_keypoints(source), model.detect_keypoints(images(2))
        together = model.interpolate(source, kp_source, kp_driving, (0.3, 0.5, 0.7), background)
        each = model.interpolate(source, kp_source, kp_driving, torch.tensor([[0.3, 0.6], [0.9, 0.2]]), background)
        for times, made in (((0.3, 0.5, 0.7), together), (torch.tensor([[0.3, 0.6], [0.9, 0.2]]), each)):
            times = torch.as_tensor(times).expand(2, -1)
            for i in range(times.shape[1]):
                t = times[:, i, None, None, None]
                kp_time = (1 - t) * kp_source + t * kp_driving
                first = None if background is None else interpolate_background(background, times)[0][:, i]
                motion = model.predict_motion(source, kp_time, kp_source, first)
                assert_close(made[:, i], model.generate(source, motion).prediction, atol=1e-5, rtol=0)


def test_candidates_of_one_time_are_those_of_transfer(model: LAMI) -> None:
    source, driving = images(2), images(2)
    result = transfer(model, source, driving)
    with torch.no_grad():
        kp_source, kp_driving = model.detect_keypoints(source), model.detect_keypoints(driving)
        made = model.interpolate(source, kp_source, kp_driving, (0.3, 0.5, 0.7))
    assert_close(result.candidates, made, atol=1e-6, rtol=0)


def test_selection_is_the_cheapest_candidate(model: LAMI) -> None:
    with torch.no_grad():
        encoded = model.encode(images(3))
        kp_source, kp_driving = model.detect_keypoints(encoded.image), model.detect_keypoints(images(3))
        candidates = model.candidates(encoded, kp_source, kp_driving)
        cls_source = model.class_tokens(encoded.image)
        again = model.candidates(encoded, kp_source, kp_driving, cls_source=cls_source)
        assert candidates.cost is not None
        assert candidates.cost.shape == candidates.times.shape == (3, 3)
        assert_close(again.cost, candidates.cost)
        appearance = torch.stack(
            [(model.class_tokens(candidates.images[:, i]) - cls_source).norm(dim=1) for i in range(3)]
        )
        shares = (appearance / appearance.sum(0)).T + torch.tensor([0.7, 0.5, 0.3]) / 1.5
        assert_close(candidates.cost, shares, atol=1e-5, rtol=0)
        assert torch.equal(candidates.best(), shares.argmin(1))
        index = torch.tensor([2, 0, 1])
        completed = model.complete(encoded, kp_source, kp_driving, candidates, index)
        assert_close(completed.selected_time, torch.tensor([0.7, 0.3, 0.5]))
        assert torch.equal(completed.selected_image, candidates.images[torch.arange(3), index])


def test_source_equal_to_driving_is_finite(model: LAMI) -> None:
    source = images(2)
    result = transfer(model, source, source)
    check(result, (0.3, 0.5, 0.7), 2, 3)


@pytest.mark.parametrize(
    ("settings", "times"), [({"selector": "fixed"}, None), ({"selector": "random"}, None), ({}, (0.6,))]
)
def test_without_a_choice_no_transformer_is_needed(
    configured: Any, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], times: tuple[float, ...] | None
) -> None:
    model = configured(**settings)

    def refuse() -> None:
        raise AssertionError("the transformer was asked for")

    monkeypatch.setattr(model, "vit", refuse)
    result = transfer(model, images(2), images(2), times)
    check(result, times or (0.3, 0.5, 0.7), 2, 1)
    with pytest.raises(AssertionError, match="was asked for"):
        transfer(configured(selector="eq4"), images(1), images(1), (0.3, 0.7))


def test_random_selector_draws_each_sample(configured: Any) -> None:
    model = configured(selector="random", times=(0.2, 0.8))
    times = torch.cat([transfer(model, images(1), images(4)).selected_time for _ in range(6)])
    assert {round(t, 6) for t in times.tolist()} == {0.2, 0.8}


@pytest.fixture
def encodings(model: LAMI, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Images that the generator has encoded since."""
    seen: list[Tensor] = []
    encode = model.generator.encode

    def counted(image: Tensor) -> list[Tensor]:
        seen.append(image)
        return encode(image)

    monkeypatch.setattr(model.generator, "encode", counted)
    return seen


@pytest.mark.parametrize("fusion", ["none", "occlusion"])
def test_source_is_encoded_once(configured: Any, encodings: list[Tensor], fusion: str) -> None:
    model, source = configured(fusion=fusion), images(2)
    result = transfer(model, source, images(2))
    assert len(encodings) == 2
    assert encodings[0] is source
    assert torch.equal(encodings[1], result.selected_image)
    with torch.no_grad():
        encoded = model.encode(source)
        encodings.clear()
        transfer(model, encoded, images(2))
        transfer(model, encoded, images(2))
    assert not [image for image in encodings if image is source]
    assert len(encodings) == 2


@pytest.mark.parametrize("fusion", ["none", "mean"])
def test_one_source_serves_many_driving_frames(configured: Any, fusion: str) -> None:
    model, source, driving = configured(fusion=fusion), images(1), images(3)
    with torch.no_grad():
        together = model.transfer(model.encode(source), driving)
        for i in range(3):
            alone = model.transfer(source, driving[i : i + 1])
            assert_close(together.candidates[i : i + 1], alone.candidates, atol=1e-5, rtol=0)
            assert_close(together.selected_time[i : i + 1], alone.selected_time)
            assert_close(together.prediction[i : i + 1], alone.prediction, atol=1e-4, rtol=0)


def test_interpolation_off_is_the_single_stage(configured: Any) -> None:
    model, source, driving = configured(enabled=False), images(2), images(2)
    result = transfer(model, source, driving, background=BACKGROUND)
    with torch.no_grad():
        motion = model.predict_motion(
            source, model.detect_keypoints(driving), model.detect_keypoints(source), BACKGROUND
        )
        assert_close(result.prediction, model.generate(source, motion).prediction)
    assert result.candidates.shape == (2, 0, 3, SIZE, SIZE)
    assert result.keypoints.shape == (2, 0, 4, 5, 2)
    assert result.selected_time.tolist() == [0, 0]
    assert torch.equal(result.selected_image, source)


@pytest.mark.parametrize("fusion", ["none", "occlusion", "mean"])
@pytest.mark.parametrize("background", [None, BACKGROUND])
def test_small_motion_may_skip_the_interpolated_image(configured: Any, background: Tensor | None, fusion: str) -> None:
    source, driving = images(2), images(2)
    wanted = transfer(configured(enabled=False), source, driving, background=background)
    result = transfer(configured(enabled=True, skip_below=10.0, fusion=fusion), source, driving, background=background)
    assert result.selected_time.tolist() == [0, 0]
    assert torch.equal(result.selected_image, source)
    assert_close(result.prediction, wanted.prediction, atol=1e-5, rtol=0)
    assert result.candidates.shape[1] == 3


def test_redetected_keypoints_are_those_of_the_image(configured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = configured(keypoints="redetect", selector="fixed")
    source, driving = images(1), images(1)
    detected: list[Tensor] = []
    detect = model.detect_keypoints
    monkeypatch.setattr(model, "detect_keypoints", lambda image: detected.append(image) or detect(image))
    result = transfer(model, source, driving)
    assert len(detected) == 3
    assert torch.equal(detected[2], result.selected_image)


def test_repredicted_background_needs_the_driving_image(configured: Any) -> None:
    model = configured(background="repredict", selector="fixed")
    with torch.no_grad():
        encoded = model.encode(images(2))
        keypoints = model.detect_keypoints(encoded.image)
        candidates = model.candidates(encoded, keypoints, keypoints, background=BACKGROUND)
        with pytest.raises(ConfigError, match="'repredict' needs the driving image; pass driving="):
            model.complete(encoded, keypoints, keypoints, candidates, candidates.best(), BACKGROUND)


@pytest.mark.parametrize("times", [(), (0.0,), (0.5, 1.0), (-0.1,), (float("nan"),)])
def test_times_must_lie_between(model: LAMI, times: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="one or more numbers strictly between 0 and 1"):
        transfer(model, images(1), images(1), times)


def test_sizes_must_fit(model: LAMI) -> None:
    with pytest.raises(ConfigError, match="multiples of 32, got 50 x 50"):
        transfer(model, torch.rand(1, 3, 50, 50), images(1))


def test_gradients_reach_every_network(model: LAMI) -> None:
    model.zero_grad()
    source, driving = images(2), images(2)
    model.transfer(source, driving, background=model.predict_background(source, driving)).prediction.mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    model.zero_grad()
    assert without == []
