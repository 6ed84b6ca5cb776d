"""How often MediaPipe finds people in small frames, and how steady it is when frames blur as generated ones do.

    python -m benchmarks.pose_estimation data/actions/test --frame-shape 64 -o pose.json

For each margin and enlargement: the share of frames in which somebody is found, and, for the same frames blurred
slightly, the share of points that are lost and the distance of the others in pixels.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from lami.data import list_clips
from lami.environment import describe_machine
from lami.evaluation import KeypointErrors, compare_keypoints
from lami.evaluation.estimators import EnlargedKeypoints, Frame, KeypointEstimator
from lami.evaluation.estimators.mediapipe_pose import MediaPipePose
from lami.progress import track

BLUR = 0.8
"""Standard deviation in pixels."""
STEADY = 5.0
"""Pixels beyond which a pose is another one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder of videos, folders of frames or strips")
    parser.add_argument("--frame-shape", type=int, help="side of the frames of strips")
    parser.add_argument("--every", type=int, default=10, help="take every n-th frame")
    parser.add_argument("--margins", type=float, nargs="+", default=(0.0, 0.25, 0.5, 0.75, 1.0))
    parser.add_argument("--enlarge", type=int, nargs="+", default=(1, 5))
    parser.add_argument("-o", "--output", type=Path, default=Path("pose.json"))
    options = parser.parse_args()
    shape = None if options.frame_shape is None else (options.frame_shape, options.frame_shape)
    frames = [
        Frame(image, clip.name, number, generated=False)
        for clip in (source.open() for source in list_clips(options.clips, shape))
        for number in range(0, len(clip), options.every)
        for image in clip.frames([number])
    ]
    rows = []
    for enlarge in options.enlarge:
        for margin in options.margins:
            estimator: KeypointEstimator = MediaPipePose(margin=margin)
            if enlarge > 1:
                estimator = EnlargedKeypoints(estimator, enlarge)
            rows.append({"margin": margin, "enlarge": enlarge, **steadiness(estimator, frames)})
            print(rows[-1], flush=True)
    result = {"machine": describe_machine(torch.device("cpu")), "frames": len(frames), "blur": BLUR, "rows": rows}
    options.output.write_text(json.dumps(result, indent=1, default=str) + "\n")


def steadiness(estimator: KeypointEstimator, frames: Sequence[Frame]) -> dict[str, float]:
    """Of an estimator on frames and on the same frames blurred."""
    errors: list[KeypointErrors] = []
    for frame in track(frames, description=estimator.name):
        blurred = replace(frame, image=cv2.GaussianBlur(frame.image, (0, 0), BLUR))
        errors.append(compare_keypoints(estimator.keypoints(frame), estimator.keypoints(blurred), None))
    found = [error for error in errors if error.points]
    distances = np.array([error.distance for error in found if error.missing < error.points])
    return {
        "found": len(found) / len(frames),
        "lost": sum(error.missing for error in found) / sum(error.points for error in found),
        "mean_distance": float(distances.mean()),
        "median_distance": float(np.median(distances)),
        "another_pose": float((distances > STEADY).mean()),
    }


if __name__ == "__main__":
    main()
