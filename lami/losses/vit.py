"""Appearance and structure in a vision transformer (Eq. 7 and 8; Splice, Tumanyan et al., CVPR 2022)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def appearance_loss(first: Tensor, second: Tensor, reduction: str = "mse") -> Tensor:
    """Difference of class tokens (B, D): `mse` over all elements, or the mean over the batch of the L2 `norm`."""
    difference = first.float() - second.float()
    return difference.square().mean() if reduction == "mse" else difference.norm(dim=-1).mean()


def self_similarity(keys: Tensor) -> Tensor:
    """Cosine similarity of every pair of tokens, class token included: (B, tokens, D) -> (B, tokens, tokens)."""
    with torch.autocast(keys.device.type, enabled=False):
        unit = F.normalize(keys.float(), dim=-1, eps=1e-8)
        return unit @ unit.mT


def structure_loss(first: Tensor, second: Tensor, reduction: str = "mse") -> Tensor:
    """Difference of the self-similarities of two sets of keys (B, tokens, D): `mse`, or the mean Frobenius `norm`."""
    difference = self_similarity(first) - self_similarity(second)
    return difference.square().mean() if reduction == "mse" else difference.flatten(1).norm(dim=-1).mean()
