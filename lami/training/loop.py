"""The training loop."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from lami import checkpoint
from lami.configs import dump_config
from lami.configs.schema import Config
from lami.data import DrawSampler, TrainingPairs, find_clips
from lami.errors import ConfigError
from lami.model import LAMI
from lami.progress import track
from lami.training.checkpoints import RunCheckpoints
from lami.training.logs import RunLog
from lami.training.optimizers import Optimizers
from lami.training.panel import training_panel
from lami.training.schedule import learning_rate, step_state
from lami.training.step import TrainingStep

logger = logging.getLogger(__name__)


def train(config: Config, resume: bool = False) -> Path:
    """Train a model, or go on with a run that was cut off.

    Writes to `config.training.output`: `config.yaml`, `checkpoints/`, `log.jsonl`, `tensorboard/`, `panels/` and, at
    the end, `model.safetensors`. Data, dropout and random transforms of a step derive from the seed and the step alone,
    so a resumed run takes the same steps as an uninterrupted one (bitwise on a CPU).

    Args:
        config: what to train on what.
        resume: continue from the newest checkpoint in the output folder.

    Returns:
        Path of `model.safetensors`.

    Raises:
        LamiError: of the data set, the configuration, the pretrained weights or the checkpoint, before training starts;
            or a loss that is not finite.
    """
    settings = config.training
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("training runs in one process so far; start it with 'lami train', not with torchrun")
    output = Path(settings.output)
    checkpoints = RunCheckpoints(output / "checkpoints", settings.keep_checkpoints)
    if not resume and checkpoints.steps():
        raise ConfigError(
            f"{output} holds the checkpoints of another run; add --resume to continue it, or set training.output"
        )
    clips = find_clips(config.data, config.model.image_size)
    pairs = TrainingPairs(clips.train, config.data, config.model.image_size, settings.seed, config.losses.keypoints > 0)
    device = checkpoint.pick_device(settings.device)

    torch.manual_seed(settings.seed)
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    model = LAMI(config.model, config.interpolation, config.vit).to(device, memory_format=layout)
    if settings.init_from is not None and not resume:
        _initialize(model, Path(settings.init_from))
    optimizers = Optimizers.create(model, settings)
    start = checkpoints.resume(model, optimizers) if resume else 0
    step = TrainingStep(model, config.losses, settings.selector)
    step.perceptual.to(memory_format=layout)
    model.train()

    per_step = settings.batch_size * settings.accumulate
    total = settings.epochs * pairs.epoch_length // per_step
    total = max(total, 1) if settings.max_steps is None else min(max(total, 1), settings.max_steps)
    logger.info(
        "%d training clips, %d steps of %d pairs on %s, %.1f M parameters",
        len(clips.train),
        total,
        per_step,
        device,
        sum(parameter.numel() for parameter in model.parameters()) / 1e6,
    )
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.yaml").write_text(dump_config(config))
    log = RunLog(output, start)
    batches = iter(_loader(pairs, config, start * per_step, total * per_step, device))
    try:
        for number in track(range(start + 1, total + 1), description="training"):
            epoch = (number - 1) * per_step // pairs.epoch_length
            rate = learning_rate(settings.learning_rate, settings.milestones, settings.gamma, epoch)
            state = step_state(settings, epoch)
            torch.manual_seed(settings.seed * 1_000_003 + number)
            for _ in range(settings.accumulate):
                batch = next(batches)
                batch = {key: value.to(device, non_blocking=True) for key, value in batch.items() if key != "name"}
                source, driving = (batch[key].contiguous(memory_format=layout) for key in ("source", "driving"))
                with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                    losses = step(source, driving, state, batch.get("control_points"))
                torch.stack([loss.float() for loss in losses.values()]).sum().div(settings.accumulate).backward()
                log.add(losses, len(source))
            optimizers.step(rate, with_background=state.background)
            saves = number % settings.checkpoint_every == 0 or number == total
            if number % settings.log_every == 0 or saves:
                # Also before a checkpoint: it then follows finite losses, and averages start anew where runs resume.
                log.write(number, epoch, rate)
            if saves:
                checkpoints.save(number, model, optimizers)
            if number % settings.panel_every == 0 or number == total:
                log.picture(number, training_panel(model, source, driving, settings.selector))
    finally:
        log.close()
    path = output / "model.safetensors"
    checkpoint.save(model, path)
    logger.info("trained weights are in %s", path)
    return path


def _initialize(model: LAMI, path: Path) -> None:
    """Copy the weights of a file into a model with the same networks; an AVD network is left behind."""
    initial = checkpoint.load(path, device="cpu").state_dict()
    checkpoint.load_tensors(model, {key: value for key, value in initial.items() if not key.startswith("avd.")}, path)


def _loader(pairs: TrainingPairs, config: Config, start: int, stop: int, device: torch.device) -> DataLoader:
    settings = config.training
    return DataLoader(
        pairs,
        batch_size=settings.batch_size,
        sampler=DrawSampler(start, stop),
        num_workers=settings.workers,
        pin_memory=device.type == "cuda",
    )
