"""Whole runs on generated figures: what they write, how they resume, and how they fail."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import CHEAP, same, tiny_config
from torch import Tensor

from lami import checkpoint
from lami.configs import load_config
from lami.configs.schema import Config
from lami.data import TrainingPairs, read_image, to_tensor
from lami.data.files import claimed
from lami.data.synthetic import SyntheticFigures
from lami.errors import CheckpointError, ConfigError, DataError, WeightsUnavailableError
from lami.training import loop, train
from lami.training.optimizers import Optimizers

Configure = Callable[..., Config]


@pytest.fixture(autouse=True)
def _cheap_panel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "panel" not in request.node.name:
        monkeypatch.setattr(loop, "training_panel", lambda *_: np.zeros((8, 8, 3), np.uint8))


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    def make(name: str = "run", **overrides: Any) -> Config:
        changes = {key.replace("__", "."): value for key, value in overrides.items()}
        return tiny_config({**CHEAP, "training.output": str(tmp_path / name), **changes})

    return make


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Pull the plug in the n-th optimiser step."""

    def install(number: int) -> None:
        steps: Iterator[int] = iter(range(1, number))
        take = Optimizers.step

        def step(self: Optimizers, *arguments: Any, **keywords: Any) -> Any:
            if next(steps, None) is None:
                monkeypatch.setattr(Optimizers, "step", take)
                raise KeyboardInterrupt
            return take(self, *arguments, **keywords)

        monkeypatch.setattr(Optimizers, "step", step)

    return install


def entries(config: Config) -> list[dict[str, float]]:
    """The log, without what differs from run to run."""
    lines = (Path(config.training.output) / "log.jsonl").read_text().splitlines()
    varying = ("samples_per_second", "peak_memory_gb")
    return [{key: value for key, value in json.loads(line).items() if key not in varying} for line in lines]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- what a run writes


def test_files_and_panels_of_a_run(configure: Configure) -> None:
    config = configure(training__max_steps=5, training__panel_every=2, training__milestones=(4,))
    path = train(config)
    output = Path(config.training.output)
    assert path == output / "model.safetensors"
    patches = {path.name for path in output.glob("*.patch")}  # where the source tree is changed
    files = {"config.yaml", "environment.jsonl", "log.jsonl", "tensorboard", "panels", "checkpoints"}
    assert names(output) - patches == files | {"model.safetensors"}
    assert load_config(output / "config.yaml") == config

    log = entries(config)
    # Every third step, and with each checkpoint.
    assert [entry["step"] for entry in log] == [2, 3, 4, 5]
    assert [entry["epoch"] for entry in log] == [1, 2, 3, 4]  # two pairs an epoch, two a step
    assert [entry["learning_rate"] for entry in log] == pytest.approx([1e-4, 1e-4, 1e-4, 1e-5])
    losses = {"pixel", "feature", "equivariance", "background"}
    for entry in log:
        schedule = {"step", "epoch", "learning_rate"}
        assert set(entry) == schedule | {"total", "gradient_norms", "selected_times"} | losses
        assert sum(entry["selected_times"].values()) == 2 * (
            1 if entry["step"] > 2 else 2
        )  # pairs since the one before
        assert entry["total"] == pytest.approx(sum(entry[name] for name in losses))

    events = EventAccumulator(str(output / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss/pixel")] == [2, 3, 4, 5]
    assert [event.value for event in events.Scalars("loss/pixel")] == pytest.approx([e["pixel"] for e in log])
    assert names(output / "panels") == {f"step-{n:08d}.png" for n in (2, 4, 5)}
    assert read_image(output / "panels" / "step-00000005.png").std() > 10

    model = checkpoint.load(path)
    assert not model.training
    assert (model.config, model.interpolation, model.vit_config) == (config.model, config.interpolation, config.vit)
    last = load_file(output / "checkpoints" / "step-00000005.safetensors")
    assert same(load_file(path), last)


def test_length_follows_the_epochs(configure: Configure) -> None:
    config = configure(training__epochs=3, training__batch_size=1, training__accumulate=2, data__repeats=2)
    train(config)
    assert entries(config)[-1]["step"] == 6  # 3 epochs of 2 clips, twice each, at 2 pairs a step
    assert entries(config)[-1]["epoch"] == 2


def test_accumulated_batches_are_one_large_one(configure: Configure) -> None:
    # Without batch norm's and random transforms' dependence on the batch, the sum of gradients is the same.
    settings = {
        "training__max_steps": 1,
        "interpolation__selector": "fixed",
        "losses": {**CHEAP["losses"], "equivariance": 0},
        "training__dropout__until_epoch": 0,
        "training__seed": 3,
    }
    seen: list[dict[str, Tensor]] = []
    take = Optimizers.step

    def step(self: Optimizers, *arguments: Any, **keywords: Any) -> Any:
        seen.append({n: p.grad.clone() for n, p in self.networks.named_parameters() if p.grad is not None})
        return take(self, *arguments, **keywords)

    detect = loop.LAMI.detect_keypoints
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Optimizers, "step", step)
        patch.setattr(loop.LAMI, "detect_keypoints", lambda self, image: detect(self.eval(), image))
        train(configure("one", training__batch_size=2, **settings))
        train(configure("two", training__batch_size=1, training__accumulate=2, **settings))
    largest = max(gradient.abs().max().item() for gradient in seen[0].values())
    torch.testing.assert_close(seen[0], seen[1], atol=1e-4 * largest, rtol=1e-3)


def test_channels_last_changes_the_layout_alone(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    innermost: list[bool] = []
    encode = loop.LAMI.encode

    def watched(self: loop.LAMI, image: Tensor) -> Any:
        layouts = {x.is_contiguous(memory_format=torch.channels_last) for x in (image, self.generator.final.weight)}
        innermost.append(layouts == {True})
        return encode(self, image)

    monkeypatch.setattr(loop.LAMI, "encode", watched)
    totals = []
    for name, channels_last in (("planes", False), ("pixels", True)):
        config = configure(name, training__max_steps=1, training__channels_last=channels_last)
        train(config)
        totals.append(entries(config)[-1]["total"])
        assert set(innermost) == {channels_last}
        innermost.clear()
    assert totals[1] == pytest.approx(totals[0], rel=1e-4)


# --- resuming


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"training__workers": 1},
        {"training__accumulate": 2, "training__batch_size": 2},
        {"training__milestones": (3,), "training__background_start_epoch": 3, "training__precision": "bf16"},
        {"losses": {}, "interpolation__selector": "eq4", "training__panel_every": 1},
        {"training__channels_last": True, "training__precision": "bf16"},
    ],
    ids=["plain", "worker", "accumulate", "schedules", "all-losses-and-panels", "channels-last"],
)
def test_interrupted_run_ends_as_an_uninterrupted_one(
    overrides: dict[str, Any], configure: Configure, interrupt: Callable[[int], None]
) -> None:
    whole = configure("whole", training__max_steps=4, **overrides)
    wanted = load_file(train(whole))
    config = configure("cut", training__max_steps=4, **overrides)
    output = Path(config.training.output)
    interrupt(4)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    assert not (output / "model.safetensors").exists()
    assert [entry["step"] for entry in entries(config)] == [2, 3]
    assert same(load_file(train(config, resume=True)), wanted)
    # The entry of step 3, after the checkpoint, is not there twice.
    assert [entry["step"] for entry in entries(config)] == [2, 3, 4]
    assert entries(config) == entries(whole)
    assert not same(load_file(output / "checkpoints" / "step-00000002.safetensors"), wanted)


def test_data_lost_between_the_batches_of_a_step(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved is the step before, batch norm statistics included, and the run goes on from there."""
    overrides = {"training__max_steps": 4, "training__accumulate": 2}
    wanted = load_file(train(configure("whole", **overrides)))
    config = configure("cut", **overrides)
    draw = TrainingPairs.__getitem__

    def lose(pairs: TrainingPairs, number: int) -> Any:
        if number == 10:  # batches of two pairs: the second one of step 3
            raise DataError("the disk is gone")
        return draw(pairs, number)

    monkeypatch.setattr(TrainingPairs, "__getitem__", lose)
    with pytest.raises(DataError, match=r"the disk is gone; step 2 is saved, .* --resume goes on from there"):
        train(config)
    monkeypatch.setattr(TrainingPairs, "__getitem__", draw)
    assert same(load_file(train(config, resume=True)), wanted)


def test_finished_run_can_be_prolonged(configure: Configure) -> None:
    wanted = load_file(train(configure("whole", training__max_steps=3)))
    train(configure("short", training__max_steps=1))
    assert same(load_file(train(configure("short", training__max_steps=3), resume=True)), wanted)
    # Resuming a run that is complete takes no step.
    assert same(load_file(train(configure("short", training__max_steps=3), resume=True)), wanted)


def test_other_seeds_are_other_runs(configure: Configure) -> None:
    first, second = (
        load_file(train(configure(f"seed {seed}", training__max_steps=1, training__seed=seed))) for seed in (1, 2)
    )
    assert not same(first, second)


def test_half_written_log_line_is_dropped(configure: Configure) -> None:
    config = configure(training__max_steps=1)
    train(config)
    with (Path(config.training.output) / "log.jsonl").open("a") as file:
        file.write('{"step": 2, "epo')
    train(configure(training__max_steps=2), resume=True)
    assert [entry["step"] for entry in entries(config)] == [1, 2]


def test_a_run_is_never_overwritten(configure: Configure) -> None:
    config = configure(training__max_steps=1)
    before = train(config).read_bytes()
    with pytest.raises(ConfigError, match=r"holds the checkpoints of another run; add --resume"):
        train(config)
    assert (Path(config.training.output) / "model.safetensors").read_bytes() == before


def test_two_runs_in_one_folder(configure: Configure) -> None:
    config = configure()
    output = Path(config.training.output)
    with claimed(output), pytest.raises(DataError, match=f"another run is writing to {output}"):
        train(config)
    assert not list(output.iterdir())


def test_nothing_to_resume(configure: Configure) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint to resume in .*; start without --resume"):
        train(configure(), resume=True)


def test_resuming_with_other_networks(configure: Configure) -> None:
    train(configure(training__max_steps=1))
    with pytest.raises(CheckpointError, match="has another model configuration than this run"):
        train(configure(training__max_steps=2, model__num_splines=3), resume=True)


@pytest.mark.parametrize("before", [(False, False), (True, False), (False, True)])
def test_resuming_with_other_kernels_and_layout(before: tuple[bool, bool], configure: Configure) -> None:
    """Moments follow their weights: the run stays near one that had the new settings all along."""
    wanted = load_file(train(configure("whole", training__max_steps=4)))
    fused, channels_last = before
    train(configure(training__max_steps=2, training__fused_adam=fused, training__channels_last=channels_last))
    found = load_file(train(configure(training__max_steps=4), resume=True))
    rate = 1e-4
    for name, tensor in wanted.items():
        if tensor.is_floating_point() and "running" not in name:
            # Wrong moments would move weights by whole steps of the learning rate.
            assert (found[name] - tensor).abs().mean() < 0.3 * rate, name


# --- checkpoints


def test_only_the_newest_checkpoints_stay(configure: Configure) -> None:
    config = configure(
        training__max_steps=4, training__checkpoint_every=1, training__keep_checkpoints=2, training__keep_best=0
    )
    train(config)
    stay = {f"step-{n:08d}.{suffix}" for n in (3, 4) for suffix in ("safetensors", "state.pt")}
    assert names(Path(config.training.output) / "checkpoints") == stay | {"losses.json"}


@pytest.mark.parametrize("missing", ["safetensors", "state.pt"])
def test_half_a_checkpoint_does_not_count(missing: str, configure: Configure) -> None:
    config = configure(training__max_steps=2, training__checkpoint_every=1)
    wanted = load_file(train(config))
    (Path(config.training.output) / "checkpoints" / f"step-00000002.{missing}").unlink()
    assert same(load_file(train(config, resume=True)), wanted)
    assert [entry["step"] for entry in entries(config)] == [1, 2]


@pytest.mark.parametrize(("broken", "share"), [("safetensors", 0.5), ("state.pt", 0.0), ("state.pt", 0.5)])
def test_truncated_checkpoint_gives_way_to_the_one_before(
    broken: str, share: float, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    config = configure(
        training__max_steps=3, training__checkpoint_every=1, training__keep_checkpoints=2, training__keep_best=0
    )
    wanted = load_file(train(config))
    checkpoints = Path(config.training.output) / "checkpoints"

    def truncate(step: int) -> None:
        path = checkpoints / f"step-{step:08d}.{broken}"
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    truncate(3)
    with caplog.at_level(logging.WARNING, logger="lami.training"):
        assert same(load_file(train(config, resume=True)), wanted)
    (warning,) = (record.getMessage() for record in caplog.records if record.name == "lami.training.checkpoints")
    assert f"step-00000003.{broken} cannot be read" in warning
    assert warning.endswith("going back to the checkpoint before")
    assert "\n" not in warning

    aside = [path.name for path in checkpoints.glob("unreadable-*")]
    assert sorted(aside) == ["unreadable-step-00000003.safetensors", "unreadable-step-00000003.state.pt"]

    truncate(2)
    truncate(3)
    with pytest.raises(CheckpointError, match=rf"step-00000002\.{broken} cannot be read") as caught:
        train(config, resume=True)
    assert "\n" not in str(caught.value)


# --- starting weights


def test_initial_weights(configure: Configure) -> None:
    start = train(configure("first", training__max_steps=2, training__learning_rate=1e-2))
    settings = {"training__max_steps": 1, "training__learning_rate": 1e-12, "training__seed": 5}
    config = configure("second", training__init_from=str(start), **settings)
    parameters = dict(checkpoint.load(train(config)).named_parameters())
    for name, wanted in checkpoint.load(start).named_parameters():
        torch.testing.assert_close(parameters[name], wanted, atol=1e-9, rtol=1e-6)
    # Once it has checkpoints of its own, a run no longer needs the file.
    start.unlink()
    train(config.model_copy(update={"training": config.training.model_copy(update={"max_steps": 2})}), resume=True)


def test_initial_weights_must_fit(configure: Configure) -> None:
    start = train(configure("first", training__max_steps=1))
    with pytest.raises(CheckpointError, match=r"has shape .* but the configuration asks for"):
        train(configure("second", training__init_from=str(start), model__num_splines=3))


# --- failures


@pytest.mark.parametrize("empty", [True, False])
def test_missing_data_is_found_before_the_model_is_built(
    empty: bool, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    if empty:
        (root / "train").mkdir(parents=True)
        (root / "test").mkdir()
    monkeypatch.setattr(loop, "LAMI", lambda *_: pytest.fail("the model was built"))
    with pytest.raises(DataError, match=str(root)):
        train(configure(data__synthetic=None, data__root=str(root)))
    assert not (tmp_path / "run").exists()


def test_missing_pretrained_weights_are_found_before_training(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    train(configure("warm up", training__max_steps=1))  # imports
    config = configure(interpolation__selector="eq4", vit__weights="pretrained", vit__name="vit_base_patch8_224.dino")
    start = time.monotonic()
    with pytest.raises(WeightsUnavailableError, match=r"vit_base_patch8_224\.dino are not in the cache"):
        train(config)
    assert time.monotonic() - start < 2
    assert not (tmp_path / "run").exists()


# --- learning


def test_losses_fall_on_two_figures(configure: Configure) -> None:
    config = configure(
        losses={**CHEAP["losses"], "feature": 0, "equivariance": 0},
        model__background=None,
        training__batch_size=8,
        training__max_steps=30,
        training__epochs=1000,
        training__milestones=(1000,),
        training__learning_rate=5e-3,
        training__log_every=1,
        training__checkpoint_every=100,
    )
    train(config)
    pixel = [entry["pixel"] for entry in entries(config)]
    assert sum(pixel[-5:]) < 0.8 * sum(pixel[:5])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_overfitting_two_figures_beats_copying_them(configure: Configure) -> None:
    config = configure(
        model={
            "background": None,
            "num_splines": 4,
            "detector": {"args": {"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 32], "output_stride": 16}},
            "dense_motion": {"scale_factor": 0.5, "block_channels": 8, "max_channels": 32, "num_blocks": 3},
            "generator": {"block_channels": 8, "max_channels": 32, "num_down_blocks": 2},
            "image_size": 32,
        },
        losses={**CHEAP["losses"], "feature": 0, "equivariance": 1, "pixel": 30},
        training__dropout={"start": 0.0, "maximum": 0.0},
        training__batch_size=4,
        training__max_steps=300,
        training__epochs=1000,
        training__milestones=(450,),
        training__learning_rate=3e-3,
        training__weight_decay=0.0,
        training__checkpoint_every=1000,
    )
    model = checkpoint.load(train(config))
    figures = SyntheticFigures((32, 32), num_clips=2, num_frames=8)
    clips = [to_tensor(np.stack(figures.clip(i).frames(range(8)))) for i in range(2)]
    source = torch.cat([clip[:1].expand_as(clip) for clip in clips])
    driving = torch.cat(clips)
    with torch.no_grad():
        moved = (model.transfer(source, driving).prediction - driving).abs().mean().item()
    copied = (source - driving).abs().mean().item()
    assert moved < 0.9 * copied
