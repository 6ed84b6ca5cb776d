"""The summary of one set of weights used in several ways."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from small import small_model

pytest.importorskip("matplotlib", reason="the plot of the summary needs matplotlib")

from benchmarks import stages
from lami.ablation.frames import Frame
from lami.checkpoint import save


def frames(distance: float, lost: int = 0) -> list[Frame]:
    """Six clips of eight frames; in the first `lost` ones of each no keypoint is found."""
    return [
        Frame(
            f"clip{clip}",
            number,
            {
                "points": 4.0,
                "missing": 4.0 if number < lost else 0.0,
                "distance": distance * (1 + number),
                "l1": 0.1,
                "displacement": float(number),
            },
        )
        for clip in range(6)
        for number in range(8)
    ]


def test_weights_that_are_there_stay(tmp_path: Path) -> None:
    model = small_model()
    assert not stages._holds(tmp_path / "a.safetensors", model)
    save(model, tmp_path / "a.safetensors")
    assert stages._holds(tmp_path / "a.safetensors", model)
    other = copy.deepcopy(model)
    other.interpolation = other.interpolation.model_copy(update={"enabled": False})
    assert not stages._holds(tmp_path / "a.safetensors", other)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert not stages._holds(tmp_path / "a.safetensors", model)


def test_changes_and_bins_that_a_mode_lacks() -> None:
    made = {"single stage": frames(1.0), "two stages": frames(0.5, lost=4)}
    rows = stages._rows({mode: {"akd": 4.5, "l1": float("nan")} for mode in made}, made)
    assert rows["two stages"]["figures"] == {"akd": 4.5}
    last = rows["two stages"]["displacement"][-1]
    assert last["change"] == pytest.approx((-0.5, -0.5))
    assert len(rows["single stage"]["displacement"]) > len(rows["two stages"]["displacement"])
    text = stages._markdown({"frames": 48, "rows": rows})
    lines = [line for line in text.splitlines() if line.startswith("| two stages")]
    assert "| - |" in lines[1]
    assert "(-50.0%, -50.0% to -50.0%)" in lines[1]


def test_the_best_way_of_each_frame_is_found_and_nearest() -> None:
    near, far = frames(1.0, lost=2), frames(2.0, lost=1)
    best = stages._best_of_each([far, near])
    assert [frame.found for frame in best[:3]] == [0.0, 4.0, 4.0]
    assert [frame.errors["distance"] for frame in best[1:4]] == [4.0, 3.0, 4.0]
    rows = stages._rows(
        {"far": {"akd": stages._akd(far), "l1": 0.1}, "best": {"akd": stages._akd(best)}}, {"far": far, "best": best}
    )
    line = next(
        line for line in stages._markdown({"frames": 48, "rows": rows}).splitlines() if line.startswith("| best")
    )
    assert line.endswith("| - |")
    assert stages._akd(best) < stages._akd(near) < stages._akd(far)
