"""Warp an image by a thin-plate spline through pairs of points; prints agreement and speed.

python examples/tps_image_warp.py --device cuda --size 512 --output warped.png
"""

import argparse

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.benchmark import Timer

from lami import ops


def fused(image: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Moves what is at the source points (B, N, 2) to the target points; -1 and 1 are the image's outermost pixels."""
    spline = ops.fit_tps(target, source, regularization=0.0)
    return ops.warp(image, ops.tps_grid(*spline, target, tuple(image.shape[2:])))


def plain(image: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """The same in plain PyTorch."""
    (b, n, _), (h, w) = target.shape, image.shape[2:]
    squared = torch.cdist(target, target).square()
    affine = torch.cat((target, target.new_ones(b, n, 1)), dim=2)
    radial = squared * (squared + 1e-9).log()
    system = torch.cat((torch.cat((radial, affine), 2), F.pad(affine.mT, (0, 3))), 1)
    solution = torch.linalg.solve(system, F.pad(source, (0, 0, 0, 3)))
    ys, xs = torch.meshgrid(*(torch.linspace(-1, 1, side, device=image.device) for side in (h, w)), indexing="ij")
    points = torch.stack((xs, ys), dim=-1).view(1, -1, 2).expand(b, -1, -1)
    squared = (points[:, :, None] - target[:, None]).square().sum(-1)
    basis = torch.cat((squared * (squared + 1e-9).log(), points, points.new_ones(b, h * w, 1)), dim=2)
    return F.grid_sample(image, (basis @ solution).view(b, h, w, 2), align_corners=True)


parser = argparse.ArgumentParser()
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--size", type=int, default=256)
parser.add_argument("--output", help="PNG of the image before and after")
options = parser.parse_args()
line = torch.linspace(-1, 1, options.size, device=options.device)
board = ((line * 8).floor()[:, None] + (line * 8).floor()) % 2
image = torch.stack((board, (line[:, None] + 1).expand_as(board) / 2, (1 - line).expand_as(board) / 2))[None]
source = torch.cartesian_prod(*[torch.tensor([-0.8, 0.0, 0.8])] * 2)[None].to(options.device)
target = source.clone()
target[0, 4] += torch.tensor([0.25, -0.2]).to(options.device)  # the point in the middle
result, expected = fused(image, source, target), plain(image, source, target)
print(f"mean difference {(result - expected).abs().mean():.1e} on {options.device}")
calls = (Timer("f(*points)", globals={"f": f, "points": (image, source, target)}).timeit(5) for f in (fused, plain))
fast, slow = (1e3 * call.median for call in calls)
print(f"fused {fast:.2f} ms, plain PyTorch {slow:.2f} ms: {slow / fast:.1f}x")
if options.output:
    pixels = torch.cat((image, result), dim=3)[0].mul(255).byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(pixels).save(options.output)
