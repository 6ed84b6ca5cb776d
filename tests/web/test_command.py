"""`lami web` from outside: it starts, says where, and leaves nothing behind when it is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small import small_model

from lami.checkpoint import save

pytest.importorskip("gradio", reason="Gradio is not installed")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[Any, str]]]:
    """Runs the command with temporary files in `tmp_path/temporary`; gives the process and the page's address."""
    (tmp_path / "temporary").mkdir()
    processes: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> tuple[Any, str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "lami", "web", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path / "temporary",
            env=os.environ | {"TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("lami web: open http://"), line
        return process, line.split()[3]

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("ending", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_ends_without_traces(start: Callable[..., tuple[Any, str]], tmp_path: Path, ending: signal.Signals) -> None:
    import httpx

    save(small_model(), tmp_path / "small.safetensors")
    process, address = start("--checkpoint", str(tmp_path / "small.safetensors"))
    assert httpx.get(address).status_code == 200
    assert len(list((tmp_path / "temporary").glob("lami-web-*"))) == 1
    process.send_signal(ending)
    assert process.wait(30) == 0
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.slow
def test_says_who_can_reach_it(start: Callable[..., tuple[Any, str]]) -> None:
    process, address = start("--host", "0.0.0.0")
    assert address.startswith("http://")
    assert "everybody who can reach 0.0.0.0" in process.stdout.readline()
