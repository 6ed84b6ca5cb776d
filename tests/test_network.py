"""Whether a server can be asked."""

from __future__ import annotations

import socket
import threading

import pytest

from lami.network import reachable


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", False),
        (b"SSH-2.0-something\r\n", False),
    ],
)
def test_what_the_server_answers(answer: bytes, expected: bool, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert reachable(f"http://127.0.0.1:{server.getsockname()[1]}/") is expected
        thread.join()
    assert not capfd.readouterr().err


@pytest.mark.parametrize("url", ["hub.example", "", "http://", "http://[::1", "ftp2://hub.example"])
def test_what_is_no_address(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert not reachable(url)
    assert not capfd.readouterr().err


def test_nobody_is_asked_when_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        assert not reachable(f"http://127.0.0.1:{server.getsockname()[1]}/")
        with pytest.raises(TimeoutError):
            server.accept()
