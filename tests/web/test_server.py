"""The page as programs see it, through Gradio's own client."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inputs.media import quarters, write_video

from lami.data import VideoReader, write_image
from lami.errors import ConfigError
from lami.model import LAMI
from lami.web import server
from lami.web.job import Job
from lami.web.limits import Limits

pytest.importorskip("gradio", reason="Gradio is not installed")
gradio_client = pytest.importorskip("gradio_client", reason="Gradio's client is not installed")

_DEFAULTS: dict[str, Any] = {
    "mode": "relative",
    "strength": 1,
    "fps": "keep",
    "size": "model",
    "crop": "none",
    "crop_driving": "none",
    "selector": "eq4",
    "times": [0.3, 0.5, 0.7],
    "steady": True,
    "best_frame": True,
    "smooth": False,
    "label": False,
}


@pytest.fixture(scope="module")
def address(model: LAMI) -> Iterator[str]:
    limits = Limits(seconds=2, megabytes=1, waiting=1)
    with server.running(model, limits, precision="fp32") as address:
        yield address


@pytest.fixture
def client(address: str, tmp_path: Path) -> Iterator[Any]:
    client = gradio_client.Client(address, verbose=False, download_files=tmp_path / "downloads")
    yield client
    client.close()


@pytest.fixture
def long_driving(tmp_path: Path) -> Path:
    return write_video(tmp_path / "long.mp4", frames=40)


def ask(client: Any, picture: Path | str | None, movement: Path | str | None, **settings: Any) -> Any:
    files = [None if path is None else gradio_client.handle_file(str(path)) for path in (picture, movement)]
    return client.submit(*files, *(_DEFAULTS | settings).values(), api_name="/animate")


def test_animation_with_sound(client: Any, picture: Path, driving: Path) -> None:
    status, result, comparison, download, number = ask(client, picture, driving, fps=50, strength=0.5).result(60)
    assert "Done: 16 frames" in status
    assert download["value"] == result
    assert (number["value"], number["maximum"]) == (8, 16)
    for path in (result, comparison):
        with VideoReader(path) as video:
            assert len(video) == 16
            assert video.rate == 50
            assert video.has_audio


def test_progress_is_told(client: Any, picture: Path, long_driving: Path) -> None:
    job = ask(client, picture, long_driving)
    job.result(60)
    told = [update[0] for update in job.outputs()]
    assert any("Animating:" in text and "of 40 frames" in text for text in told)


def test_look_inside(client: Any, picture: Path, driving: Path) -> None:
    with pytest.raises(gradio_client.exceptions.AppError, match="press Animate first"):
        client.predict(1, api_name="/inspect")
    ask(client, picture, driving).result(60)
    pictures = client.predict(3, api_name="/inspect")
    assert len(pictures) == 3
    assert all(Path(file).stat().st_size > 1000 for file in pictures)
    with pytest.raises(gradio_client.exceptions.AppError, match="greater than maximum value 8"):
        client.predict(9, api_name="/inspect")


def test_wrong_input(client: Any, picture: Path, driving: Path, long_driving: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "text.mp4").write_text("no video")
    write_image(tmp_path / "noise.png", quarters(50, 50))
    with (tmp_path / "noise.png").open("ab") as file:
        file.write(os.urandom(1_100_000))
    longer = write_video(tmp_path / "longer.mp4", frames=51)
    for files, settings, message in (
        ((None, driving), {}, "There is no picture yet"),
        ((picture, None), {}, "There is no video of a movement yet"),
        ((tmp_path / "text.jpg", driving), {}, r"text\.jpg is not an image that can be read"),
        ((picture, tmp_path / "text.mp4"), {}, r"text\.mp4 is not a video that can be read"),
        ((picture, picture), {}, "choose a video for the movement"),
        ((picture, longer), {}, r"longer\.mp4 lasts 2\.04 seconds, and this page takes up to 2"),
        ((picture, driving), {"selector": "fixed"}, "exactly one time"),
        ((picture, driving), {"mode": "avd"}, "avd"),
    ):
        with pytest.raises(gradio_client.exceptions.AppError, match=message) as failure:
            ask(client, *files, **settings).result(60)
        assert tempfile.gettempdir() not in str(failure.value)
    with pytest.raises(Exception, match=r"413|exceed"):
        ask(client, tmp_path / "noise.png", driving).result(60)


def test_addresses_are_not_fetched(client: Any, driving: Path) -> None:
    address = {"path": "http://127.0.0.1:9/picture.png", "meta": {"_type": "gradio.FileData"}}
    movement = gradio_client.handle_file(str(driving))
    job = client.submit(address, movement, *_DEFAULTS.values(), api_name="/animate")
    with pytest.raises(gradio_client.exceptions.AppError, match="takes files, no addresses"):
        job.result(60)


def test_files_of_the_computer_are_not_served(address: str) -> None:
    import httpx

    for path in ("/etc/passwd", str(Path.cwd() / "pyproject.toml"), "../../etc/passwd"):
        assert httpx.get(f"{address}gradio_api/file={path}").status_code in (403, 404)


def test_two_visitors_cancel_and_a_full_queue(
    address: str, client: Any, picture: Path, long_driving: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()
    animate = Job._animate

    def wait_and_animate(job: Job, *arguments: Any) -> None:
        assert held.wait(60)
        animate(job, *arguments)

    monkeypatch.setattr(Job, "_animate", wait_and_animate)
    others = [gradio_client.Client(address, verbose=False) for _ in range(2)]
    first = ask(client, picture, long_driving)
    _wait_for(first, "Preparing")
    second = ask(others[0], picture, long_driving)
    _wait_for(second, "1 animation before yours")
    with pytest.raises(gradio_client.exceptions.AppError, match="The queue is full, 2 animations come first"):
        ask(others[1], picture, long_driving).result(60)
    with pytest.raises(gradio_client.exceptions.AppError, match="in the queue already"):
        ask(client, picture, long_driving).result(60)
    client.predict(api_name="/cancel")
    held.set()
    assert "Cancelled" in first.result(60)[0]
    assert "Done: 40 frames" in second.result(60)[0]
    for other in others:
        other.close()


def _wait_for(job: Any, text: str) -> None:
    end = time.monotonic() + 60
    while not any(text in update[0] for update in job.outputs()):
        assert time.monotonic() < end, f"{text!r} did not come"
        time.sleep(0.05)


def test_nothing_is_left_behind(model: LAMI, picture: Path, driving: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    environment = dict(os.environ)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = set(tmp_path.iterdir())
    with server.running(model, precision="fp32", demonstration=True) as address:
        [folder] = temporary.iterdir()
        client = gradio_client.Client(address, verbose=False, download_files=False)
        ask(client, picture, driving).result(60)
        assert len(list(folder.glob("*/lami-animation.mp4"))) == 1
        client.close()
    assert not list(temporary.iterdir())
    assert set(tmp_path.iterdir()) == before
    assert dict(os.environ) == environment


def test_a_port_that_is_taken(model: LAMI) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigError, match=rf"cannot listen at 127\.0\.0\.1 port {port}"),
            server.running(model, port=port),
        ):
            pass


def test_gradio_writes_nothing_into_the_package(address: str) -> None:
    assert not list(Path(server.__file__).parent.glob("*.pyi"))
