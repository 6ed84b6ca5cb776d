"""The optimisers of TPSMM: Adam over generator, dense motion and detector, and another for the background predictor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
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
            return Adam(
                parameters,
                lr=config.learning_rate,
                betas=config.betas,
                weight_decay=config.weight_decay,
                fused=config.fused_adam,
            )

        main = adam(networks.generator, networks.dense_motion, networks.keypoint_detector)
        predictor = networks.background_predictor
        return cls(networks, config, main, None if predictor is None else adam(predictor))

    def clip(self, with_background: bool) -> dict[str, Tensor]:
        """Clip gradients (infinity norm; the generator is not clipped). Returns the norm of each network's before."""
        norms = {}
        for name, network in self._active(with_background).items():
            gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
            norms[name] = norm = torch.nn.utils.get_total_norm(gradients, float("inf"))
            if name != "generator":
                torch.nn.utils.clip_grads_with_norm_(network.parameters(), self.config.clip, norm)
        return norms

    def step(self, learning_rate: float, with_background: bool, skip: Tensor | None = None) -> None:
        """Update and clear gradients.

        skip: scalar, 1 for gradients that are not finite: weights and state then stay as they are. With `fused_adam` it
            is read by the kernel, the host does not wait for it.
        """
        active = [self.main]
        if "background_predictor" in self._active(with_background) and self.background is not None:
            active.append(self.background)
        for optimizer in active:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            if self.config.fused_adam:
                optimizer.found_inf = skip  # type: ignore[attr-defined]  # as torch.amp.GradScaler does
            if self.config.fused_adam or skip is None or not skip:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def _active(self, with_background: bool) -> dict[str, torch.nn.Module]:
        networks = self.networks
        active: dict[str, torch.nn.Module] = {
            "generator": networks.generator,
            "dense_motion": networks.dense_motion,
            "keypoint_detector": networks.keypoint_detector,
        }
        if with_background and networks.background_predictor is not None:
            active["background_predictor"] = networks.background_predictor
        return active

    def state_dict(self) -> dict[str, Any]:
        return {
            "main": self.main.state_dict(),
            "background": None if self.background is None else self.background.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.main.load_state_dict(state["main"])
        if self.background is not None and state["background"] is not None:
            self.background.load_state_dict(state["background"])
