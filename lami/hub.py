"""Models on the Hugging Face Hub, and folders ready for it: one weight file and a model card.

`PyTorchModelHubMixin` does not fit: it keeps the configuration in a file of its own beside the weights, where one may
be copied without the other. Here the weight file holds it, as everywhere, and `lami.load` reads it.
"""

from __future__ import annotations

import errno
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lami.errors import CheckpointError, HubError, LamiError
from lami.network import reachable

if TYPE_CHECKING:
    import torch

    from lami.configs.schema import Config
    from lami.model import LAMI

WEIGHTS = "model.safetensors"
CARD = "README.md"

_NO_ROOM = frozenset({errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS})
"""Errors of the cache, not of the connection."""
_REPO_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def from_pretrained(
    name: str | Path,
    device: str | torch.device | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> LAMI:
    """See `lami.LAMI.from_pretrained`."""
    from lami.checkpoint import load

    path = Path(name)
    if path.is_dir():
        path = path / WEIGHTS
    elif not path.exists() and isinstance(name, str) and is_repository(name):
        path = download(name, revision, token, cache_dir, local_files_only)
    return load(path, device)


def save_pretrained(
    model: LAMI,
    folder: str | Path,
    license: str | None = None,
    training: Config | None = None,
    name: str | None = None,
) -> None:
    """See `lami.LAMI.save_pretrained`."""
    from lami.checkpoint import save
    from lami.model_card import model_card

    folder = Path(folder)
    save(model, folder / WEIGHTS)
    card = folder / CARD
    if card.exists():
        return
    try:
        card.write_text(model_card(model, name or folder.resolve().name, license, training))
    except OSError as error:
        raise CheckpointError(f"{card} cannot be written ({error}); choose another place or make room") from error


def push_to_hub(
    model: LAMI,
    repo_id: str,
    license: str | None = None,
    training: Config | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    commit_message: str = "Upload a LAMI model",
) -> str:
    """See `lami.LAMI.push_to_hub`."""
    from huggingface_hub import HfApi, constants

    check_repository(repo_id)
    if not reachable(constants.ENDPOINT):
        raise HubError(f"{repo_id} cannot be uploaded, the hub cannot be reached; connect, and unset HF_HUB_OFFLINE")
    api = HfApi(token=token)
    with _explained(repo_id, revision), tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder, license, training, repo_id)
        api.create_repo(repo_id, private=private, exist_ok=True)
        # Authors complete their model card by hand, on the hub too.
        kept = [CARD] if api.file_exists(repo_id, CARD, revision=revision) else None
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            commit_message=commit_message,
            ignore_patterns=kept,
        )
    return str(commit.commit_url)


def is_repository(name: str) -> bool:
    """Whether a name that is no path can be one on the hub."""
    return _REPO_ID.fullmatch(name) is not None and not name.endswith(".safetensors")


def check_repository(repo_id: str) -> None:
    """Raises HubError for what cannot be the name of a repository."""
    if not is_repository(repo_id):
        raise HubError(f"{repo_id!r} is no name of a repository on the hub; give OWNER/NAME")


def cached(repo_id: str, revision: str | None = None, cache_dir: str | Path | None = None) -> Path:
    """Path of a model's weight file in the cache; asks nobody.

    Raises:
        HubError: it is not there.
    """
    from huggingface_hub import try_to_load_from_cache

    with _explained(repo_id, revision):
        path = try_to_load_from_cache(repo_id, WEIGHTS, cache_dir, revision)
    if not isinstance(path, str):
        which, option = ("", "") if revision is None else (f" at revision {revision}", f" --revision {revision}")
        raise HubError(f"{repo_id}{which} is not in the cache; 'lami weights get {repo_id}{option}' downloads it")
    return Path(path)


def download(
    repo_id: str,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """Path of a model's weight file in the cache, downloaded if need be and the hub answers at once.

    Raises:
        HubError: the hub cannot be reached and the model is not cached, or it has no such model, revision or file.
    """
    from huggingface_hub import constants, hf_hub_download

    cached_only = local_files_only or not reachable(constants.ENDPOINT)
    with _explained(repo_id, revision):
        path = hf_hub_download(
            repo_id,
            WEIGHTS,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=cached_only,
            library_name="lami",
        )
    return Path(path)


@contextmanager
def _explained(repo_id: str, revision: str | None) -> Iterator[None]:
    """Turns the hub's errors, which are paragraphs, into one sentence each."""
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    try:
        yield
    except hub.GatedRepoError as error:
        raise HubError(
            f"the author of {repo_id} asks for consent to terms; accept them on its page, then run 'hf auth login' or "
            "pass token="
        ) from error
    except hub.RepositoryNotFoundError as error:
        raise HubError(
            f"the hub has no model {repo_id} that you may see; check the name, or run 'hf auth login' or pass token= "
            "if it is private"
        ) from error
    except hub.RevisionNotFoundError as error:
        raise HubError(f"{repo_id} has no revision {revision!r}; name a branch, tag or commit of it") from error
    except hub.LocalEntryNotFoundError as error:
        raise HubError(
            f"{repo_id} is not in the cache, and the hub, {constants.ENDPOINT}, is switched off or cannot be reached; "
            f"connect once, or give the path of a {WEIGHTS}"
        ) from error
    except hub.EntryNotFoundError as error:
        raise HubError(f"{repo_id} is not a LAMI model: it has no {WEIGHTS}; choose another repository") from error
    except hub.HFValidationError as error:
        raise HubError(f"{repo_id!r} is no name of a repository on the hub; give OWNER/NAME") from error
    except hub.LocalTokenNotFoundError as error:
        raise HubError("the hub must know who you are; run 'hf auth login' or pass token=") from error
    except hub.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise HubError(f"the hub does not let this token change or read {repo_id}; pass another token=") from error
        raise HubError(f"the hub answers {status} about {repo_id}; try again later") from error
    except LamiError:
        raise
    except Exception as error:  # each version of the client has the errors of another network library
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise HubError(
                f"{repo_id} cannot be kept in the hub's cache ({error}); make room, or set HF_HUB_CACHE to another "
                "folder"
            ) from error
        raise HubError(f"the connection to the hub failed for {repo_id} ({type(error).__name__}); try again") from error
