"""The optimisers of TPSMM: Adam over generator, dense motion and detector, and another for the background predictor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Adam

from lami.configs.schema import TrainingConfig
from lami.models import Networks


@dataclass
class Optimizers:
    """main: generator, dense motion network and keypoint detector; background: None without background predictor."""

    networks: Networks
    config: TrainingConfig
    main: Adam
    background: Adam | None

    @classmethod
    def create(cls, networks: Networks, config: TrainingConfig) -> Optimizers:
        def adam(*modules: torch.nn.Module) -> Adam:
            parameters = [parameter for module in modules for parameter in module.parameters()]
            return Adam(parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay)

        main = adam(networks.generator, networks.dense_motion, networks.keypoint_detector)
        predictor = networks.background_predictor
        return cls(networks, config, main, None if predictor is None else adam(predictor))

    def step(self, learning_rate: float, with_background: bool) -> None:
        """Clip gradients (infinity norm; the generator is not clipped), update and clear."""
        networks = self.networks
        clipped: list[torch.nn.Module] = [networks.keypoint_detector, networks.dense_motion]
        active = [self.main]
        if with_background and self.background is not None and networks.background_predictor is not None:
            clipped.append(networks.background_predictor)
            active.append(self.background)
        for module in clipped:
            torch.nn.utils.clip_grad_norm_(module.parameters(), self.config.clip, norm_type=float("inf"))
        for optimizer in active:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {
            "main": self.main.state_dict(),
            "background": None if self.background is None else self.background.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.main.load_state_dict(state["main"])
        if self.background is not None and state["background"] is not None:
            self.background.load_state_dict(state["background"])
