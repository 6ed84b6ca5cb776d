"""`lami demo`: what the method does, on generated figures that the packaged model has never seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lami.animation import AnimatedFrame, Animator, draw_panel, find_best_frame
from lami.checkpoint import load
from lami.data import VideoWriter, check_output, write_image
from lami.data.synthetic import FigureClip, SyntheticFigures
from lami.model import LAMI
from lami.progress import track
from lami.visualize import grid
from lami.weights.inventory import path_of

WEIGHTS = path_of("demo")

_UNSEEN = 1_000_000
"""Figures from this number on are used by no training."""
_FRAMES = 50
_READABLE = 224
"""Cells of the video are enlarged to at least this many pixels."""
_PANEL_ROWS = 4
_APART = 5
"""Frames between the rows of the panel, so that they show different poses."""


def run_demo(output: str | Path, weights: str | Path = WEIGHTS, overwrite: bool = False) -> None:
    """Animate one frame of a figure with its other frames, and with another figure; print the error of the former.

    Writes `animation.mp4` and `panel.png`, which shows the images generated between source and driving pose.

    Args:
        output: folder to write to.
        weights: a model trained on `SyntheticFigures`; the packaged one by default.
        overwrite: replace files of an earlier demonstration.

    Raises:
        CheckpointError: the weights cannot be used.
        DataError: a file exists already or cannot be written.
    """
    video, panel = Path(output) / "animation.mp4", Path(output) / "panel.png"
    for path in (video, panel):
        check_output(path, overwrite=overwrite)
    model = load(weights)
    figures = SyntheticFigures(model.config.image_size, num_clips=2, num_frames=_FRAMES, start=_UNSEEN)
    clip, other = figures.clip(0), figures.clip(1)
    everything = range(_FRAMES)
    driving, other_driving = clip.frames(everything), other.frames(everything)

    animator = Animator(model, driving[0], mode="absolute", background=True)
    results = list(track(animator.animate(driving), _FRAMES, "same figure"))
    other_results = list(track(_animate_with(model, driving[0], other_driving), _FRAMES, "another figure"))

    _write_video(video, clip, driving[0], [driving, other_driving], [results, other_results])
    rows = {f"frame {n}": results[n].moved for n in _farthest(clip)}
    write_image(panel, draw_panel(animator.source, list(rows.values()), captions=list(rows)))
    print(_scores(animator.source.image[0], results))
    print(f"see {video} and {panel}")


def _animate_with(model: LAMI, source: np.ndarray, driving: Sequence[np.ndarray]) -> Iterable[AnimatedFrame]:
    """Motion of another figure, relative to its frame that is most like the source."""
    animator = Animator(model, source, mode="relative")
    animator.refer_to(driving[find_best_frame(animator.source.keypoints, animator.detect(driving))])
    return animator.animate(driving)


def _write_video(
    path: Path,
    clip: FigureClip,
    source: np.ndarray,
    driving: Sequence[Sequence[np.ndarray]],
    results: Sequence[Sequence[AnimatedFrame]],
) -> None:
    """A row for each driving video: source, driving frame, result."""
    scale = -(-_READABLE // min(clip.size))
    with VideoWriter(path, clip.rate) as writer:
        for n in range(len(clip)):
            rows = [[source, frames[n], made[n].image] for frames, made in zip(driving, results, strict=True)]
            writer.write(
                grid(rows, ["same figure drives", "another drives"], ["source", "driving", "result"], scale=scale)
            )


def _farthest(clip: FigureClip) -> list[int]:
    """Frames whose true pose is farthest from the first frame's, some frames apart, in order."""
    keypoints = clip.keypoints(range(len(clip)))
    distance = np.linalg.norm(keypoints - keypoints[0], axis=-1).mean(axis=1)
    chosen: list[int] = []
    for n in np.argsort(-distance).tolist():
        if len(chosen) < _PANEL_ROWS and all(abs(n - other) >= _APART for other in chosen):
            chosen.append(n)
    return sorted(chosen)


def _scores(source: Tensor, results: Sequence[AnimatedFrame]) -> str:
    """Errors against the true frames, for images in [0, 1]."""
    truth = torch.stack([result.moved.driving for result in results])
    lines = ["figure not seen in training, true frames known      L1    PSNR"]
    for name, images in (
        ("copying the source", source.expand_as(truth)),
        ("animating the source", torch.stack([result.moved.prediction for result in results])),
    ):
        l1 = (images - truth).abs().mean()
        mean_square = (images - truth).square().mean()
        lines.append(f"{name:<48}{l1:.4f}  {-10 * mean_square.log10():.1f} dB")
    return "\n".join(lines)
