"""How many training pairs a second the data loader delivers."""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from lami.configs.schema import AugmentationConfig, Config, DataConfig
from lami.data import DrawBatches, TrainingPairs, find_clips
from lami.data.files import atomic_path
from lami.environment import describe_machine
from lami.errors import ConfigError
from lami.progress import track

_ROUNDS = 5
_PROBED_PAIRS = 32
_ENDLESS = 10**9
"""Draws; never reached."""


@dataclass(frozen=True)
class Throughput:
    """Pairs a second of a folder with a number of worker processes."""

    root: str
    workers: int
    pairs_per_second: float
    """Median of the rounds."""
    rounds: tuple[float, ...]


@dataclass(frozen=True)
class Cost:
    """What a pair of a folder costs in one process, without a data loader."""

    root: str
    milliseconds: float
    """Median over pairs."""
    milliseconds_without_augmentation: float
    bytes_read: int | None
    """From files, a pair, whether they were cached or not; None where the system does not count."""
    open_files: int | None
    """That stay open after the pairs."""


@dataclass(frozen=True)
class DataBenchmark:
    """A run of the benchmark. The order of `throughputs` and `costs` is that of the roots."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    throughputs: tuple[Throughput, ...]
    costs: tuple[Cost, ...]

    def table(self) -> str:
        """The figures as lines of text; ratios are to the first folder with as many workers, medians of the rounds."""
        first = {t.workers: t.rounds for t in self.throughputs if t.root == self.costs[0].root}
        width = max(len(cost.root) for cost in self.costs)
        lines = [f"{'folder':<{width}}  workers  pairs/s  ratio"]
        for t in self.throughputs:
            ratio = statistics.median(a / b for a, b in zip(t.rounds, first[t.workers], strict=True))
            lines.append(f"{t.root:<{width}}  {t.workers:7d}  {t.pairs_per_second:7.1f}  {ratio:4.1f}x")
        lines += ["", f"{'folder':<{width}}  ms a pair  without augmentation  KB read  open files"]
        for cost in self.costs:
            read = "unknown" if cost.bytes_read is None else f"{cost.bytes_read / 1e3:.1f}"
            files = "unknown" if cost.open_files is None else cost.open_files
            times = f"{cost.milliseconds:9.2f}  {cost.milliseconds_without_augmentation:20.2f}"
            lines.append(f"{cost.root:<{width}}  {times}  {read:>7}  {files:>10}")
        return "\n".join(lines)


def bench_data(
    config: Config,
    roots: Sequence[str | Path] = (),
    workers: Sequence[int] = (0,),
    seconds: float = 10.0,
    output: str | Path | None = None,
) -> DataBenchmark:
    """Measure the training pairs of one or several folders, and print a table.

    Each combination of folder and workers is measured in five windows. All take their turns window by window, so that
    whatever else the machine does falls on all of them, and ratios compare windows of the same turn. What the workers
    prepared before a window is not counted.

    Args:
        config: data, image size, batch size and seed as for training.
        roots: folders instead of `config.data.root`; strips need `data.frame_shape`.
        workers: numbers of processes to measure with; 0 loads in the process itself.
        seconds: all windows of a combination together.
        output: json file for the result.

    Raises:
        ConfigError: an argument cannot work.
        DataError: a folder has no training clips.
    """
    if seconds <= 0 or not workers or min(workers) < 0:
        raise ConfigError("seconds must be positive, and workers 0 or more")
    if len(set(map(str, roots))) < len(roots):
        raise ConfigError("a folder is named twice, give each once")
    datas = [config.data.model_copy(update={"root": str(root), "synthetic": None}) for root in roots] or [config.data]
    machine = describe_machine(torch.device("cpu"))
    sets = {data.root or "generated": _pairs(config, data) for data in datas}
    costs = tuple(
        _cost(name, sets[name], _pairs(config, data.model_copy(update={"augmentation": AugmentationConfig()})))
        for name, data in zip(sets, datas, strict=True)
    )

    combinations = [(name, count) for count in workers for name in sets]
    rates: dict[tuple[str, int], list[float]] = {combination: [] for combination in combinations}
    for name, count in track(combinations * _ROUNDS, description="measuring"):
        loader = DataLoader(
            sets[name],
            batch_sampler=DrawBatches(0, _ENDLESS, config.training.batch_size),
            num_workers=count,
        )
        rates[name, count].append(_rate(loader, count, seconds / _ROUNDS))
    result = DataBenchmark(
        machine=machine,
        settings={
            "image_size": config.model.image_size,
            "batch_size": config.training.batch_size,
            "seconds": seconds,
            "augmentation": config.data.augmentation.model_dump(mode="json"),
        },
        throughputs=tuple(
            Throughput(name, count, statistics.median(found), tuple(found)) for (name, count), found in rates.items()
        ),
        costs=costs,
    )
    print(result.table())
    if output is not None:
        with atomic_path(Path(output)) as partial:
            partial.write_text(json.dumps(asdict(result), indent=1, default=str) + "\n")
    return result


def _pairs(config: Config, data: DataConfig) -> TrainingPairs:
    size = config.model.image_size
    return TrainingPairs(find_clips(data, size).train, data, size, config.training.seed)


def _rate(loader: DataLoader[Mapping[str, Any]], workers: int, seconds: float) -> float:
    """Pairs a second, after those that are prepared ahead while the workers start."""
    batches = iter(loader)
    for _ in range(1 + (loader.prefetch_factor or 0) * workers):
        next(batches)
    start = now = time.perf_counter()
    pairs = 0
    while now - start < seconds:
        pairs += len(next(batches)["source"])
        now = time.perf_counter()
    return pairs / (now - start)


def _cost(name: str, pairs: TrainingPairs, plain: TrainingPairs) -> Cost:
    gc.collect()  # files that others left behind
    files, read = _open_files(), _bytes_read()
    for draw in range(_PROBED_PAIRS):
        pairs[draw]
    files_after, read_after = _open_files(), _bytes_read()
    # One after the other with the same frames, so that both find the machine and its caches alike.
    times: tuple[list[float], list[float]] = [], []
    for draw in range(_PROBED_PAIRS):
        for kind, found in zip((pairs, plain), times, strict=True):
            start = time.perf_counter()
            kind[draw]
            found.append(1e3 * (time.perf_counter() - start))
    return Cost(
        root=name,
        milliseconds=statistics.median(times[0]),
        milliseconds_without_augmentation=statistics.median(times[1]),
        bytes_read=None if read is None or read_after is None else (read_after - read) // _PROBED_PAIRS,
        open_files=None if files is None or files_after is None else files_after - files,
    )


def _open_files() -> int | None:
    """Of this process, on Linux."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return None


def _bytes_read() -> int | None:
    """By this process since it began, on Linux."""
    try:
        counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    except OSError:
        return None
    return int(counters["rchar"])
