"""Which part of a training step takes how much of its time, backward passes included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from lami.training.optimizers import Optimizers
from lami.training.step import TrainingStep

OTHER = "everything else"
_PREFIX = "part: "


def _methods(step: TrainingStep, optimizers: Optimizers) -> dict[str, list[tuple[Any, str]]]:
    model = step.model
    parts: dict[str, list[tuple[Any, str]]] = {
        "keypoints, background": [(model.keypoint_detector, "forward")],
        "dense motion": [
            (model.dense_motion, "decode"),
            (model.dense_motion, "forward"),
            (model.dense_motion.down, "forward"),
        ],
        "encoder": [(model.generator, "encode")],
        "warp": [(model.generator, "warp")],
        "decoder": [(model.generator, "decode")],
        "VGG": [(step.perceptual, "forward")],
        "optimiser": [(optimizers, "begin"), (optimizers, "step")],
    }
    if model.background_predictor is not None:
        parts["keypoints, background"].append((model.background_predictor, "forward"))
    if step.vit is not None:
        parts["ViT"] = [(step.vit, "forward")]
    return parts


@contextmanager
def _marked(step: TrainingStep, optimizers: Optimizers) -> Iterator[None]:
    """Calls of the parts appear in profiles under their names."""
    undo: list[Callable[[], None]] = []
    for part, methods in _methods(step, optimizers).items():
        for owner, name in methods:
            before = vars(owner).get(name)
            call = getattr(owner, name)

            def marked(*arguments: Any, _part: str = part, _call: Callable[..., Any] = call, **keywords: Any) -> Any:
                with record_function(_PREFIX + _part):
                    return _call(*arguments, **keywords)

            setattr(owner, name, marked)
            undo.append(lambda o=owner, n=name, b=before: delattr(o, n) if b is None else setattr(o, n, b))  # type: ignore[misc]
    try:
        yield
    finally:
        for each in undo:
            each()


def seconds_by_part(
    run: Callable[[], object], step: TrainingStep, optimizers: Optimizers, device: torch.device
) -> dict[str, float]:
    """Seconds of each part in one call of `run`, on a GPU those of its kernels.

    An operation belongs to the innermost part that it is called in, its backward pass to the same.
    """
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with _marked(step, optimizers), profile(activities=activities) as profiled:
        run()
    events = profiled.events()
    assert events is not None
    part_of_sequence: dict[int, str] = {}
    seconds = dict.fromkeys([*_methods(step, optimizers), OTHER], 0.0)
    backward = "autograd::engine::evaluate_function"

    def own_seconds(event: Any) -> float:
        """Of the event without those it calls."""
        return (event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total) / 1e6

    def visit(event: Any, part: str, forwards: bool) -> None:
        if event.name.startswith(_PREFIX):
            part = event.name.removeprefix(_PREFIX)
        elif event.name.startswith(backward):
            part, forwards = part_of_sequence.get(event.sequence_nr, OTHER), False
        elif forwards and event.sequence_nr >= 0:
            part_of_sequence[event.sequence_nr] = part
        seconds[part] += own_seconds(event)
        for child in event.cpu_children:
            visit(child, part, forwards)

    for event in sorted(events, key=lambda event: event.time_range.start):
        if event.cpu_parent is None and event.device_type == DeviceType.CPU:
            visit(event, OTHER, True)
    return seconds
