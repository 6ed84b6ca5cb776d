"""The page in a real browser: LAMI_CHROMIUM, or the Chromium of the system."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inputs.media import write_video

from lami.checkpoint import load
from lami.data import VideoReader
from lami.demo import WEIGHTS
from lami.web import server
from lami.web.limits import Limits

pytest.importorskip("gradio", reason="Gradio is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

CHROMIUM = os.environ.get("LAMI_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; LAMI_CHROMIUM names one elsewhere"),
]

_QUIET = ("disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update")
_PRETENDED_CAMERA = ("use-fake-ui-for-media-stream", "use-fake-device-for-media-stream")
_PATIENCE = 180_000  # milliseconds, where others use the cores too


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with server.running(load(WEIGHTS, "cpu"), Limits(megabytes=2), precision="fp32", demonstration=True) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    arguments = [f"--{name}" for name in ("no-sandbox", "disable-sync", *_QUIET, *_PRETENDED_CAMERA)]
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[Any]:
    """Opens the page as a visitor of its own; at the end no visitor has asked other computers for anything."""
    contexts, requests = [], []

    def open_it() -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 800}, permissions=["camera", "microphone"])
        context.set_default_timeout(_PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.wait_for_selector("#animate")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert requests
    assert not [url for url in requests if not url.startswith((address, "data:", "blob:"))]


def give(page: Any, picture: Path | None, movement: Path | None) -> None:
    if picture is not None:
        page.locator("#picture input[type=file]").set_input_files(picture)
        page.wait_for_selector("#picture img")
    if movement is not None:
        page.locator("#movement input[type=file]").set_input_files(movement)
        page.wait_for_selector("#movement video[src]")


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def wait_for_status(page: Any, text: str) -> None:
    page.wait_for_function("text => document.querySelector('#status').innerText.includes(text)", arg=text)


def test_animate_play_download_and_look_inside(open_page: Any, picture: Path, driving: Path, tmp_path: Path) -> None:
    page = open_page()
    box = page.locator("#animate").bounding_box()
    assert box["y"] + box["height"] < 800  # on the first screen
    give(page, picture, driving)
    page.get_by_label("Copy", exact=True).check()
    press(page, "Animate")
    wait_for_status(page, "Done: 8 frames")
    page.wait_for_function("document.querySelector('#result video').readyState >= 2")
    video = page.evaluate("(v => [v.videoWidth, v.videoHeight, v.duration])(document.querySelector('#result video'))")
    assert video[:2] == [60, 90]
    assert video[2] == pytest.approx(8 / 25, abs=0.06)
    with page.expect_download() as download:
        page.locator("#download").click()
    download.value.save_as(tmp_path / "got.mp4")
    with VideoReader(tmp_path / "got.mp4") as got:
        assert len(got) == 8
        assert got.has_audio
    page.get_by_role("tab", name="Look inside").click()
    for name in ("strip", "motion", "contributions"):
        page.wait_for_function(f"(document.querySelector('#{name} img') ?? {{}}).naturalWidth > 500")
    page.get_by_role("tab", name="Side by side").click()
    page.wait_for_function("document.querySelector('#comparison video').videoWidth > 500")


def test_example(open_page: Any) -> None:
    page = open_page()
    page.locator("#examples button").nth(1).click()
    page.wait_for_selector("#picture img")
    page.wait_for_selector("#movement video[src]")
    press(page, "Animate")
    wait_for_status(page, "Done: 50 frames")


def test_wrong_files(open_page: Any, picture: Path, driving: Path, tmp_path: Path) -> None:
    page = open_page()
    press(page, "Animate")
    wait_for_status(page, "There is no picture yet")
    (tmp_path / "text.mp4").write_text("no video")
    give(page, picture, None)
    page.locator("#movement input[type=file]").set_input_files(tmp_path / "text.mp4")
    page.wait_for_selector("#movement video[src]", state="attached")
    press(page, "Animate")
    wait_for_status(page, "text.mp4 is not a video that can be read")
    assert "Traceback" not in page.inner_text("body")
    page.reload()
    large = tmp_path / "large.mp4"
    large.write_bytes(driving.read_bytes() + bytes(2_100_000))
    page.locator("#movement input[type=file]").set_input_files(large)
    page.get_by_text("maximum allowed size").wait_for()


def test_cancel_and_again(open_page: Any, picture: Path, driving: Path, tmp_path: Path) -> None:
    page = open_page()
    give(page, picture, write_video(tmp_path / "long.mp4", frames=1000))
    press(page, "Animate")
    wait_for_status(page, "of 1000 frames")
    press(page, "Cancel")
    wait_for_status(page, "Cancelled")
    page.reload()
    give(page, picture, driving)
    press(page, "Animate")
    wait_for_status(page, "Done: 8 frames")


def test_two_at_once_and_one_who_leaves(open_page: Any, picture: Path, driving: Path, tmp_path: Path) -> None:
    first, second = open_page(), open_page()
    give(first, picture, write_video(tmp_path / "long.mp4", frames=1000))
    give(second, picture, driving)
    press(first, "Animate")
    wait_for_status(first, "of 1000 frames")
    press(second, "Animate")
    wait_for_status(second, "1 animation before yours")
    first.close()  # which ends the long one
    wait_for_status(second, "Done: 8 frames")


def test_clip_of_a_webcam(open_page: Any, picture: Path) -> None:
    page = open_page()
    give(page, picture, None)
    page.locator("#movement button[aria-label*=ebcam], #movement .source-selection button").last.click()
    page.locator("#movement").get_by_text("Click to Access Webcam").click()
    record = page.locator("#movement .button-wrap button").first
    record.click()
    page.wait_for_timeout(1500)
    record.click()
    page.wait_for_selector("#movement video[src]")
    press(page, "Animate")
    wait_for_status(page, "Done:")
