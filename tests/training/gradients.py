"""Run under torchrun or alone: trains with a configuration and saves the gradients of every step. Not a test."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from lami.configs import load_config
from lami.training import train
from lami.training.optimizers import Optimizers


def main(config: str, output: str) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    take = Optimizers.step

    def step(self: Optimizers, *arguments: Any, **keywords: Any) -> Any:
        seen.append({n: p.grad.clone() for n, p in self.networks.named_parameters() if p.grad is not None})
        if dist.is_initialized():  # what every process is about to use
            for gradient in seen[-1].values():
                largest = gradient.clone()
                dist.all_reduce(largest, dist.ReduceOp.MAX)
                assert torch.equal(largest, gradient)
        return take(self, *arguments, **keywords)

    Optimizers.step = step
    train(load_config(Path(config)))
    if os.environ.get("RANK", "0") == "0":
        torch.save(seen, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
