"""Training of the AVD network on the keypoints of a trained model."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch.optim import Adam
from torch.utils.data import DataLoader

from lami import checkpoint
from lami.configs.schema import AVDConfig, Config
from lami.data import DrawBatches, TrainingPairs, find_clips
from lami.errors import ConfigError
from lami.progress import track
from lami.training.schedule import learning_rate

logger = logging.getLogger(__name__)


def train_avd(model_path: str | Path, config: Config, output: str | Path, overwrite: bool = False) -> Path:
    """Add an AVD network to a trained model, which is otherwise left as it is (MRAA; settings of TPSMM).

    The network learns to undo a random scale of the driving keypoints, given the source's. The detector stays in eval
    mode, so its batch norm statistics do not change.

    Args:
        model_path: a trained model.
        config: `data`, `avd_training`, and seed, device and workers of `training`.
        output: the model with its AVD network, a safetensors file.
        overwrite: replace an output that exists.

    Returns:
        `output` as a path.

    Raises:
        LamiError: of the checkpoint or the data set.
    """
    model_path, output = Path(model_path), Path(output)
    checkpoint.check_output(model_path, output, overwrite)
    settings = config.avd_training
    device = checkpoint.pick_device(config.training.device)
    model = checkpoint.load(model_path, device)
    data = config.data.model_copy(update={"repeats": settings.repeats})
    clips = find_clips(data, model.config.image_size)
    pairs = TrainingPairs(clips.train, data, model.config.image_size, config.training.seed)

    torch.manual_seed(config.training.seed)
    avd = model.add_avd(model.config.avd or AVDConfig()).to(device).train()
    optimizer = Adam(avd.parameters(), lr=settings.learning_rate, betas=settings.betas)
    total = max(settings.epochs * pairs.epoch_length // settings.batch_size, 1)
    total = total if settings.max_steps is None else min(total, settings.max_steps)
    low, high = settings.scale_range
    if not 0 < low <= high:
        raise ConfigError(f"avd_training.scale_range must be two ascending positive numbers, got {low} and {high}")
    loader = DataLoader(
        pairs,
        batch_sampler=DrawBatches(0, total * settings.batch_size, settings.batch_size),
        num_workers=config.training.workers,
        pin_memory=device.type == "cuda",
    )
    recent = torch.zeros((), device=device)
    report_every = max(total // 20, 1)
    for number, batch in enumerate(track(loader, total, "training avd"), start=1):
        epoch = (number - 1) * settings.batch_size // pairs.epoch_length
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings.learning_rate, settings.milestones, settings.gamma, epoch)
        with torch.no_grad():
            kp_source = model.detect_keypoints(batch["source"].to(device))
            kp_driving = model.detect_keypoints(batch["driving"].to(device))
        scale = torch.empty(len(kp_driving), 1, 1, 2, device=device).uniform_(low, high)
        loss = (kp_driving - avd(kp_source, kp_driving * scale)).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        recent += loss.detach()
        if number % report_every == 0:
            logger.info("step %d of %d: mean keypoint error %.5f", number, total, float(recent) / report_every)
            recent.zero_()
    avd.eval()
    checkpoint.save(model, output)
    logger.info("the model with its AVD network is in %s", output)
    return output
