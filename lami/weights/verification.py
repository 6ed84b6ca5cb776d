"""Whether a weight file is whole, undamaged and usable, found by reading all of it."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lami.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from lami.pose import SeenPoses

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WeightReport:
    """What a sound weight file holds."""

    path: Path
    bytes: int
    sha256: str
    """64 hexadecimal digits."""
    image_size: tuple[int, int]
    """(height, width) in pixels."""
    num_splines: int
    points_per_spline: int
    parameters: int
    avd: bool
    """Whether it has the network of mode avd."""
    background: bool
    """Whether it has a background predictor."""
    seen_poses: SeenPoses | None
    """How far apart poses were in training; None where the file does not tell."""


def verify_weights(path: str | Path, sha256: str | None = None) -> WeightReport:
    """Read a weight file completely, and check that a model can be made of it.

    Args:
        path: the file.
        sha256: the digest that it must have, 64 hexadecimal digits; None takes the one that the hub's cache knows of
            its files, and none elsewhere.

    Raises:
        CheckpointError: the file is missing, a Git LFS pointer, not of the digest, truncated, not a LAMI file, of an
            unknown configuration or wrong shapes, or holds a tensor with values that are not finite.
        ConfigError: `sha256` is no digest.
    """
    from lami.checkpoint import check_weight_file, load

    path = Path(path)
    wanted = None if sha256 is None else sha256.lower()
    if wanted is not None and not _SHA256.fullmatch(wanted):
        raise ConfigError(f"{sha256!r} is no sha256 digest; give its 64 hexadecimal digits")
    check_weight_file(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if wanted is not None and digest != wanted:
        raise CheckpointError(f"{path} is damaged or another file: its sha256 is {digest}, not {wanted}; get it again")
    blob = _blob(path)
    if blob is not None and digest != blob.name:
        raise CheckpointError(f"{path} is damaged, its sha256 is not the hub's; delete {blob} and get it again")
    model = load(path, "cpu")
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{path}: the tensor {name} holds values that are not finite; take an earlier checkpoint, or get the "
                "file again"
            )
    config = model.config
    return WeightReport(
        path=path,
        bytes=path.stat().st_size,
        sha256=digest,
        image_size=config.image_size,
        num_splines=config.num_splines,
        points_per_spline=config.points_per_spline,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        avd=model.avd is not None,
        background=model.background_predictor is not None,
        seen_poses=model.seen_poses,
    )


def _blob(path: Path) -> Path | None:
    """The file of the hub's cache that a path links to and that is named after its digest, if it is one."""
    if not path.is_symlink():
        return None
    target = Path(os.path.abspath(path.parent / path.readlink()))
    return target if target.parent.name == "blobs" and _SHA256.fullmatch(target.name) else None
