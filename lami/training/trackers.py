"""Where the figures of a run are shown: TensorBoard and, with the extra `lami[wandb]`, Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from lami.errors import ConfigError


class Tracker(Protocol):
    """Takes what a run reports at a step."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def histogram(self, step: int, name: str, values: Sequence[float]) -> None: ...

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """image: (H, W, 3) RGB."""

    def close(self) -> None: ...


class TensorBoard:
    """Event files in `folder`; what a run that was cut off wrote after `start_step` is hidden."""

    def __init__(self, folder: Path, start_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=start_step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def histogram(self, step: int, name: str, values: Sequence[float]) -> None:
        self._writer.add_histogram(name, np.asarray(values), step)

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, which a resumed run continues.

    Args:
        project: to put it into.
        folder: of the run; its absolute path names the run.
        settings: the configuration, to be shown beside it.

    Raises:
        ConfigError: wandb is not installed, or cannot start.
    """

    def __init__(self, project: str, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(
                "training.wandb needs the package wandb; pip install 'lami[wandb]', or leave it null"
            ) from error
        self._wandb = wandb
        identifier = folder / "wandb-id"
        if not identifier.is_file():
            identifier.write_text(uuid4().hex[:8])
        try:
            self._run = wandb.init(
                project=project,
                id=identifier.read_text().strip(),
                resume="allow",
                dir=str(folder),
                name=folder.name,
                config=dict(settings),
            )
        except wandb.errors.Error as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"wandb cannot start ({first}); WANDB_MODE=offline works without network") from error
        # Steps of its own must rise, and a resumed run goes back: ours is the axis instead.
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def histogram(self, step: int, name: str, values: Sequence[float]) -> None:
        self._run.log({"step": step, name: self._wandb.Histogram(values)})

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        self._run.log({"step": step, name: self._wandb.Image(image)})

    def close(self) -> None:
        self._run.finish()
