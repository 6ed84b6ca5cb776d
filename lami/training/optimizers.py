"""The optimisers of TPSMM: Adam over generator, dense motion and detector, and another for the background predictor."""

from __future__ import annotations

from dataclasses import dataclass, field
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
    _before: list[Tensor] = field(default_factory=list)

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

    def begin(self) -> None:
        """Remember the batch norm statistics, at the start of a step: a step that is left out must not change them."""
        self._before = [buffer.clone() for buffer in self._statistics()]

    def rewind(self) -> None:
        """Batch norm statistics as they were at `begin`."""
        self._restore(torch.ones((), dtype=torch.bool))

    def step(self, learning_rate: float, with_background: bool) -> dict[str, Tensor]:
        """Clip gradients (infinity norm; the generator is not clipped), update and clear.

        Where a gradient is not finite nothing changes: neither weights and state nor, after `begin`, batch norm
        statistics. With `fused_adam` the kernels decide that, and the host does not wait.

        Returns:
            The largest gradient of each network that has any, before clipping; on its device.
        """
        norms = self._clip(with_background)
        finite = torch.stack(list(norms.values())).isfinite().all()
        active = [self.main]
        if "background_predictor" in norms and self.background is not None:
            active.append(self.background)
        for optimizer in active:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            if self.config.fused_adam:
                optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]  # as torch.amp.GradScaler does
            if self.config.fused_adam or finite:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._restore(~finite)
        return norms

    def _clip(self, with_background: bool) -> dict[str, Tensor]:
        norms = {}
        for name, network in self._active(with_background).items():
            gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
            if not gradients:
                continue
            norms[name] = norm = torch.nn.utils.get_total_norm(gradients, float("inf"))
            if name != "generator":
                torch.nn.utils.clip_grads_with_norm_(network.parameters(), self.config.clip, norm)
        return norms

    def _statistics(self) -> list[Tensor]:
        networks = self.networks
        owners = (networks.keypoint_detector, networks.background_predictor)
        return [buffer for owner in owners if owner is not None for buffer in owner.buffers()]

    def _restore(self, where: Tensor) -> None:
        if self._before:
            for buffer, before in zip(self._statistics(), self._before, strict=True):
                buffer.copy_(torch.where(where.to(buffer.device), before, buffer))

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
        """Take over moments and step numbers; settings stay those of the configuration."""
        _load(self.main, state["main"])
        if self.background is not None and state["background"] is not None:
            _load(self.background, state["background"])


def _load(optimizer: Adam, state: dict[str, Any]) -> None:
    (settings,) = ({key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups)
    groups = [group | settings for group in state["param_groups"]]
    optimizer.load_state_dict(state | {"param_groups": groups})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == parameter.shape:
                # Fused kernels walk through memory: moments need the layout of their weights.
                values[name] = torch.empty_like(parameter).copy_(value)
