"""Losses and gradients that are not finite: the step is left out, counted and named; three in a row end the run."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import CHEAP, same, tiny_config
from torch import Tensor

from lami.configs.schema import Config
from lami.errors import LamiError
from lami.training import loop, train

Configure = Callable[..., Config]


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    monkeypatch.setattr(loop, "training_panel", lambda *_: np.zeros((8, 8, 3), np.uint8))

    def make(name: str, **overrides: Any) -> Config:
        changes = {key.replace("__", "."): value for key, value in overrides.items()}
        settings = CHEAP | {"training.log_every": 4, "training.checkpoint_every": 100, **changes}
        return tiny_config(settings | {"training.output": str(tmp_path / name)})

    return make


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change the losses of some steps, counted from 1."""
    compute = loop.TrainingStep.__call__

    def install(steps: set[int], change: Callable[[dict[str, Tensor]], None]) -> None:
        calls = iter(range(1, 1000))

        def poisoned(self: loop.TrainingStep, *arguments: Any) -> dict[str, Tensor]:
            losses = compute(self, *arguments)
            if next(calls) in steps:
                change(losses)
            return losses

        monkeypatch.setattr(loop.TrainingStep, "__call__", poisoned)

    return install


def test_an_infinite_image_leaves_no_trace(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would make batch norm statistics NaN for good, which show in inference alone."""
    compute = loop.TrainingStep.__call__
    calls = iter(range(1, 9))

    def blinded(self: loop.TrainingStep, source: Tensor, *arguments: Any) -> dict[str, Tensor]:
        return compute(self, source * math.inf if next(calls) == 2 else source, *arguments)

    monkeypatch.setattr(loop.TrainingStep, "__call__", blinded)
    config = configure("run", training__max_steps=4)
    weights = load_file(train(config))
    assert [entry["step"] for entry in lines(config, "anomalies.jsonl")] == [2]
    assert all(tensor.isfinite().all() for tensor in weights.values())


def nan_in_feature(losses: dict[str, Tensor]) -> None:
    losses["feature"] = losses["feature"] * math.nan


def lines(config: Config, name: str) -> list[dict[str, Any]]:
    path = Path(config.training.output) / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_that_is_not_finite_changes_nothing(
    fused: bool, configure: Configure, poison: Callable[..., None]
) -> None:
    """Steps 1 and 2, then a poisoned third: weights and optimiser state stay those after the second."""
    settings = {"training__fused_adam": fused, "losses__equivariance": 0}
    two = load_file(train(configure("two", training__max_steps=2, **settings)))
    state_of_two = torch.load(configure("two").training.output + "/checkpoints/step-00000002.state.pt")
    poison({3}, nan_in_feature)
    config = configure("three", training__max_steps=3, **settings)
    found = load_file(train(config))
    assert same(found, two)
    state = torch.load(config.training.output + "/checkpoints/step-00000003.state.pt")
    for key in ("main", "background"):
        for index, values in state_of_two["optimizers"][key]["state"].items():
            for name, value in values.items():
                assert torch.equal(state["optimizers"][key]["state"][index][name], value), (key, index, name)


def test_it_is_counted_and_named(
    configure: Configure, poison: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    poison({2, 3, 6}, nan_in_feature)
    config = configure("run", training__max_steps=8)
    with caplog.at_level(logging.WARNING):
        train(config)
    assert [entry.get("skipped") for entry in lines(config, "log.jsonl")] == [2, 1]
    assert all(math.isfinite(entry["feature"]) for entry in lines(config, "log.jsonl"))
    found = lines(config, "anomalies.jsonl")
    assert [entry["step"] for entry in found] == [2, 3, 6]
    networks = ("generator", "dense_motion", "keypoint_detector", "background_predictor")
    wanted = ["loss feature", *(f"gradient of {name}" for name in networks)]
    assert all(set(entry["not_finite"]) <= set(wanted) and entry["not_finite"][0] == wanted[0] for entry in found)
    assert found[0]["losses"]["feature"] == "nan"
    assert math.isfinite(float(found[0]["losses"]["pixel"]))
    assert "step 2 is left out: not finite: loss feature, gradient of generator" in caplog.text


def test_infinite_loss_with_finite_gradient_is_left_out(configure: Configure, poison: Callable[..., None]) -> None:
    poison({2}, lambda losses: losses.update(pixel=losses["pixel"] + math.inf))
    config = configure("run", training__max_steps=4)
    train(config)
    (entry,) = lines(config, "anomalies.jsonl")
    assert "loss pixel" in entry["not_finite"]
    assert "gradient of generator" in entry["not_finite"]


def test_gradients_alone_are_named(configure: Configure, poison: Callable[..., None]) -> None:
    def overflow(losses: dict[str, Tensor]) -> None:
        losses["pixel"].register_hook(lambda gradient: gradient * math.inf)

    poison({2}, overflow)
    config = configure("run", training__max_steps=4)
    train(config)
    (entry,) = lines(config, "anomalies.jsonl")
    assert not [name for name in entry["not_finite"] if name.startswith("loss")]
    assert "gradient of generator" in entry["not_finite"]


def test_three_in_a_row_end_the_run(configure: Configure, poison: Callable[..., None]) -> None:
    poison({3, 6, 7, 8, 9}, nan_in_feature)
    config = configure("run", training__max_steps=20, training__checkpoint_every=5)
    with pytest.raises(LamiError, match=r"3 steps in a row, up to step 8, were left out because .*: loss feature, "):
        train(config)
    output = Path(config.training.output)
    assert sorted(path.stem for path in (output / "checkpoints").glob("*.safetensors")) == ["step-00000005"]
    assert [entry["step"] for entry in lines(config, "anomalies.jsonl")] == [3, 6, 7, 8]
    assert not (output / "model.safetensors").exists()


def test_a_resumed_run_drops_later_entries(configure: Configure, poison: Callable[..., None]) -> None:
    poison({2, 4}, nan_in_feature)
    config = configure("run", training__max_steps=4, training__checkpoint_every=2, training__keep_checkpoints=2)
    train(config)
    for file in (Path(config.training.output) / "checkpoints").glob("step-00000004*"):
        file.unlink()
    poison({1}, nan_in_feature)  # which is step 3 now
    train(config, resume=True)
    assert [entry["step"] for entry in lines(config, "anomalies.jsonl")] == [2, 3]
