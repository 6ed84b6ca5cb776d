"""`lami bench train`: a whole run on a tiny model, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny import tiny_config, tiny_model, tiny_pair

from lami.bench.memory import peak_bytes
from lami.bench.parts import OTHER, seconds_by_part
from lami.bench.train import NAIVE, bench_train, training_parts
from lami.data import read_image
from lami.errors import ConfigError
from lami.training.optimizers import Optimizers
from lami.training.step import StepState, TrainingStep


def test_files_and_figures_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the extra lami[bench] is not installed")
    result = bench_train(tiny_config({"training.precision": "bf16"}), 3, tmp_path)
    written = json.loads((tmp_path / "train.json").read_text())
    assert [side["name"] for side in written["sides"]] == [NAIVE, "ours, fp32", "ours, bf16"]
    assert written["machine"]["versions"]["torch"] == str(torch.__version__)
    for side, entry in zip(result.sides, written["sides"], strict=True):
        assert len(entry["seconds"]) == 3
        assert entry["peak_bytes"] > 0
        # What the profiler saw is the step.
        assert sum(side.parts.values()) > 0
        assert side.parts["decoder"] > 0
        assert side.parts["ViT"] > 0
        assert side.parts[OTHER] < sum(side.parts.values())
    naive, plain, configured = result.sides
    # The candidates' backward passes and repeated encodings are work that ours leaves out; VGG is most of a tiny step.
    assert naive.flops > plain.flops
    assert configured.flops == plain.flops > 0
    assert result.speedup(naive) == 1
    assert read_image(tmp_path / "train.png").std() > 10
    assert "samples/s" in capsys.readouterr().out


def test_backward_passes_belong_to_their_part() -> None:
    """Without images only the detector works: forwards and backwards are its own, apart from the loss itself."""
    config = tiny_config(
        {"losses": {"reconstruction": 0, "appearance": 0, "structure": 0, "warp": 0, "feature": 0, "background": 0}}
        | {"model.background": None}
    )
    model = tiny_model(config)
    step = TrainingStep(model, config.losses)
    optimizers = Optimizers.create(model, config.training)
    source, driving = (torch.nn.functional.interpolate(image, 256) for image in tiny_pair(4))

    def run() -> None:
        torch.stack(list(step(source, driving, StepState()).values())).sum().backward()

    run()
    attributes = [(dict(vars(model.keypoint_detector)), model.keypoint_detector), (dict(vars(step)), step)]
    parts = seconds_by_part(run, training_parts(step, optimizers), torch.device("cpu"))
    assert all(vars(owner) == before for before, owner in attributes)  # nothing stays wrapped
    assert parts["keypoints, background"] > 0.5 * sum(parts.values())
    assert parts["decoder"] == parts["VGG"] == parts["optimiser"] == 0


def test_peak_memory_of_a_step_with_a_checkpointed_decoder_is_lower() -> None:
    peaks = []
    for recompute in (False, True):
        config = tiny_config({"model.generator": {"block_channels": 16, "max_channels": 32, "num_down_blocks": 2}})
        model = tiny_model(config)
        model.generator.checkpoint_decoder = recompute
        step = TrainingStep(model, config.losses)
        pair = tiny_pair(4)

        def run(step: TrainingStep = step, pair: tuple[torch.Tensor, ...] = pair) -> None:
            torch.stack(list(step(*pair, StepState()).values())).sum().backward()

        run()
        peaks.append(peak_bytes(run, torch.device("cpu")))
    assert peaks[1] < 0.85 * peaks[0]


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        ({"interpolation.enabled": False}, "interpolation.enabled and selector eq4"),
        ({"training.selector": "random"}, "training.selector eq4"),
        ({"losses.bidirectional": False}, "losses.bidirectional"),
        ({"interpolation.fusion": "mean"}, "interpolation.fusion none"),
        ({"losses.appearance": 0, "losses.structure": 0}, "losses.appearance or losses.structure"),
    ],
)
def test_what_the_naive_composition_lacks_is_refused(overrides: dict[str, object], what: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"needs {what}"):
        bench_train(tiny_config(overrides), 1, tmp_path)
    assert not list(tmp_path.iterdir())
