"""Animate a picture without PyTorch and lami (no fusion, skip_below, redetection); videos may be frames/%04d.png.

lami export model.safetensors -o graphs --onnx
python examples/onnx_animate.py graphs person.jpg dance.mp4 result.mp4"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

parser = argparse.ArgumentParser()
for name in ("graphs", "source", "driving", "output"):
    parser.add_argument(name)
parser.add_argument("--stages", type=int, choices=(1, 2), default=2, help="1 goes straight to the driving pose")
options = parser.parse_args()
report = json.loads(Path(options.graphs, "export.json").read_text())
size, settings = report["image_size"][::-1], report["interpolation"]
graphs = {name: onnxruntime.InferenceSession(f"{options.graphs}/{name}.onnx") for name in report["parts"]}


def run(part: str, *inputs: np.ndarray) -> list[np.ndarray]:
    names = [value.name for value in graphs[part].get_inputs()]
    return graphs[part].run(None, {name: np.float32(value) for name, value in zip(names, inputs, strict=True)})


def load(picture: np.ndarray) -> np.ndarray:  # BGR bytes of any size -> RGB (1, 3, H, W) in [0, 1]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)[None, ..., ::-1].transpose(0, 3, 1, 2) / 255


def move(image: np.ndarray, kp_image: np.ndarray, kp_target: np.ndarray) -> np.ndarray:  # the camera stands still
    motion = run("motion", image, kp_image, kp_target, np.tile(np.eye(3), (len(image), 1, 1)))
    return run("generator", image, *motion)[0]


def between(image: np.ndarray, kp_image: np.ndarray, kp_target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    times = np.array([settings["fixed_time"]] if settings["selector"] == "fixed" else settings["times"])
    keypoints = kp_image + times[:, None, None, None] * (kp_target - kp_image)  # Eq. 1
    images = move(*(np.repeat(x, len(times), axis=0) for x in (image, kp_image)), keypoints)
    costs = [np.linalg.norm((keypoints - kp_target).reshape(len(times), -1), axis=1)]
    if "class_token" in graphs:
        costs.append(np.linalg.norm(run("class_token", images)[0] - run("class_token", image)[0], axis=1))
    best = sum(cost / (cost.sum() + 1e-8) for cost in costs).argmin()  # Eq. 4
    return images[best : best + 1], keypoints[best : best + 1]


frames, source = cv2.VideoCapture(options.driving), load(cv2.imread(options.source))
kind = (cv2.CAP_IMAGES, 0) if options.output.endswith(".png") else (cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"))
video = cv2.VideoWriter(options.output, *kind, frames.get(cv2.CAP_PROP_FPS) or 25, size)
start, shift = (source, run("detector", source)[0]), None
while (frame := frames.read()[1]) is not None:
    kp_driving = run("detector", load(frame))[0]
    shift = start[1] - kp_driving if shift is None else shift  # motion is relative to the first frame
    target = kp_driving + shift
    result = move(*(between(*start, target) if options.stages == 2 and settings["enabled"] else start), target)[0]
    video.write(np.ascontiguousarray(np.uint8(255 * result.transpose(1, 2, 0)[:, :, ::-1] + 0.5)))
video.release()
