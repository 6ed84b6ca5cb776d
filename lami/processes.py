"""The processes of a run: one, or those that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lami.checkpoint import pick_device
from lami.errors import ConfigError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """Who else works: rank 0 of `size` writes what is common, and each process takes its share of a batch or list."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, draws: range) -> range:
        """This process's part of the draws of a batch; parts differ by one draw at most."""
        first, last = (len(draws) * rank // self.size for rank in (self.rank, self.rank + 1))
        return draws[first:last]

    def weight(self, samples: int, batch: int) -> float:
        """What a mean over this process's `samples` is multiplied by, for gradients of the mean over the whole batch:
        gradients are averaged over processes."""
        return samples * self.size / batch

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values = values / self.size
        return values

    def seed(self, seed: int, step: int) -> int:
        """Of a step's random numbers: other ones in each process, which has other samples. A CPU uses 32 bits of it."""
        if self.first:
            return seed * 1_000_003 + step
        return int(np.random.SeedSequence((seed, step, self.rank)).generate_state(1)[0])

    def from_first(self, number: int) -> int:
        """The number that the first process has."""
        if self.size > 1:
            shared = torch.tensor(number)
            dist.broadcast(shared, 0)
            number = int(shared.item())
        return number

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Whether each flag is set in any process, through host memory: the GPU is not waited for."""
        if self.size == 1:
            return flags
        shared = torch.tensor(flags, dtype=torch.float32)
        dist.all_reduce(shared)
        return tuple(flag > 0 for flag in shared.tolist())

    def gather(self, item: Item) -> list[Item]:
        """The item of each process, in all of them; anything that can be pickled. Waits until all have come."""
        if self.size == 1:
            return [item]
        items: list[Item | None] = [None] * self.size
        dist.all_gather_object(items, item)
        return cast(list[Item], items)

    def together(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the processes; on GPUs batch norm then sees the whole batch."""
        if self.size == 1:
            return module
        if self.device.type == "cuda":
            from timm.layers.norm_act import convert_sync_batchnorm  # knows timm's batch norm with activation

            module = convert_sync_batchnorm(module)
        # Parts start at epochs of their own, and batch norm's statistics are those of rank 0 in every checkpoint.
        return DistributedDataParallel(
            module,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            find_unused_parameters=True,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )


@contextmanager
def join_processes(device: str, patience: timedelta | None = None) -> Iterator[Processes]:
    """Join the run that torchrun's environment describes; without one this process is the whole run.

    Args:
        device: as `training.device`; `auto` and `cuda` are one GPU for each process of a machine.
        patience: how long processes wait for each other; None is torch's default, minutes.

    Raises:
        ConfigError: the device is not there, or there are more processes than GPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Processes(0, 1, pick_device(device))
        return
    chosen = pick_device(device)
    if chosen.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if chosen.index is not None or local >= torch.cuda.device_count():
            raise ConfigError(
                f"process {local} of this machine cannot have a GPU of its own among {torch.cuda.device_count()}, with "
                f"device {device}; choose cuda and start one process a GPU"
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
    if size == local_size and "TORCHELASTIC_RESTART_COUNT" in os.environ:
        # torchrun's store outlives the processes: after a restart it still has the addresses of those that died. On
        # several machines the counts may differ, and torchrun must be told not to share it: docs/planning.md.
        wait: dict[str, Any] = {} if patience is None else {"timeout": patience}
        store, rank, _ = next(dist.rendezvous("env://", **wait))  # type: ignore[attr-defined]
        attempt = dist.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=attempt, rank=rank, world_size=size, timeout=patience)
    else:
        dist.init_process_group(backend, timeout=patience)
    try:
        yield Processes(dist.get_rank(), size, chosen)
    finally:
        dist.destroy_process_group()
