"""Files of pretrained weights: from the local cache, else downloaded, else a quick and clear error."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from urllib.parse import urlparse

import torch

from lami.errors import WeightsUnavailableError
from lami.network import reachable


def fetch(name: str, hub_id: str | None, url: str | None) -> Path:
    """Path of the weight file of a timm model, given its hub repository or URL.

    Raises:
        WeightsUnavailableError: not cached and not downloadable.
    """
    advice = (
        f"pretrained weights of {name} are not in the cache and cannot be downloaded; connect once, copy the file and "
        "set weights to its path, or set weights to 'random' for a run without them"
    )
    if hub_id:
        from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import HfHubHTTPError

        filenames = ("model.safetensors", "pytorch_model.bin")
        for filename in filenames:
            cached = try_to_load_from_cache(hub_id, filename)
            if isinstance(cached, str):
                return Path(cached)
        if reachable(constants.ENDPOINT):
            for filename in filenames:
                try:
                    return Path(hf_hub_download(hub_id, filename))
                except (HfHubHTTPError, OSError):
                    continue
    if url:
        cached_file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
        if cached_file.is_file():
            return cached_file
        if reachable(url):
            cached_file.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(url, str(cached_file))
                return cached_file
            except (urllib.error.URLError, OSError) as error:
                raise WeightsUnavailableError(f"{advice} ({error})") from error
    raise WeightsUnavailableError(advice)
