"""What needs no Gradio of the server and the command."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from lami.errors import ConfigError
from lami.model import LAMI
from lami.web import server


def test_missing_gradio_is_said(model: LAMI, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str, *arguments: Any) -> None:
        assert name == "gradio"

    monkeypatch.setattr(server, "find_spec", find)
    with pytest.raises(ConfigError, match=r'pip install "lami\[web\]"'), server.running(model):
        pass


def test_sigterm_unwinds_while_the_page_starts() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit), server._sigterm_exits():
        assert signal.getsignal(signal.SIGTERM) is not before  # or the next line would end the tests
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 1)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_ports_that_do_not_exist(model: LAMI, port: int) -> None:
    with pytest.raises(ConfigError, match=rf"from 1 to 65535, got {port}; choose"), server.running(model, port=port):
        pass


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.7", False),
        ("my-computer", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert server.is_loopback(host) == loopback
