"""Whether a server can be asked at all, found out at once."""

from __future__ import annotations

import http.client
import os
import threading
import urllib.error
import urllib.request

_REACH_TIMEOUT = 0.8
"""Seconds; the hub's own client retries for most of a minute when offline."""


def reachable(url: str) -> bool:
    """Whether the server (or the proxy in front of it) answers at once; what is no address does not."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_REACH_TIMEOUT).close()
        except urllib.error.HTTPError as error:
            if error.code >= 500:
                return
        except (OSError, ValueError, http.client.HTTPException):
            return
        answered.set()

    # A thread, because name resolution has no timeout of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_REACH_TIMEOUT)
    return answered.is_set()
