"""Replace F.grid_sample in a network that warps features by a flow: agreement and speed; options --device, --size."""

import argparse
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lami import ops


class Aligner(nn.Module):  # reads features of one image along a coarse flow so that they give another
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.features = nn.Conv2d(3, 32, 3, padding=1)
        self.flow = nn.Conv2d(6, 2, 7, padding=3, stride=4)
        self.image = nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        offset = self.flow(torch.cat((moving, fixed), dim=1)).permute(0, 2, 3, 1)
        b, h, w, _ = offset.shape
        flow = offset + F.affine_grid(torch.eye(2, 3).to(offset).expand(b, 2, 3), [b, 1, h, w], align_corners=True)
        features = self.features(moving)
        if self.fused:  # the one line that replaces the other two
            return self.image(ops.warp(features, flow))
        flow = F.interpolate(flow.movedim(-1, 1), features.shape[2:], mode="bilinear", align_corners=True)
        return self.image(F.grid_sample(features, flow.movedim(1, -1), align_corners=True))


def train(network: Aligner, moving: Tensor, fixed: Tensor, steps: int) -> tuple[list[float], float]:
    """Losses, and seconds a step after the first."""
    optimizer, losses, times = torch.optim.SGD(network.parameters(), lr=0.02), [], []
    for _ in range(1 + steps):
        loss = (network(moving, fixed) - fixed).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        times.append(perf_counter())
    return losses, (times[-1] - times[0]) / steps


parser = argparse.ArgumentParser()
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--size", type=int, default=128)
options = parser.parse_args()
moving = F.interpolate(torch.rand(4, 3, 8, 8, generator=torch.manual_seed(0)), 2 * [options.size], mode="bicubic").to(
    options.device
)
plain = Aligner(fused=False).to(options.device)
fused = Aligner(fused=True).to(options.device)
fused.load_state_dict(plain.state_dict())
(expected, slow), (losses, fast) = (train(network, moving, moving.roll(3, -1), steps=10) for network in (plain, fused))
difference = max(abs(a / b - 1) for a, b in zip(losses, expected, strict=True))
print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}, largest relative difference {difference:.1e}")
print(f"a training step takes {1e3 * fast:.1f} ms, with F.grid_sample {1e3 * slow:.1f} ms: {slow / fast:.2f}x")
