"""The training loop."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from lami import checkpoint
from lami.configs.schema import Config
from lami.data import DrawBatches, TrainingPairs, find_clips
from lami.data.files import claimed
from lami.errors import ConfigError, DataError, LamiError
from lami.model import LAMI
from lami.processes import Processes, join_processes
from lami.progress import track
from lami.training.acceleration import accelerate
from lami.training.checkpoints import RunCheckpoints
from lami.training.interruption import Interruption, interruptible, leave_group
from lami.training.logs import RunLog
from lami.training.optimizers import Optimizers
from lami.training.panel import training_panel
from lami.training.record import record_start
from lami.training.schedule import learning_rate, step_state
from lami.training.step import TrainingStep
from lami.training.trackers import TensorBoard, Tracker, WeightsAndBiases

logger = logging.getLogger(__name__)

_LOST_WORKER = "DataLoader worker"
"""What PyTorch's message about a worker that died holds."""


def train(config: Config, resume: bool = False, again: str = "the same command with --resume") -> Path | None:
    """Train a model, or go on with a run that was cut off.

    Writes to `config.training.output`: `config.yaml`, `environment.jsonl` and, from a changed source tree, patches of
    it (see `lami.training.record`), `checkpoints/`, `log.jsonl`, `anomalies.jsonl` (steps that were left out),
    `tensorboard/`, `panels/` and, at the end, `model.safetensors`. Data, dropout and random transforms of a step derive
    from the seed and the step alone, so a resumed run takes the same steps as an uninterrupted one (bitwise on a CPU).

    Started by torchrun, several processes share each batch, whose size stays `training.batch_size`; a run may go on
    with another number of them. All must see the output folder, which rank 0 writes.

    Args:
        config: what to train on what.
        resume: continue from the newest checkpoint in the output folder that can be read. Under torchrun, start where
            there is none, so that processes which it restarts after a failure go on.
        again: what messages about an end before the last step say that goes on.

    Returns:
        Path of `model.safetensors`; None for a run that SIGINT or SIGTERM ended, after writing a checkpoint.

    Raises:
        LamiError: of the data set, the configuration, the pretrained weights or the checkpoint, before training starts;
            three steps in a row that are not finite, data that cannot be read any more, another run that writes to
            the output folder, or a checkpoint that cannot be written.
    """
    try:
        with (
            join_processes(config.training.device) as processes,
            interruptible() as interruption,
            contextlib.ExitStack() as held,
        ):
            return _train(config, resume, again, processes, interruption, held)
    except RuntimeError as error:
        # It comes with a signal, at any moment: in the middle of a step there is nothing to save.
        if _LOST_WORKER not in str(error):
            raise
        raise LamiError(
            f"a process that loads data died, often for lack of memory; {again} goes on from the last checkpoint, and "
            "fewer processes (training.workers) need less"
        ) from error


def _train(
    config: Config,
    resume: bool,
    again: str,
    processes: Processes,
    interruption: Interruption,
    held: contextlib.ExitStack,
) -> Path | None:
    settings = config.training
    if settings.batch_size < processes.size:
        raise ConfigError(
            f"training.batch_size is {settings.batch_size}, fewer than the {processes.size} processes that share it; "
            "raise it or start fewer"
        )
    output = Path(settings.output)
    checkpoints = RunCheckpoints(output / "checkpoints", settings.keep_checkpoints, settings.keep_best)
    if resume and processes.size > 1:
        resume = bool(processes.from_first(len(checkpoints.steps())))
    elif checkpoints.steps() and not resume:
        raise ConfigError(
            f"{output} holds the checkpoints of another run; add --resume to continue it, or set training.output"
        )
    clips = find_clips(config.data, config.model.image_size)
    pairs = TrainingPairs(clips.train, config.data, config.model.image_size, settings.seed, config.losses.keypoints > 0)
    device = processes.device

    torch.manual_seed(settings.seed)
    model = LAMI(config.model, config.interpolation, config.vit).to(device)
    if settings.init_from is not None and not resume:
        _initialize(model, Path(settings.init_from))
    step = TrainingStep(model, config.losses, settings.selector)
    accelerate(step, settings)
    optimizers = Optimizers.create(model, settings)
    if processes.first:
        held.enter_context(claimed(output))
    start = _resume(checkpoints, model, optimizers, processes) if resume else 0
    model.train()
    losses_of = processes.together(_Losses(step))

    per_step = settings.batch_size * settings.accumulate
    total = settings.epochs * pairs.epoch_length // per_step
    total = max(total, 1) if settings.max_steps is None else min(max(total, 1), settings.max_steps)
    logger.info(
        "%d training clips, %d steps of %d pairs on %s, %.1f M parameters",
        len(clips.train),
        total,
        per_step,
        device if processes.size == 1 else f"{processes.size} times {device.type}",
        sum(parameter.numel() for parameter in model.parameters()) / 1e6,
    )
    trackers: list[Tracker] = []
    if processes.first:
        record_start(output, config, start, processes)
        trackers.append(TensorBoard(output / "tensorboard", start))
        if settings.wandb is not None:
            trackers.append(WeightsAndBiases(settings.wandb, output, config.model_dump(mode="json")))
    log = RunLog(output, start, processes, trackers)
    autocast = partial(torch.autocast, device.type, torch.bfloat16, enabled=settings.precision == "bf16")
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    batches = iter(_loader(pairs, config, start * per_step, total * per_step, processes))
    done, saved, image_losses = start, time.monotonic(), []
    try:
        for number in track(range(start + 1, total + 1), description="training"):
            epoch = (number - 1) * per_step // pairs.epoch_length
            rate = learning_rate(settings.learning_rate, settings.milestones, settings.gamma, epoch)
            state = step_state(settings, epoch)
            torch.manual_seed(processes.seed(settings.seed, number))
            if settings.cuda_graphs:
                torch.compiler.cudagraph_mark_step_begin()
            optimizers.begin()
            sums: dict[str, Tensor] = {}
            times = []
            for part in range(settings.accumulate):
                batch = _next(batches, settings.workers)
                batch = {key: value.to(device, non_blocking=True) for key, value in batch.items() if key != "name"}
                source, driving = (batch[key].contiguous(memory_format=layout) for key in ("source", "driving"))
                weight = processes.weight(len(source), settings.batch_size) / settings.accumulate
                with _averaging(losses_of, part == settings.accumulate - 1):
                    with autocast():
                        losses = losses_of(source, driving, state, batch.get("control_points"))
                    total_loss = torch.stack([loss.float() for loss in losses.values()]).sum()
                    # A loss that is not finite shows in all gradients, and so in all processes.
                    (total_loss * (weight + 0 * total_loss.detach())).backward()
                for name, loss in losses.items():
                    sums[name] = sums.get(name, 0) + loss.detach() * weight
                if step.selected_times is not None:
                    times.append(step.selected_times)
            norms = optimizers.step(rate, state.background)
            log.add(number, sums, norms, torch.cat(times) if times else None, per_step)

            late = settings.checkpoint_minutes is not None and (
                time.monotonic() - saved > 60 * settings.checkpoint_minutes
            )
            stops, late = processes.any(interruption.requested, late)
            saves = number % settings.checkpoint_every == 0 or number == total or stops or late
            if number % settings.log_every == 0 or saves:
                # Also before a checkpoint: averages start anew where runs resume.
                losses_of_log, counted = log.write(number, epoch, rate)
                image_losses.append((_of_images(losses_of_log), counted))
            if saves:
                if processes.first:
                    checkpoints.save(number, model, optimizers, _mean(image_losses))
                saved, image_losses = time.monotonic(), []
            if (number % settings.panel_every == 0 or number == total) and processes.first:
                with autocast():
                    log.picture(number, training_panel(model, source, driving, settings.selector))
            done = number
            if stops and number < total:
                logger.info("stopped after step %d of %d, which is saved; %s goes on", number, total, again)
                return None
    except DataError as error:
        # A worker's has its traceback before it.
        reason = str(error).strip().splitlines()[-1].removeprefix("lami.errors.DataError: ")
        if processes.size == 1 and done > start:
            optimizers.rewind()
            log.write(done, epoch, rate)
            checkpoints.save(done, model, optimizers)
            reason += f"; step {done} is saved, {again} goes on from there"
        raise DataError(reason) from error
    finally:
        log.close()
    path = output / "model.safetensors"
    if processes.first:
        checkpoint.save(model, path)
    logger.info("trained weights are in %s", path)
    return path


def _of_images(losses: dict[str, float]) -> float | None:
    """By which checkpoints compare: only these losses mean the same in every part of a run."""
    found = [losses[name] for name in ("reconstruction", "pixel") if name in losses]
    return sum(found) if found else None


def _mean(values: list[tuple[float | None, int]]) -> float | None:
    """Of values with the number of steps that each is the mean of."""
    known = [(value, steps) for value, steps in values if value is not None]
    steps = sum(steps for _, steps in known)
    return sum(value * count for value, count in known) / steps if steps else None


class _Losses(nn.Module):
    """The step as a module, for what wraps modules."""

    def __init__(self, step: TrainingStep) -> None:
        super().__init__()
        self.model = step.model
        self.step = step

    def forward(self, *arguments: Any) -> dict[str, Tensor]:
        return self.step(*arguments)


def _averaging(losses_of: nn.Module, last: bool) -> contextlib.AbstractContextManager[None]:
    """Gradients are averaged over the processes with the last backward pass of a step."""
    if isinstance(losses_of, DistributedDataParallel) and not last:
        return losses_of.no_sync()
    return contextlib.nullcontext()


def _next(batches: Iterator[dict[str, Any]], workers: int) -> dict[str, Any]:
    try:
        return next(batches)
    except (EOFError, ConnectionError, FileNotFoundError) as error:
        if workers == 0:
            raise
        # In the middle of what it was sending. The signal may still be on its way, and then says more.
        time.sleep(1)
        raise RuntimeError(f"{_LOST_WORKER} is gone") from error


def _resume(checkpoints: RunCheckpoints, model: LAMI, optimizers: Optimizers, processes: Processes) -> int:
    """The first process decides which checkpoint it is, or damage that one of them sees would part them."""
    step = checkpoints.resume(model, optimizers) if processes.first else 0
    step = processes.from_first(step)
    if not processes.first:
        checkpoints.load(step, model, optimizers)
    return step


def _initialize(model: LAMI, path: Path) -> None:
    """Copy the weights of a file into a model with the same networks; an AVD network is left behind."""
    initial = checkpoint.load(path, device="cpu").state_dict()
    checkpoint.load_tensors(model, {key: value for key, value in initial.items() if not key.startswith("avd.")}, path)


def _loader(pairs: TrainingPairs, config: Config, start: int, stop: int, processes: Processes) -> DataLoader:
    settings = config.training
    return DataLoader(
        pairs,
        batch_sampler=DrawBatches(start, stop, settings.batch_size, processes.share),
        num_workers=settings.workers,
        pin_memory=processes.device.type == "cuda",
        worker_init_fn=leave_group,
    )
