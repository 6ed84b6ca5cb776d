"""Tables of the files that `lami bench train`, `lami bench animate`, `lami bench data` and `lami ablate` leave."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ops.measure import percentiles
from benchmarks.ops.tables import table


def training(folder: Path, readme: Path) -> str:
    """Of each device the last measured commit, with all its files: each has its own settings and naive run."""
    return _sections(folder, "train", readme, _training)


def animation(folder: Path, readme: Path) -> str:
    """As `training`."""
    return _sections(folder, "animate", readme, _animation)


def data(folder: Path, readme: Path) -> str:
    """As `training`."""
    return _sections(folder, "data", readme, _data)


def ablation(folder: Path, readme: Path) -> str:
    """The summary of each study, with its pictures."""
    parts = []
    for path in sorted(folder.glob("*/ablation/*/summary.md")):
        link = path.parent.relative_to(readme.parent).as_posix()
        parts += [f"### {path.parent.name}, {path.relative_to(folder).parts[0]}", path.read_text().strip()]
        for name, title in (("displacement.png", "AKD by displacement"), ("curves.png", "Losses by step")):
            if (path.parent / name).is_file():
                parts.append(f"![{title}]({link}/{name})")
        parts.append(f"Numbers: [{link}]({link}).")
    return "\n\n".join(parts) or "Not measured yet."


def _newest(folder: Path, kind: str) -> list[Path]:
    """Of each device the files of the commit that was measured last."""
    found = []
    for device in sorted({path.parent for path in folder.glob(f"*/{kind}/*.json")}):
        machines = {path: json.loads(path.read_text())["machine"] for path in sorted(device.glob("*.json"))}
        last = max(machines.values(), key=lambda machine: machine["date"])
        found += [path for path, machine in machines.items() if machine["commit"] == last["commit"]]
    return found


def _sections(folder: Path, kind: str, readme: Path, tell: Callable[[dict[str, Any]], str]) -> str:
    parts = []
    for path in _newest(folder, kind):
        found = json.loads(path.read_text())
        source = path.relative_to(readme.parent).as_posix()
        parts.append(f"{tell(found)}\n\n{_where(found, source)}")
        if path.with_suffix(".png").is_file():
            parts.append(f"![Share of the parts]({Path(source).with_suffix('.png')})")
    return "\n\n".join(parts) or "Not measured yet."


def _where(found: dict[str, Any], source: str) -> str:
    machine = found["machine"]
    command = f" by `{found['command']}`" if "command" in found else ""
    return (
        f"{machine['device']}: {machine['gpu'] or machine['processor']}, {machine['threads']} of {machine['cores']} "
        f"cores, load average {machine['load']:g} at the start; torch {machine['versions']['torch']}; commit "
        f"{machine['commit'][:8]}{' with changes' if machine['dirty'] else ''}, {machine['date'][:10]}{command}. "
        f"Numbers: [{Path(source).name}]({source})."
    )


def _training(found: dict[str, Any]) -> str:
    naive = found["sides"][0]
    rows = []
    for side in found["sides"]:
        seconds = statistics.median(side["seconds"])
        rows.append([side["name"], _spread(side["seconds"]), f"{found['batch_size'] / seconds:.2f}"])
        rows[-1] += ["" if side is naive else _faster(naive["seconds"], side["seconds"])]
        rows[-1] += [f"{side['peak_bytes'] / 1e6:.0f}"]
        rows[-1] += ["" if side is naive else f"{100 * side['peak_bytes'] / naive['peak_bytes']:.0f} %"]
    head = ["", "seconds a step (p20 to p80)", "pairs a second", "faster (p20 to p80)", "peak MB", "of naive's"]
    size = " x ".join(map(str, found["settings"]["model"]["image_size"]))
    return f"{size}, {found['batch_size']} pairs a step:\n\n{table(head, rows)}"


def _animation(found: dict[str, Any]) -> str:
    rows = []
    for case in found["cases"]:
        naive = case["sides"][0]
        for side in case["sides"]:
            seconds = statistics.median(side["seconds"])
            rows.append([f"{case['size']}", f"{len(case['times'])}", side["name"], f"{1 / seconds:.2f}"])
            rows[-1] += ["" if side is naive else _faster(naive["seconds"], side["seconds"])]
            rows[-1] += [_spread([1e3 * each for each in side["latency"]]), f"{side['peak_bytes'] / 1e6:.0f}"]
            rows[-1] += [f"{255 * side['difference']:.2f}", f"{side['other_times']:.0%}"]
    head = ["size", "times", "", "frames a second", "faster (p20 to p80)", "ms for one frame (p20 to p80)", "peak MB"]
    return table([*head, "difference, of 255", "other times"], rows)


def _data(found: dict[str, Any]) -> str:
    roots = list(dict.fromkeys(each["root"] for each in found["throughputs"]))
    rates = {(each["root"], each["workers"]): each["pairs_per_second"] for each in found["throughputs"]}
    rounds = {(each["root"], each["workers"]): each["rounds"] for each in found["throughputs"]}
    rows = []
    for workers in sorted({each["workers"] for each in found["throughputs"]}):
        cells = [f"{rates[roots[0], workers]:.0f}"]
        for root in roots[1:]:
            faster = [b / a for a, b in zip(rounds[roots[0], workers], rounds[root, workers], strict=True)]
            cells.append(f"{rates[root, workers]:.0f} ({statistics.median(faster):.1f}x)")
        rows.append([f"{workers}" + (" (in the training process)" if workers == 0 else ""), *cells])
    costs = {each["root"]: each for each in found["costs"]}
    for label, name, scale in (
        ("ms a pair, one process", "milliseconds", 1.0),
        ("without augmentation", "milliseconds_without_augmentation", 1.0),
        ("KB read a pair", "bytes_read", 1e-3),
    ):
        digits = 0 if name == "bytes_read" else 1
        rows.append([label, *(f"{scale * costs[root][name]:.{digits}f}" for root in roots)])
    return "Pairs a second, augmented as for training:\n\n" + table(["processes that load", *roots], rows)


def _spread(values: Sequence[float]) -> str:
    low, middle, high = percentiles(list(values))
    digits = 2 if middle < 10 else 0
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _faster(naive: Iterable[float], ours: Iterable[float]) -> str:
    """Ratios of rounds of the same turn."""
    low, middle, high = percentiles([a / b for a, b in zip(naive, ours, strict=True)])
    return f"{middle:.2f}x ({low:.2f} to {high:.2f})"
