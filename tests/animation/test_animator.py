from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import small_model

from lami.animation import AnimatedFrame, Animator, draw_panel, pose_distance
from lami.data import to_tensor, to_uint8, write_image
from lami.data.synthetic import SyntheticFigures
from lami.errors import CheckpointError, ConfigError, DataError
from lami.interpolation import Hysteresis
from lami.model import LAMI

CLIPS = SyntheticFigures((64, 64), 2, num_frames=7)
FRAMES = CLIPS.clip(0).frames(range(7))
SOURCE = CLIPS.clip(1).frames([0])[0]


@pytest.fixture(scope="module")
def model() -> LAMI:
    torch.manual_seed(0)
    return small_model()


def images(results: Any) -> np.ndarray:
    return np.stack([result.image for result in results])


def assert_close(first: np.ndarray, second: np.ndarray) -> None:
    """Batches of other sizes may round differently."""
    assert np.abs(first.astype(int) - second).max() <= 1


def test_absolute_mode_is_transfer(model: LAMI) -> None:
    results = list(Animator(model, SOURCE, "absolute").animate(FRAMES[:3]))
    with torch.inference_mode():
        expected = model.transfer(to_tensor(SOURCE)[None].expand(3, -1, -1, -1), to_tensor(np.stack(FRAMES[:3])))
    assert_close(images(results), to_uint8(expected.prediction))
    assert [result.selected_time for result in results] == expected.selected_time.tolist()


@pytest.mark.parametrize("granularity", ["frame", "hysteresis"])
@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_steps_agree_with_batches(model: LAMI, mode: Any, granularity: Any) -> None:
    streaming = Animator(model, SOURCE, mode, granularity=granularity)
    steps = [streaming.step(frame) for frame in FRAMES]
    batches = list(Animator(model, SOURCE, mode, granularity=granularity, batch_size=3).animate(iter(FRAMES)))
    assert_close(images(steps), images(batches))
    assert [frame.selected_time for frame in steps] == [frame.selected_time for frame in batches]


def test_the_source_is_encoded_once(model: LAMI, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    encode, tokens = model.generator.encode, model.class_tokens
    monkeypatch.setattr(model, "class_tokens", lambda x: seen.append(len(x)) or tokens(x))  # type: ignore[func-returns-value]
    encoded: list[int] = []
    monkeypatch.setattr(model.generator, "encode", lambda x: encoded.append(len(x)) or encode(x))  # type: ignore[func-returns-value]
    list(Animator(model, SOURCE, batch_size=4).animate(FRAMES))
    assert encoded == [1, 4, 3]  # the source, then the selected candidates of each batch
    assert seen == [1, 12, 9]  # the source, then three candidates of each frame


def test_relative_motion_starts_at_the_source(model: LAMI) -> None:
    animator = Animator(model, SOURCE, "relative")
    first = next(iter(animator.animate(FRAMES)))
    torch.testing.assert_close(first.keypoints, animator.source.keypoints[0])


@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_distances_of_poses(model: LAMI, mode: Any) -> None:
    animator = Animator(model, SOURCE, mode, batch_size=3)
    assert (animator.start_distance, animator.farthest_distance) == (None, 0)
    results = list(animator.animate(FRAMES))
    distances = [pose_distance(animator.source.keypoints, result.keypoints) for result in results]
    assert animator.farthest_distance == pytest.approx(max(distances), rel=1e-3)
    reference = results[0].moved.driving_keypoints
    start = pose_distance(animator.source.keypoints, reference) if mode == "relative" else None
    assert animator.start_distance == start
    animator.reset()
    assert (animator.start_distance, animator.farthest_distance) == (None, 0)


def test_each_video_has_its_own_reference(model: LAMI) -> None:
    animator = Animator(model, SOURCE)
    once = images(animator.animate(FRAMES[3:]))
    list(animator.animate(FRAMES))
    assert_close(images(animator.animate(FRAMES[3:])), once)


def test_a_given_reference_stays(model: LAMI) -> None:
    animator = Animator(model, SOURCE, reference=FRAMES[2])
    for _ in range(2):
        third = list(animator.animate(FRAMES[:3]))[2]
        torch.testing.assert_close(third.keypoints, animator.source.keypoints[0])


def test_clip_granularity_takes_the_time_of_lowest_mean_cost(model: LAMI) -> None:
    animator = Animator(model, SOURCE, "absolute", granularity="clip", batch_size=4)
    with torch.inference_mode():
        keypoints = torch.cat(list(animator.detect(FRAMES)))
        cost = animator.source.candidates(keypoints).cost
    assert cost is not None
    expected = model.interpolation.times[int(cost.mean(0).argmin())]
    results = list(animator.animate(lambda: iter(FRAMES)))
    assert [frame.selected_time for frame in results] == pytest.approx([expected] * 7)
    assert_close(images(results), images(Animator(model, SOURCE, "absolute", times=(expected,)).animate(FRAMES)))


def test_clip_granularity_cannot_stream(model: LAMI) -> None:
    animator = Animator(model, SOURCE, granularity="clip")
    with pytest.raises(ConfigError, match="twice"):
        animator.animate(iter(FRAMES))
    with pytest.raises(ConfigError, match="hysteresis"):
        animator.step(FRAMES[0])
    assert list(animator.animate([])) == []


def test_hysteresis_decides(model: LAMI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hysteresis, "pick", lambda self, cost: torch.full((len(cost),), 1))
    results = Animator(model, SOURCE, granularity="hysteresis", batch_size=2).animate(FRAMES)
    assert [frame.selected_time for frame in results] == [0.5] * 7


@pytest.mark.parametrize("granularity", ["frame", "clip", "hysteresis"])
@pytest.mark.parametrize("selector", ["eq4", "fixed", "random"])
@pytest.mark.parametrize("fusion", ["none", "occlusion"])
def test_all_selectors(selector: Any, granularity: Any, fusion: Any) -> None:
    model = small_model(selector=selector, fusion=fusion, times=(0.25, 0.5))
    results = list(Animator(model, SOURCE, granularity=granularity, batch_size=2).animate(FRAMES[:3]))
    allowed = {0.5} if selector == "fixed" else {0.25, 0.5}
    chosen = {result.selected_time for result in results}
    assert chosen <= allowed
    assert granularity != "clip" or len(chosen) == 1


@pytest.mark.parametrize("granularity", ["frame", "clip", "hysteresis"])
def test_interpolation_switched_off(granularity: Any) -> None:
    model = small_model(enabled=False)
    animator = Animator(model, SOURCE, "absolute", granularity=granularity)
    results = list(animator.animate(FRAMES[:2]))
    with torch.inference_mode():
        expected = model.transfer(to_tensor(SOURCE)[None].expand(2, -1, -1, -1), to_tensor(np.stack(FRAMES[:2])))
    assert_close(images(results), to_uint8(expected.prediction))
    assert [frame.selected_time for frame in results] == [0, 0]
    with pytest.raises(ConfigError, match="switched off"):
        Animator(model, SOURCE, times=(0.5,))


def test_background_is_predicted_when_asked_for(model: LAMI) -> None:
    still, moving = (
        list(Animator(model, FRAMES[0], "absolute", background=flag).animate(FRAMES[:2])) for flag in (False, True)
    )
    assert still[0].moved.background is None
    assert moving[0].moved.background is not None
    repredicting = small_model(background=True, selector="fixed")
    repredicting.interpolation = repredicting.interpolation.model_copy(update={"background": "repredict"})
    assert len(list(Animator(repredicting, FRAMES[0], "absolute", background=True).animate(FRAMES[:2]))) == 2
    without = small_model(background=False, selector="fixed")
    assert len(list(Animator(without, FRAMES[0], "absolute", background=True).animate(FRAMES[:2]))) == 2


def test_sizes(model: LAMI, tmp_path: Path) -> None:
    portrait = np.random.default_rng(0).integers(0, 256, (90, 45, 3), dtype=np.uint8)
    write_image(tmp_path / "portrait.png", portrait)
    frames = [np.zeros((40, 70, 3), np.uint8), np.zeros((100, 30, 3), np.uint8)]
    assert images(Animator(model, tmp_path / "portrait.png").animate(frames)).shape == (2, 64, 32, 3)
    assert images(Animator(model, portrait, size="source").animate(frames)).shape == (2, 90, 45, 3)


def test_memory_does_not_grow_with_the_video(model: LAMI) -> None:
    """Frames are asked for batch by batch, as results are taken."""
    taken = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal taken
        for frame in FRAMES:
            taken += 1
            yield frame

    results = Animator(model, SOURCE, batch_size=2).animate(frames())
    assert taken == 0
    next(results)
    assert taken == 2


def test_evaluation_mode(model: LAMI) -> None:
    training = small_model(selector="fixed").train()
    before = {name: buffer.clone() for name, buffer in training.named_buffers()}
    list(Animator(training, SOURCE).animate(FRAMES[:2]))
    assert all(torch.equal(buffer, before[name]) for name, buffer in training.named_buffers())


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "standard"},
        {"mode": "avd"},
        {"granularity": "video"},
        {"size": "large"},
        {"batch_size": 0},
        {"times": ()},
        {"times": (0.5, 1.0)},
    ],
)
def test_options_that_cannot_work(model: LAMI, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Animator(model, SOURCE, **options)


def test_images_that_cannot_work(model: LAMI, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="uint8"):
        Animator(model, np.zeros((8, 8, 3), np.float32))
    with pytest.raises(DataError, match="does not exist"):
        Animator(model, tmp_path / "none.png")
    with pytest.raises(DataError, match="RGB"):
        Animator(model, SOURCE).step(np.zeros((8, 8), np.uint8))


@pytest.mark.parametrize("network", ["keypoint_detector", "generator"])
def test_weights_that_are_not_finite(network: str) -> None:
    model = small_model(selector="fixed")
    torch.nn.init.constant_(list(getattr(model, network).parameters())[-1], float("nan"))
    with pytest.raises(CheckpointError, match=r"not finite numbers; .* diverged, use another checkpoint"):
        Animator(model, SOURCE, precision="fp32").step(FRAMES[0])
    with pytest.raises(CheckpointError, match="diverged, try precision fp32, else use another checkpoint"):
        Animator(model, SOURCE, precision="bf16").step(FRAMES[0])


def test_panel_frames_the_selected_time(model: LAMI) -> None:
    animator = Animator(model, SOURCE)
    rows = [frame.moved for frame in animator.animate(FRAMES[:2])]
    two = draw_panel(animator.source, rows, captions=["a", "b"])
    one = draw_panel(animator.source, rows[:1])
    assert two.shape[0] > 1.8 * one.shape[0]
    other: AnimatedFrame = next(iter(Animator(model, SOURCE, times=(0.4,)).animate(FRAMES)))
    wider = draw_panel(animator.source, [other.moved])
    assert wider.shape[1] > one.shape[1]  # 0.4 is not among the model's times and gets a column


def test_panel_without_interpolation() -> None:
    animator = Animator(small_model(enabled=False), SOURCE)
    rows = [frame.moved for frame in animator.animate(FRAMES[:1])]
    assert draw_panel(animator.source, rows).dtype == np.uint8
