"""What tests of the page share: a model that is quick, a picture, and a video with sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from inputs.media import quarters, write_video
from small import small_model

from lami.data import write_image
from lami.model import LAMI
from lami.web.limits import Limits
from lami.web.line import Line


@pytest.fixture(scope="session")
def model() -> LAMI:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return small_model()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """90x60 pixels."""
    write_image(tmp_path / "person.png", quarters(90, 60))
    return tmp_path / "person.png"


@pytest.fixture
def driving(tmp_path: Path) -> Path:
    """8 frames of 48x32 pixels, 25 a second, with sound."""
    return write_video(tmp_path / "dance.mp4", sound="aac")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a line's files."""
    (tmp_path / "line").mkdir()
    return tmp_path / "line"


@pytest.fixture
def line(model: LAMI, folder: Path) -> Iterator[Line]:
    with Line(model, Limits(waiting=2), folder, "fp32") as line:
        yield line
