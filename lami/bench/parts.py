"""Which part of a piece of work takes how much of its time, backward passes included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

OTHER = "everything else"
_PREFIX = "part: "


Parts = Mapping[str, Sequence[tuple[Any, str]]]
"""Methods by the name of the part that they are: their object, and what they are called there."""


@contextmanager
def _marked(parts: Parts) -> Iterator[None]:
    """Calls of the parts appear in profiles under their names."""
    undo: list[Callable[[], None]] = []
    for part, methods in parts.items():
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


def seconds_by_part(run: Callable[[], object], parts: Parts, device: torch.device) -> dict[str, float]:
    """Seconds of each part in one call of `run`, on a GPU those of its kernels.

    An operation belongs to the innermost part that it is called in, its backward pass to the same.
    """
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with _marked(parts), profile(activities=activities) as profiled:
        run()
    events = profiled.events()
    assert events is not None
    part_of_sequence: dict[int, str] = {}
    seconds = dict.fromkeys([*parts, OTHER], 0.0)
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
