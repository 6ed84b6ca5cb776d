"""Weight files of others, from the Hugging Face Hub."""

from __future__ import annotations

import shutil
from pathlib import Path

from lami import hub
from lami.errors import HubError
from lami.weights.inventory import PACKAGED
from lami.weights.verification import verify_weights


def get_weights(
    repo_id: str,
    output: str | Path | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Download a weight file, where it is not in the cache yet or the hub has a newer one, and verify it.

    Args:
        repo_id: `OWNER/NAME` on the hub.
        output: `.safetensors` file to copy it to, written whole or not at all; None leaves it in the cache.
        revision: branch, tag or commit; None is the main branch.
        token: of a user of the hub, for private models; None takes that of `hf auth login`.
        cache_dir: where downloads stay; None is the hub's own cache.
        overwrite: replace an output that exists.

    Returns:
        Path of the output, or of the file in the cache.

    Raises:
        HubError: the hub cannot be reached and the model is not cached, or it has no such model, revision or file.
        CheckpointError: the file is damaged or no LAMI model.
        DataError: the output exists, is not named `.safetensors`, or cannot be written.
    """
    if repo_id in PACKAGED:
        raise HubError(f"{repo_id} is in the package, not on the hub; 'lami weights path {repo_id}' tells where")
    hub.check_repository(repo_id)
    if output is not None:
        from lami.checkpoint import check_output  # here, since it imports torch

        check_output(None, Path(output), overwrite)
    path = hub.download(repo_id, revision, token, cache_dir)
    verify_weights(path)
    if output is None:
        return path
    from lami.data.files import atomic_path

    with atomic_path(Path(output)) as partial:
        shutil.copyfile(path, partial)
    return Path(output)
