"""Training in several processes: the same gradients as in one, any batch, another number of them on resuming."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from launch import torchrun
from tiny import CHEAP, tiny_config

from lami.configs import dump_config
from lami.configs.schema import Config
from lami.errors import ConfigError
from lami.processes import Processes
from lami.training import train

PLAIN = {"args": {"layers": [1, 1, 1, 1], "channels": [4, 8, 8, 8], "output_stride": 16, "norm_layer": "groupnorm1"}}
SETTINGS: dict[str, Any] = {
    **CHEAP,
    # Batch norm sees one process's share on a CPU, and random transforms are other ones in each process.
    "model.detector": PLAIN,
    "model.background": PLAIN,
    "losses": {**CHEAP["losses"], "equivariance": 0},
    "interpolation.selector": "fixed",
    "training.dropout": {"until_epoch": 0},
    "training.log_every": 1,
    "training.checkpoint_every": 2,
    "training.epochs": 100,
    "data.synthetic": {"num_clips": 5, "num_test_clips": 1, "num_frames": 8},
}
Configure = Callable[..., Config]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    def make(name: str, **overrides: Any) -> Config:
        changes = {key.replace("__", "."): value for key, value in overrides.items()}
        return tiny_config({**SETTINGS, "training.output": str(tmp_path / name), **changes})

    return make


def write(config: Config) -> str:
    path = Path(config.training.output).with_suffix(".yaml")
    path.write_text(dump_config(config))
    return str(path)


def losses(config: Config) -> list[dict[str, float]]:
    lines = (Path(config.training.output) / "log.jsonl").read_text().splitlines()
    others = ("samples_per_second", "peak_memory_gb", "gradient_norms", "selected_times")
    return [{k: v for k, v in json.loads(line).items() if k not in others} for line in lines]


# --- shares


@given(size=st.integers(1, 9), start=st.integers(0, 50), length=st.integers(0, 40))
def test_shares_make_up_the_batch(size: int, start: int, length: int) -> None:
    draws = range(start, start + length)
    shares = [Processes(rank, size, torch.device("cpu")).share(draws) for rank in range(size)]
    assert [draw for share in shares for draw in share] == list(draws)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.lists(st.lists(st.floats(-10, 10), min_size=1, max_size=5), min_size=1, max_size=5))
def test_weighted_means_average_to_the_mean_of_all(parts: list[list[float]]) -> None:
    batch = [value for part in parts for value in part]
    weight = Processes(0, len(parts), torch.device("cpu")).weight
    mean = sum(weight(len(part), len(batch)) * sum(part) / len(part) for part in parts) / len(parts)
    assert mean == pytest.approx(sum(batch) / len(batch), abs=1e-9)


@pytest.mark.parametrize("step", [1, 7])
def test_processes_draw_other_random_numbers(step: int) -> None:
    drawn = []
    for rank in range(3):
        torch.manual_seed(Processes(rank, 3, torch.device("cpu")).seed(0, step))
        drawn.append(torch.rand(4))
    assert not any(torch.equal(a, b) for a, b in combinations(drawn, 2))


def test_more_processes_than_pairs(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    from lami.training import loop

    class Three:
        def __enter__(self) -> Processes:
            return Processes(0, 3, torch.device("cpu"))

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(loop, "join_processes", lambda device: Three())
    with pytest.raises(
        ConfigError, match=r"training.batch_size is 2, fewer than the 3 processes that share it; raise it"
    ):
        train(configure("run"))


# --- runs


@pytest.mark.parametrize(("batch", "accumulate"), [pytest.param(4, 1, marks=pytest.mark.slow), (3, 2)])
def test_two_processes_have_the_gradients_of_one(batch: int, accumulate: int, configure: Configure) -> None:
    """Also where shares differ in size, and over the end of an epoch of 5 clips."""
    script = str(Path(__file__).with_name("gradients.py"))
    settings = {"training__batch_size": batch, "training__accumulate": accumulate, "training__max_steps": 2}
    saved = []
    for name, processes in (("one", 1), ("two", 2)):
        config = configure(name, **settings)
        output = Path(config.training.output).with_suffix(".pt")
        if processes == 1:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", script, write(config), str(output)],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                check=False,
            )
        else:
            done = torchrun(processes, script, write(config), str(output))
        assert done.returncode == 0, done.stderr
        saved.append(torch.load(output))
    (first, *_), (second, *_) = saved
    assert first.keys() == second.keys()
    # Sums over the batch in another order: a rounding error takes the other side of a kink here and there, and some
    # gradients are sums that cancel. A wrong share would be wrong by tenths.
    largest = max(gradient.norm() for gradient in first.values())
    for name, gradient in first.items():
        assert (second[name] - gradient).norm() <= 1e-2 * gradient.norm() + 1e-4 * largest, name
    assert [entry["pixel"] for entry in losses(config)] == pytest.approx(
        [entry["pixel"] for entry in losses(configure("one"))], rel=1e-3
    )


def test_a_run_goes_on_in_another_number_of_processes(configure: Configure) -> None:
    settings = {"training__batch_size": 3}
    whole = configure("whole", training__max_steps=4, **settings)
    train(whole)
    for steps, processes in ((2, 2), (4, 1)):
        config = configure("run", training__max_steps=steps, **settings)
        resume = ["--resume"] if steps > 2 else []
        done = torchrun(processes, "-m", "lami", "train", write(config), *resume)
        assert done.returncode == 0, done.stderr
        # Only the first process speaks and writes.
        assert done.stderr.count("trained weights are in") == 1
    found, wanted = losses(config), losses(whole)
    assert [entry["step"] for entry in found] == [1, 2, 3, 4]
    for entry, other in zip(found, wanted, strict=True):
        assert entry == pytest.approx(other, rel=1e-2)


@pytest.mark.slow
def test_a_process_that_dies_is_restarted_by_torchrun(configure: Configure, tmp_path: Path) -> None:
    config = configure("run", training__batch_size=2, training__max_steps=6, training__checkpoint_every=1)
    script = tmp_path / "dies_once.py"
    script.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from lami.configs import load_config\n"
        "from lami.training import train\n"
        "from lami.training.optimizers import Optimizers\n"
        "take, steps = Optimizers.step, []\n"
        "def step(self, *a, **k):\n"
        "    steps.append(1)\n"
        "    if len(steps) == 4 and os.environ['RANK'] == '1' and os.environ['TORCHELASTIC_RESTART_COUNT'] == '0':\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return take(self, *a, **k)\n"
        "Optimizers.step = step\n"
        "train(load_config(Path(sys.argv[1])), resume=True)\n"
    )
    done = torchrun(2, "--max-restarts=1", str(script), write(config))
    assert done.returncode == 0, done.stderr
    assert [entry["step"] for entry in losses(config)] == [1, 2, 3, 4, 5, 6]
