"""Starting the page and ending it, without traces."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Event, current_thread, main_thread
from types import FrameType

from lami.acceleration import Precision
from lami.errors import ConfigError
from lami.model import LAMI
from lami.web.limits import Limits
from lami.web.line import Line

logger = logging.getLogger(__name__)

_FIRST_PORT = 7860
_DEMONSTRATION = (
    "Small demonstration model: it knows drawn figures as in the examples, no photos. "
    "`lami web --checkpoint FILE` takes a model of yours."
)


@contextmanager
def running(
    model: LAMI,
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    precision: Precision = "auto",
    demonstration: bool = False,
) -> Iterator[str]:
    """Serve the page within the context, which gives its address; at the end all files of it are gone.

    Args:
        model: shared by all visitors.
        limits: None takes the defaults.
        host: address to listen at; other computers reach the page only where this is not a loopback address.
        port: None takes the first free one from 7860.
        precision: that the model was loaded with.
        demonstration: the model is the packaged one: say so, and offer examples of what it knows.

    Raises:
        ConfigError: Gradio is not installed, or the page cannot listen at host and port.
        WeightsUnavailableError: the selector's transformer cannot be had.
    """
    if port is not None and not 1 <= port <= 65535:
        raise ConfigError(f"the port must be a number from 1 to 65535, got {port}; choose another --port")
    if find_spec("gradio") is None:
        raise ConfigError('the page needs Gradio, which is not installed; install it with pip install "lami[web]"')
    if model.interpolation.enabled:
        model.vit()  # rather now than in somebody's first animation
    with ExitStack() as stack:
        stack.enter_context(_sigterm_exits())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lami-web-"))).resolve()
        stack.enter_context(_environment(_silence(folder)))
        # Gradio looks at the environment when it is imported, too.
        from lami.web.app import build
        from lami.web.examples import write_examples
        from lami.web.style import CSS, theme

        line = stack.enter_context(Line(model, limits or Limits(), folder, precision))
        page = build(line, write_examples(folder / "examples"), _DEMONSTRATION) if demonstration else build(line, [])
        stack.callback(page.close, verbose=False)
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                share=False,
                prevent_thread_lock=True,
                quiet=True,
                show_error=False,
                max_file_size=round(line.limits.megabytes * 1e6),
                allowed_paths=[],
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                pwa=False,
                theme=theme(),
                css=CSS,
            )
        except OSError as error:
            place = f"{host} port {_FIRST_PORT if port is None else port}"
            raise ConfigError(f"the page cannot listen at {place}; choose another --port or --host") from error
        yield address


def serve(address: str, host: str) -> None:
    """Say where the page is, and return when somebody ends it with Ctrl-C or SIGTERM."""
    stop = Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        print(f"lami web: open {address} in a browser; Ctrl-C ends it", flush=True)
        if not is_loopback(host):
            print(f"lami web: everybody who can reach {host} can use it, without a password", flush=True)
        stop.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _silence(folder: Path) -> dict[str, str]:
    """Environment in which Gradio keeps its files in `folder` and talks to nobody but this computer."""
    local = "127.0.0.1,localhost,::1"
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    without_proxy = f"{given},{local}" if given else local  # Gradio asks itself whether it has started
    return {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_SHARE": "False",
        "GRADIO_MCP_SERVER": "False",
        "NO_PROXY": without_proxy,
        "no_proxy": without_proxy,
    }


@contextmanager
def _sigterm_exits() -> Iterator[None]:
    """SIGTERM unwinds the stack, so that files go, too; only the main thread can see to that."""
    if current_thread() is not main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
