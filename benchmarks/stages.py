"""One set of weights used in several ways, which cost no training.

    python -m benchmarks.stages lami/weights/demo.safetensors --config demo --keypoints figures -o stages

`stages` compares going straight to the driving pose as TPSMM does with two stages, and with two stages and two views
(section 4.4 of the paper). `--ways selection` compares ways to choose the interpolated image: Eq. 4, always the same
time, and the time of each frame whose result is nearest to the true keypoints, which nobody can know beforehand: no
selector can do better. It also tries keypoints that are detected on the interpolated image (open in the paper, U2).

Rebuilds and scores the test videos in each way, as `lami evaluate` does, and goes on where it was cut off. Writes
`summary.md`, `summary.json` and `displacement.png`; the evaluations stay beside them, in a folder each.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path
from typing import Any

import torch

from benchmarks.ops.tables import table
from lami.ablation.frames import Frame, between, by_displacement, interval_of_change, read_frames
from lami.ablation.plots import draw_displacement
from lami.checkpoint import load, save
from lami.configs import load_config
from lami.environment import describe_machine
from lami.evaluation import evaluate
from lami.evaluation.results import FIGURES, format_figure
from lami.model import LAMI

_TWO_STAGES = {"enabled": True, "fusion": "none"}
_REUSE = _TWO_STAGES | {"keypoints": "reuse"}
WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "stages": {
        "single stage": {"enabled": False},
        "two stages": _TWO_STAGES,
        "two views": {"enabled": True, "fusion": "occlusion"},
    },
    "selection": {
        "single stage": {"enabled": False},
        "Eq. 4": _REUSE | {"selector": "eq4"},
        "always 0.3": _REUSE | {"selector": "fixed", "fixed_time": 0.3},
        "always 0.5": _REUSE | {"selector": "fixed", "fixed_time": 0.5},
        "always 0.7": _REUSE | {"selector": "fixed", "fixed_time": 0.7},
        "Eq. 4, keypoints detected again": _TWO_STAGES | {"selector": "eq4", "keypoints": "redetect"},
        "always 0.3, keypoints detected again": _TWO_STAGES
        | {"selector": "fixed", "fixed_time": 0.3, "keypoints": "redetect"},
    },
}
"""Changes of a model's interpolation; the others are compared with the first."""
_BEST = "best of the three, known afterwards"
_BINS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--config", required=True, help="whose test videos are rebuilt")
    parser.add_argument("--keypoints", required=True, help="estimator, as of lami evaluate")
    parser.add_argument("--enlarge", type=int, default=1)
    parser.add_argument("--ways", choices=WAYS, default="stages")
    parser.add_argument("-o", "--output", type=Path, help="default: runs/ and the name of the ways")
    options = parser.parse_args()
    output = options.output or Path("runs") / options.ways
    config = load_config(options.config)
    figures, frames = {}, {}
    for mode, changes in WAYS[options.ways].items():
        folder = output / re.sub(r"[^a-z0-9]+", "-", mode.lower())
        model = load(options.checkpoint, "cpu")
        model.interpolation = model.interpolation.model_copy(update=changes)
        output.mkdir(parents=True, exist_ok=True)
        weights = folder.with_suffix(".safetensors")
        if not _holds(weights, model):
            save(model, weights)
        evaluation = folder / "evaluation"
        result = evaluate(
            config, evaluation, checkpoint=weights, keypoints=options.keypoints, enlarge=options.enlarge, device="cpu"
        )
        figures[mode] = {name: getattr(result.means, name) for name in FIGURES}
        frames[mode] = read_frames(folder)
    if options.ways == "selection":
        frames[_BEST] = _best_of_each([frames[f"always {time}"] for time in (0.3, 0.5, 0.7)])
        figures[_BEST] = {"akd": _akd(frames[_BEST])}
    summary = {
        "machine": describe_machine(torch.device("cpu")),
        "checkpoint": str(options.checkpoint),
        "keypoints": options.keypoints,
        "frames": len(frames["single stage"]),
        "rows": _rows(figures, frames),
    }
    (output / "summary.json").write_text(json.dumps(summary, indent=1, default=str) + "\n")
    (output / "summary.md").write_text(_markdown(summary) + "\n")
    points = {
        mode: [(each["displacement"], each["akd"]) for each in row["displacement"]]
        for mode, row in summary["rows"].items()
    }
    draw_displacement(points, output / "displacement.png")
    print(_markdown(summary))


def _holds(weights: Path, model: LAMI) -> bool:
    """Whether a file, of which evaluations may be finished, holds this very model; written again it has other bytes."""
    if not weights.is_file():
        return False
    found = load(weights, "cpu")
    settings = [(each.config, each.interpolation, each.vit_config) for each in (found, model)]
    if settings[0] != settings[1]:
        return False
    before, now = found.state_dict(), model.state_dict()
    return before.keys() == now.keys() and all(torch.equal(before[name], now[name]) for name in now)


def _best_of_each(ways: list[list[Frame]]) -> list[Frame]:
    """Each frame in the way in which its keypoints are found, and nearest."""
    return [
        min(frames, key=lambda frame: frame.errors["distance"] if frame.found else math.inf)
        for frames in zip(*ways, strict=True)
    ]


def _akd(frames: list[Frame]) -> float:
    shares = [frame.share("akd", False) for frame in frames]
    return sum(distance for distance, _ in shares) / sum(points for _, points in shares)


def _rows(figures: dict[str, dict[str, float]], frames: dict[str, list[Frame]]) -> dict[str, Any]:
    """Figures that were measured and AKD by displacement, with intervals of their changes against a single stage."""
    bins = by_displacement({mode: [of_mode] for mode, of_mode in frames.items()}, _BINS)
    first = next(iter(frames))
    rows: dict[str, Any] = {}
    for mode, of_mode in frames.items():
        known = {name: value for name, value in figures[mode].items() if value == value}
        change = {name: interval_of_change([frames[first]], [of_mode], name, False) for name in known}
        displacement = []
        for each in bins[mode]:
            pair = [between(frames[m], each.start, each.stop, each.last) for m in (first, mode)]
            displacement.append(vars(each) | {"change": interval_of_change([pair[0]], [pair[1]], "akd", False)})
        rows[mode] = {"figures": known, "change": change, "displacement": displacement}
    return rows


def _markdown(summary: dict[str, Any]) -> str:
    rows = summary["rows"]
    first = next(iter(rows.values()))
    names = list(first["figures"])
    figures = [
        [
            mode,
            *(
                _cell(name, row["figures"][name], first["figures"][name], row["change"][name])
                if name in row["figures"]
                else "-"
                for name in names
            ),
        ]
        for mode, row in rows.items()
    ]
    # Where a mode has no keypoints its bin is missing.
    starts = sorted({(each["start"], each["stop"]) for row in rows.values() for each in row["displacement"]})
    known = {mode: {each["start"]: each for each in row["displacement"]} for mode, row in rows.items()}
    before = next(iter(known.values()))
    displacement = [
        [
            mode,
            *(
                _cell("akd", of_mode[start]["akd"], before[start]["akd"], of_mode[start]["change"])
                if start in of_mode and start in before
                else "-"
                for start, _ in starts
            ),
        ]
        for mode, of_mode in known.items()
    ]
    bins = [f"{start:.0f} to {stop:.0f} pixels" for start, stop in starts]
    return "\n\n".join(
        [
            f"{summary['frames']} frames; in brackets the change against a single stage and its 95 % interval over "
            "clips (bootstrap):",
            table(["", *(FIGURES[name][0] for name in names)], figures),
            "AKD by the distance of the keypoints between source and driving frame:",
            table(["", *bins], displacement),
        ]
    )


def _cell(figure: str, value: float, before: float, change: tuple[float, float] | None) -> str:
    text = format_figure(figure, value)
    if change is None or value == before:
        return text
    return f"{text} ({value / before - 1:+.1%}, {change[0]:+.1%} to {change[1]:+.1%})"


if __name__ == "__main__":
    main()
