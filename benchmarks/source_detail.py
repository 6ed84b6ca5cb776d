"""What `size="source-detail"` gains over enlarging, on figures whose true frames are known at any size.

    python -m benchmarks.source_detail -o source_detail.json

The packaged demonstration model moves figures that it has not seen, drawn large, to poses of their own clips. For
frames next to the source and far from it: mean absolute error of both sizes, and the strength of edges (mean difference
of neighbouring grey values) as a part of the true frame's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from lami.animation import Animator
from lami.checkpoint import load
from lami.data.synthetic import SyntheticFigures
from lami.demo import WEIGHTS
from lami.environment import describe_machine
from lami.progress import track

UNSEEN = 1_000_000
"""Number of the first figure that no training has used."""
FRAMES = {"near": (1, 2, 3), "far": (12, 28, 44)}
"""The source is frame 0; a clip has 50."""
SIZES: tuple[Literal["source", "source-detail"], ...] = ("source", "source-detail")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", type=int, default=10)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("-o", "--output", type=Path, default=Path("source_detail.json"))
    options = parser.parse_args()
    model = load(WEIGHTS, "cpu")
    figures = SyntheticFigures((options.side, options.side), options.figures, num_frames=50, start=UNSEEN)
    errors: dict[str, dict[str, list[float]]] = {size: {part: [] for part in FRAMES} for size in SIZES}
    edges: dict[str, list[float]] = {size: [] for size in SIZES}
    for number in track(range(options.figures), description="figures"):
        clip = figures.clip(number)
        [source] = clip.frames([0])
        for size in SIZES:
            animator = Animator(model, source, mode="absolute", size=size, precision="fp32")
            for part, numbers in FRAMES.items():
                for truth in clip.frames(numbers):
                    image = animator.step(truth).image
                    errors[size][part].append(float(np.abs(image.astype(np.float64) - truth).mean() / 255))
                    edges[size].append(_edges(image) / _edges(truth))
    rows = {
        size: {
            **{part: float(np.mean(found)) for part, found in errors[size].items()},
            "edges": float(np.mean(edges[size])),
        }
        for size in SIZES
    }
    for size, row in rows.items():
        print(size, row)
    settings = {"figures": options.figures, "side": options.side, "frames": FRAMES}
    result = {"machine": describe_machine(torch.device("cpu")), "settings": settings, "rows": rows}
    options.output.write_text(json.dumps(result, indent=1, default=str) + "\n")


def _edges(image: np.ndarray) -> float:
    grey = image.astype(np.float64).mean(axis=-1)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


if __name__ == "__main__":
    main()
