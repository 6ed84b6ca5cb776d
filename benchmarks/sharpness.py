"""How sharp rebuilt test videos are, beside the real ones: what passes through a generator cost.

    python -m benchmarks.sharpness data/actions/test --frame-shape 64 -o sharpness.json \\
        tpsmm=runs/ablation/tpsmm-seed0/evaluation full=runs/ablation/full-seed0/evaluation

Sharpness is the mean magnitude of the differences between neighbouring grey values, as a part of the real frame's; on
the whole frame, and on what moves: pixels of the real frame that differ from the clip's median by more than a tenth.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from lami.data import Clip, list_clips
from lami.environment import describe_machine
from lami.evaluation.reconstruction import read_strip, strip_path

MOVES = 25.5
"""Of 255."""
FEWEST = 50
"""Pixels that must move for a frame to count in the second figure."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder of the real videos")
    parser.add_argument("evaluations", nargs="+", metavar="NAME=FOLDER", help="what lami evaluate left")
    parser.add_argument("--frame-shape", type=int, help="side of the frames of strips")
    parser.add_argument("-o", "--output", type=Path, default=Path("sharpness.json"))
    options = parser.parse_args()
    shape = None if options.frame_shape is None else (options.frame_shape, options.frame_shape)
    clips = {source.name: source.open() for source in list_clips(options.clips, shape)}
    named = dict(each.split("=", maxsplit=1) for each in options.evaluations)
    rows = {name: sharpness(clips, Path(folder)) for name, folder in named.items()}
    for name, row in rows.items():
        print(name, row)
    result = {"machine": describe_machine(torch.device("cpu")), "clips": len(clips), "rows": rows}
    options.output.write_text(json.dumps(result, indent=1, default=str) + "\n")


def sharpness(clips: dict[str, Clip], evaluation: Path) -> dict[str, float]:
    """Means over all frames, and over those in which enough moves."""
    whole, moving = [], []
    for name, clip in clips.items():
        real = np.stack(list(clip.frames(range(len(clip)))))
        strip = read_strip(strip_path(evaluation, name))
        made = strip.reshape(strip.shape[0], len(real), -1, 3).swapaxes(0, 1)
        moves = (np.abs(real - np.median(real, axis=0)).mean(axis=-1) > MOVES)[:, :-1, :-1]
        edges = [_edges(frames) for frames in (made, real)]
        whole.append(_part(*(each.mean(axis=(1, 2)) for each in edges)))
        counts = moves.sum(axis=(1, 2))
        enough = counts >= FEWEST
        moving.append(_part(*((each * moves).sum(axis=(1, 2))[enough] / counts[enough] for each in edges)))
    return {"whole": float(np.concatenate(whole).mean()), "moving": float(np.concatenate(moving).mean())}


def _edges(frames: np.ndarray) -> np.ndarray:
    """(F, H, W, 3) -> (F, H - 1, W - 1)"""
    grey = frames.astype(np.float64).mean(axis=-1)
    return np.abs(np.diff(grey, axis=2))[:, :-1] + np.abs(np.diff(grey, axis=1))[:, :, :-1]


def _part(made: np.ndarray, real: np.ndarray) -> np.ndarray:
    return made[real > 0] / real[real > 0]


if __name__ == "__main__":
    main()
