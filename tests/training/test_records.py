"""What stays of a run: best checkpoints, checkpoints by time, environment, trackers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import CHEAP, tiny_config, tiny_model

import lami
from lami import environment
from lami.configs.schema import Config
from lami.errors import ConfigError, DataError
from lami.training import loop, record, train
from lami.training.checkpoints import RunCheckpoints
from lami.training.optimizers import Optimizers
from lami.training.trackers import TensorBoard, WeightsAndBiases

Configure = Callable[..., Config]


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    monkeypatch.setattr(loop, "training_panel", lambda *_: np.zeros((8, 8, 3), np.uint8))

    def make(**overrides: Any) -> Config:
        changes = {key.replace("__", "."): value for key, value in overrides.items()}
        return tiny_config(CHEAP | {"training.output": str(tmp_path / "run"), **changes})

    return make


def test_the_best_checkpoints_stay_beside_the_newest(tmp_path: Path) -> None:
    config = tiny_config()
    model = tiny_model(config)
    optimizers = Optimizers.create(model, config.training)
    checkpoints = RunCheckpoints(tmp_path, keep=1, keep_best=2)
    for step, loss in ((1, 0.5), (2, 0.3), (3, None), (4, 0.4), (5, 0.9), (6, 0.7)):
        checkpoints.save(step, model, optimizers, loss)
    assert checkpoints.steps() == [2, 4, 6]
    assert RunCheckpoints(tmp_path, keep=1, keep_best=2).best() == [2, 4]
    assert checkpoints.resume(model, optimizers) == 6
    (tmp_path / "losses.json").write_text("{damaged")
    checkpoints.save(7, model, optimizers, 0.1)
    assert checkpoints.steps() == [7]


def test_losses_of_a_run_choose_its_best(configure: Configure) -> None:
    config = configure(training__max_steps=5, training__checkpoint_every=1, training__keep_checkpoints=1)
    train(config)
    output = Path(config.training.output)
    log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    best = min(log, key=lambda entry: entry["pixel"])["step"]
    assert RunCheckpoints(output / "checkpoints", 1).steps() == sorted({best, 5})


def test_checkpoints_by_time(configure: Configure) -> None:
    config = configure(training__max_steps=3, training__checkpoint_every=100, training__checkpoint_minutes=1e-6)
    train(config)
    assert RunCheckpoints(Path(config.training.output) / "checkpoints", 1).steps() == [1, 2, 3]


def test_environment_of_each_start(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "uncommitted_changes", lambda: b"+ a line\n")
    config = configure(training__max_steps=2)
    train(config)
    monkeypatch.setattr(record, "uncommitted_changes", lambda: b"")
    train(configure(training__max_steps=3), resume=True)
    output = Path(config.training.output)
    first, second = (json.loads(line) for line in (output / "environment.jsonl").read_text().splitlines())
    assert (first["step"], second["step"]) == (0, 2)
    assert first["versions"]["torch"] == str(torch.__version__)
    assert first["versions"]["lami"] == lami.__version__
    assert first["packages"]["numpy"] == np.__version__
    assert {"commit", "dirty", "processor", "date", "command", "processes"} <= set(first)
    assert (output / first["patch"]).read_text() == "+ a line\n"
    assert "patch" not in second


def test_tensorboard_has_every_kind_of_figure(configure: Configure) -> None:
    config = configure(training__max_steps=4, training__log_every=2, training__checkpoint_every=4)
    train(config)
    events = EventAccumulator(str(Path(config.training.output) / "tensorboard"), {"histograms": 0}).Reload()
    tags = set(events.Tags()["scalars"])
    assert {"loss/total", "loss/pixel", "schedule/learning_rate", "speed/samples_per_second"} <= tags
    assert {"speed/peak_memory_gb", "gradient/generator", "gradient/keypoint_detector"} <= tags
    assert [event.step for event in events.Histograms("selected_time")] == [2, 4]
    assert events.Histograms("selected_time")[0].histogram_value.num == 4  # two steps of two pairs
    assert [event.step for event in events.Images("panel")] == [4]


def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra lami[wandb] is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for _ in range(2):  # the second continues the first
        tracker = WeightsAndBiases("lami-tests", tmp_path, {"seed": 1})
        tracker.scalars(1, {"loss/total": 2.0})
        tracker.histogram(1, "selected_time", [0.3, 0.5])
        tracker.picture(1, "panel", np.zeros((4, 4, 3), np.uint8))
        tracker.close()
    name = (tmp_path / "wandb-id").read_text()
    written = list((tmp_path / "wandb").glob(f"offline-run-*-{name}"))
    assert written
    assert all(any(folder.glob("*.wandb")) for folder in written)


def test_missing_wandb_says_how_to_get_it(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"pip install 'lami\[wandb\]', or leave it null"):
        train(configure(training__max_steps=1, training__wandb="project"))


def test_tracker_hides_what_came_after_the_resumed_step(tmp_path: Path) -> None:
    first = TensorBoard(tmp_path, 0)
    for step in (1, 2, 3):
        first.scalars(step, {"loss/total": float(step)})
    first.close()
    second = TensorBoard(tmp_path, 1)
    second.scalars(2, {"loss/total": 20.0})
    second.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.value for event in events.Scalars("loss/total")] == [1.0, 20.0]


def test_a_patch_can_be_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trailing blank lines, bytes that are not UTF-8, and a binary file."""
    tree, other = tmp_path / "tree", tmp_path / "other"
    (tree / "lami").mkdir(parents=True)

    def git(*arguments: str, folder: Path = tree) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, "-C", str(folder), *arguments], check=True, capture_output=True)

    (tree / "text").write_bytes(b"one\ntwo\n\n\n")
    (tree / "image").write_bytes(bytes(range(256)))
    git("init")
    git("add", "-A")
    git("commit", "-m", "first")
    subprocess.run(["git", "clone", str(tree), str(other)], check=True, capture_output=True)
    changed = {"text": b"one\n\xe9 tw\n\n\n", "image": bytes(reversed(range(256)))}
    for name, content in changed.items():
        (tree / name).write_bytes(content)
    git("config", "diff.noprefix", "true")
    monkeypatch.setattr(environment, "__file__", str(tree / "lami" / "environment.py"))
    patch = tmp_path / "step.patch"
    patch.write_bytes(environment.uncommitted_changes())
    git("apply", str(patch), folder=other)
    assert {name: (other / name).read_bytes() for name in changed} == changed


def test_an_output_that_cannot_be_written_is_one_sentence(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/run cannot be written \(Not a directory\)"):
        train(configure(training__output=str(tmp_path / "file" / "run")))
