"""Import of TPSMM checkpoints (Zhao and Zhang, CVPR 2022): same networks, the configuration read off their shapes."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lami.checkpoint import check_output, check_weight_file, load, load_tensors, save
from lami.configs.schema import AVDConfig, BackboneConfig, DenseMotionConfig, GeneratorConfig, ModelConfig
from lami.errors import CheckpointError
from lami.model import LAMI
from lami.models import size_multiple

logger = logging.getLogger(__name__)

_ATTRIBUTES = {
    "kp_detector": "keypoint_detector",
    "dense_motion_network": "dense_motion",
    "inpainting_network": "generator",
    "bg_predictor": "background_predictor",
    "avd_network": "avd",
}
"""Key in the checkpoint -> attribute of `LAMI`. Other keys hold optimisers and the epoch."""

_OPTIONAL = {"bg_predictor", "avd_network"}


def convert_tpsmm(
    path: str | Path,
    output: str | Path,
    image_size: int | tuple[int, int] | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> LAMI:
    """Convert a TPSMM checkpoint to a LAMI weight file, which is written whole or not at all.

    The interpolation settings are the default ones: single-stage weights serve both stages. Pickled objects in the
    checkpoint are refused, never executed.

    Args:
        path: a TPSMM checkpoint, `.pth.tar`.
        output: the file to write, `.safetensors`.
        image_size: pixels the model was trained at, one side of a square or (height, width), which the checkpoint does
            not say; None is 256, or the smallest size the networks take if that is larger.
        dtype: store weights as this type, for instance torch.float16; None keeps theirs.
        overwrite: replace an output that exists.

    Returns:
        The model, on the CPU and in eval mode.

    Raises:
        CheckpointError: the input is missing, truncated, a Git LFS pointer, not a TPSMM checkpoint, lacks a network, or
            has shapes that fit no configuration.
        DataError: the output cannot be written, is the input, exists, or is not named `.safetensors`.
        ConfigError: the networks cannot take images of `image_size`.
    """
    path, output = Path(path), Path(output)
    check_output(path, output, overwrite)
    tensors = _read(path)
    config = infer_config(tensors, path, image_size)
    with torch.device("meta"):  # every value comes from the file, random ones need not be drawn
        model = LAMI(config)
    model.to_empty(device="cpu")
    networks = {key: getattr(model, attribute) for key, attribute in _ATTRIBUTES.items()}
    load_tensors(nn.ModuleDict({key: net for key, net in networks.items() if net is not None}), tensors, path)
    save(model, output, dtype)
    logger.info(
        "%s: %d splines of %d points, image size %d x %d, %s background predictor, %s AVD network",
        output,
        config.num_splines,
        config.points_per_spline,
        *config.image_size,
        "with" if config.background else "no",
        "with" if config.avd else "no",
    )
    return model.eval()


def _read(path: Path) -> dict[str, Tensor]:
    """All tensors of the networks, named `<network>.<parameter>` as in the checkpoint."""
    check_weight_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a TPSMM checkpoint: it is no torch file, or holds Python objects, which are never executed"
        ) from error
    except Exception as error:  # torch reports a damaged file by whatever its parser stumbles over
        raise CheckpointError(
            f"{path} cannot be read, it is truncated or not a torch file; download it again"
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} is not a TPSMM checkpoint: it holds a {type(content).__name__}, not networks")
    tensors: dict[str, Tensor] = {}
    for network in _ATTRIBUTES:
        if network in content:
            tensors |= _network_tensors(network, content[network], path)
        elif network not in _OPTIONAL:
            raise CheckpointError(f"{path} is not a TPSMM checkpoint: it lacks the network {network}")
    return tensors


def _network_tensors(network: str, state: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} is not a TPSMM checkpoint: its {network} is not a dictionary of tensors")
    # Saving a network inside nn.DataParallel puts "module." in front of every name.
    return {f"{network}.{name.removeprefix('module.')}": value for name, value in state.items()}


def copy_weights(
    path: str | Path, output: str | Path, dtype: torch.dtype | None = None, overwrite: bool = False
) -> LAMI:
    """Write a LAMI weight file anew, for instance in half precision; arguments and errors as `convert_tpsmm`."""
    path, output = Path(path), Path(output)
    check_output(path, output, overwrite)
    model = load(path, device="cpu")
    save(model, output, dtype)
    return model


def infer_config(
    tensors: Mapping[str, Tensor], path: Path, image_size: int | tuple[int, int] | None = None
) -> ModelConfig:
    """The configuration whose networks have tensors of these shapes.

    Args:
        tensors: named `<network>.<parameter>` as in TPSMM checkpoints; only shapes are read.
        path: of the checkpoint, for error messages.
        image_size: as `convert_tpsmm`.

    Raises:
        CheckpointError: a tensor that decides is missing or of an impossible shape.
    """

    def misfit(name: str, reason: str) -> CheckpointError:
        return CheckpointError(f"{path} fits no TPSMM configuration: the tensor {name} {reason}")

    def size(name: str, dim: int = 0) -> int:
        if name not in tensors:
            raise misfit(name, "is missing")
        if tensors[name].ndim <= dim or not tensors[name].shape[dim]:
            raise misfit(name, f"has shape {tuple(tensors[name].shape)}")
        return tensors[name].shape[dim]

    def count(prefix: str) -> int:
        """Blocks named `prefix`.0, `prefix`.1, ..."""
        pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
        return len({match[1] for match in map(pattern.match, tensors) if match})

    def last_block(prefix: str) -> str:
        return f"{prefix}.{max(count(prefix) - 1, 0)}.conv.weight"

    maps, head = "dense_motion_network.maps.weight", "kp_detector.fg_encoder.fc.weight"
    num_splines = size(maps) - 1
    if num_splines < 1:
        raise misfit(maps, "has no row for a spline")
    points_per_spline, remainder = divmod(size(head), 2 * num_splines)
    if remainder or not 3 <= points_per_spline <= 16:
        raise misfit(head, f"has {size(head)} rows, not 2 for each of 3 to 16 keypoints of {num_splines} splines")

    # An anti-alias kernel for scale s has 4 (1 / s - 1) + 1 taps; at full size there is none.
    kernel, scale_factor = "dense_motion_network.down.weight", 1.0
    if kernel in tensors:
        step, remainder = divmod(size(kernel, 3) + 3, 4)
        if remainder or step < 2 or step.bit_count() != 1:
            raise misfit(kernel, f"has {size(kernel, 3)} taps, which no scale factor gives")
        scale_factor = 1 / step

    # Widths double up to a maximum; where that is not reached, the largest width gives the same shapes.
    encoder = "dense_motion_network.hourglass.encoder.down_blocks"
    decoder = "dense_motion_network.hourglass.decoder.up_blocks"
    down = "inpainting_network.down_blocks"
    avd = None
    if any(name.startswith("avd_network.") for name in tensors):
        avd = AVDConfig(
            identity_width=size("avd_network.id_encoder.9.weight"), pose_width=size("avd_network.pose_encoder.9.weight")
        )
    config = ModelConfig(
        num_splines=num_splines,
        points_per_spline=points_per_spline,
        background=BackboneConfig() if any(name.startswith("bg_predictor.") for name in tensors) else None,
        dense_motion=DenseMotionConfig(
            block_channels=size(last_block(decoder)),
            max_channels=size(last_block(encoder)),
            num_blocks=count(encoder),
            scale_factor=scale_factor,
            multi_mask=count("dense_motion_network.occlusion") > 1,
        ),
        generator=GeneratorConfig(
            block_channels=size("inpainting_network.first.conv.weight"),
            max_channels=size(last_block(down)),
            num_down_blocks=count(down),
        ),
        avd=avd,
    )
    image_size = image_size or max(256, size_multiple(config))
    sides = (image_size, image_size) if isinstance(image_size, int) else image_size
    return config.model_copy(update={"image_size": sides})
