"""Weight files: safetensors whose metadata hold the configuration."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lami.configs.schema import InterpolationConfig, ModelConfig, ViTConfig
from lami.data import files
from lami.errors import CheckpointError, DataError
from lami.pose import SeenPoses
from lami.weights.inventory import FORMAT

if TYPE_CHECKING:
    from lami.model import LAMI

_LFS_PREFIX = b"version https://git-lfs"
_FLOATS = frozenset({torch.float64, torch.float32, torch.bfloat16, torch.float16})


def check_weight_file(path: Path) -> None:
    """Raises CheckpointError unless the path is a file that holds more than a Git LFS pointer."""
    if not path.is_file():
        raise CheckpointError(f"no weight file at {path}; check the path")
    try:
        with path.open("rb") as file:
            head = file.read(len(_LFS_PREFIX))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    if head == _LFS_PREFIX:
        raise CheckpointError(f"{path} is a Git LFS pointer, not weights; run 'git lfs pull' where it came from")


def check_output(path: Path | None, output: Path, overwrite: bool = False) -> None:
    """Raises DataError unless `output` can be the name of a new weight file made from the file `path`, if any."""
    if output.suffix != ".safetensors":
        raise DataError(f"the output {output} must be named .safetensors")
    files.check_output(output, () if path is None else (path,), overwrite)


def save(model: LAMI, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write weights and configuration to a safetensors file, whole or not at all.

    Args:
        model: the model.
        path: file name, usually `.safetensors`.
        dtype: store floating-point tensors as this type, for instance torch.float16; None keeps theirs.

    Raises:
        CheckpointError: the file cannot be written.
    """
    path = Path(path)
    tensors = {
        name: tensor.detach().to("cpu", dtype if dtype and tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    config = {
        "model": model.config.model_dump(),
        "interpolation": model.interpolation.model_dump(),
        "vit": model.vit_config.model_dump(),
    }
    metadata = {"format": FORMAT, "config": json.dumps(config)}
    if model.seen_poses is not None and (counts := model.seen_poses.to_list()):
        metadata["poses"] = json.dumps(counts)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(tensors, temporary, metadata=metadata)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be written ({error}); choose another place or make room") from error


def load(path: str | Path, device: str | torch.device | None = None) -> LAMI:
    """Load a model from a weight file, in eval mode and fp32.

    Args:
        path: a file written by `save`, `lami train` or `lami convert`.
        device: where to put it; None is the GPU if there is one, else the CPU.

    Raises:
        CheckpointError: the file is missing, truncated, a Git LFS pointer, not a LAMI file, or of wrong shapes.
    """
    from lami.model import LAMI

    path = Path(path)
    check_weight_file(path)
    if path.suffix in {".pth", ".tar", ".pt"}:
        raise CheckpointError(f"{path} is not a safetensors file; import it with 'lami convert {path} out.safetensors'")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read, it is truncated or not a safetensors file ({error})") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is a safetensors file but not a LAMI model; TPSMM checkpoints need 'lami convert'"
        )
    try:
        config = json.loads(metadata["config"])
        sections = (
            ModelConfig.model_validate(config["model"]),
            InterpolationConfig.model_validate(config["interpolation"]),
            ViTConfig.model_validate(config["vit"]),
        )
        seen = SeenPoses.from_list(json.loads(metadata["poses"])) if "poses" in metadata else None
        model = LAMI(*sections)
    except (KeyError, ValueError, TypeError, OverflowError, RuntimeError) as error:  # the last: beyond all memory
        raise CheckpointError(
            f"{path} holds a configuration that this version of lami does not know; use the version that wrote it"
        ) from error
    load_tensors(model, tensors, path)
    model.seen_poses = seen
    return model.to(pick_device(device)).eval()


def load_tensors(model: torch.nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Copy tensors into a module; raises CheckpointError naming the first that is missing, unknown or misshapen."""
    wanted = model.state_dict()
    for name in wanted:
        if name not in tensors:
            raise CheckpointError(f"{path} lacks the tensor {name} that the configuration asks for")
    for name, tensor in tensors.items():
        if name not in wanted:
            raise CheckpointError(f"{path} holds the tensor {name}, which the configuration has no place for")
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(
                f"{path}: tensor {name} has shape {tuple(tensor.shape)}, "
                f"but the configuration asks for {tuple(wanted[name].shape)}"
            )
        if wanted[name].is_floating_point() and tensor.dtype not in _FLOATS:
            raise CheckpointError(
                f"{path}: tensor {name} is {tensor.dtype}, which no weights of lami are; use the file that it was made "
                "of"
            )
    model.load_state_dict(tensors)


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for; None or `auto` is the CUDA GPU if there is one, else the CPU.

    Raises:
        ConfigError: there is no such device, or not on this machine.
    """
    from lami.errors import ConfigError

    if device is None or device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {device!r}; use auto, cpu, cuda, cuda:0 or mps") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda is not available here; use --device cpu, or install a CUDA build of torch")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device mps is the GPU of a Mac and not available here; use --device cpu")
    return chosen
