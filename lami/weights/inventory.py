"""Which weight files are on this computer, and where; by what their headers say, without a network."""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lami import hub
from lami.errors import CheckpointError, ConfigError

logger = logging.getLogger(__name__)

FORMAT = "lami-1"
"""In the metadata of every weight file."""
PACKAGED = {"demo": "generated figures"}
"""What the weights in this folder were trained for, by name."""

_BUFFERS = re.compile(r"\.(running_mean|running_var|num_batches_tracked)$|^dense_motion\.down\.weight$")
"""Tensors that no training changes by gradients: statistics of batch norm, and the kernel of decimation."""


@dataclass(frozen=True)
class WeightFile:
    """A weight file of lami, as its header describes it."""

    name: str
    """Of packaged weights, or OWNER/NAME on the hub."""
    revision: str | None
    """Branch, tag or commit on the hub; None is the main branch, and of packaged weights."""
    purpose: str | None
    """What they were trained for, where lami knows it."""
    path: Path
    image_size: tuple[int, int]
    """(height, width) in pixels."""
    num_splines: int
    parameters: int
    bytes: int


def list_weights(cache_dir: str | Path | None = None) -> list[WeightFile]:
    """The packaged weights, then those of lami in the hub's cache by name; files of other programs are passed over.

    A cache that may not be read is a warning.

    Args:
        cache_dir: where downloads stay; None is the hub's own cache.
    """
    packaged = [_described(path_of(name), name, purpose=purpose) for name, purpose in PACKAGED.items()]
    cached = [_described(path, name, revision) for name, revision, path in _in_cache(cache_dir)]
    found = [file for file in cached if file is not None]
    found.sort(key=lambda file: (file.name, file.revision or ""))
    return [file for file in packaged if file is not None] + found


def find_weights(name: str | Path, revision: str | None = None, cache_dir: str | Path | None = None) -> Path:
    """Path of a weight file that is on this computer; nothing is downloaded, and the file is not read.

    Args:
        name: a file, a folder with a `model.safetensors`, a name of packaged weights, or `OWNER/NAME` on the hub, in
            this order.
        revision: branch, tag or commit on the hub; None is the main branch.
        cache_dir: where downloads stay; None is the hub's own cache.

    Raises:
        CheckpointError: there is no such file or name.
        HubError: the model is not in the cache; the message tells how to get it.
        ConfigError: a revision of what is not on the hub.
    """
    text = str(name)
    here = _local(text)
    if here is None and not os.path.exists(text) and hub.is_repository(text):
        return hub.cached(text, revision, cache_dir)
    if here is None:
        raise CheckpointError(
            f"no weight file at {name}; check the path, or take a name that 'lami weights list' shows"
        )
    if revision is not None:
        raise ConfigError(f"{name} is a file on this computer and has no revisions; leave out the revision")
    return here


def path_of(packaged: str) -> Path:
    """Where packaged weights are."""
    return Path(__file__).parent / f"{packaged}.safetensors"


def _local(name: str) -> Path | None:
    for path in (name, os.path.join(name, hub.WEIGHTS)):
        if os.path.isfile(path):  # unlike Path.is_file, False for names that no file can have
            return Path(path)
    return path_of(name) if name in PACKAGED else None


def _in_cache(cache_dir: str | Path | None) -> Iterator[tuple[str, str | None, Path]]:
    """Name, revision and path of every `model.safetensors` in the hub's cache."""
    from huggingface_hub import constants, scan_cache_dir

    cache = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
    if not cache.is_dir():
        return
    try:
        repositories = scan_cache_dir(cache).repos
    except OSError as error:
        logger.warning("the hub's cache %s is left out, it cannot be read (%s)", cache, error)
        return
    for repository in repositories:
        if repository.repo_type != "model":
            continue
        for version in repository.revisions:
            path = version.snapshot_path / hub.WEIGHTS
            if os.path.isfile(path):  # unlike Path.is_file, False in folders that may not be read
                other = min(version.refs, default=version.commit_hash)
                yield repository.repo_id, None if "main" in version.refs else other, path


def _described(path: Path, name: str, revision: str | None = None, purpose: str | None = None) -> WeightFile | None:
    """None for a file that is not lami's, or too damaged to tell."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 - not a mapping
        if metadata.get("format") != FORMAT:
            return None
        model = json.loads(metadata["config"])["model"]
        height, width = map(int, model["image_size"])
        splines = int(model["num_splines"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, OverflowError, RecursionError):
        return None
    parameters = sum(math.prod(shape) for key, shape in shapes.items() if not _BUFFERS.search(key))
    return WeightFile(name, revision, purpose, path, (height, width), splines, parameters, bytes=path.stat().st_size)
