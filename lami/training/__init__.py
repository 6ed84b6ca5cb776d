"""Training: one step (`step`), its schedules, checkpoints and logs, and the loop around it (`loop`)."""

from lami.training.avd import train_avd
from lami.training.loop import train

__all__ = ["train", "train_avd"]
