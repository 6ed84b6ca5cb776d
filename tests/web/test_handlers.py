from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small import small_model

from lami.errors import DataError
from lami.web.job import FAULT, Settings
from lami.web.limits import Limits
from lami.web.line import Line

gradio = pytest.importorskip("gradio", reason="Gradio is not installed")

_CHOICES = ("relative", 1, "keep", "model", "centre", "none", "eq4", [0.3, 0.5], True, True, True, False)


def test_hidden_fields_do_not_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lami.web.handlers import Handlers

    asked: list[Settings] = []

    def join(owner: str, picture: Path, movement: Path, settings: Settings) -> None:
        asked.append(settings)
        raise RuntimeError("a bug")

    line = Line(small_model(enabled=False), Limits(), folder)
    monkeypatch.setattr(line, "join", join)
    request: Any = SimpleNamespace(session_hash="me")
    with pytest.raises(gradio.Error) as failure:
        list(Handlers(line).animate("a.png", "b.mp4", *_CHOICES, request))
    assert (asked[0].times, asked[0].selector) == (None, None)
    assert (asked[0].smooth, asked[0].label) == (True, False)
    assert (asked[0].crop, asked[0].crop_driving) == ("centre", "none")
    assert failure.value.message[1:] == FAULT[1:] + "."


def test_folders_are_not_taken(tmp_path: Path) -> None:
    from lami.web.inputs import unopened

    field = unopened(gradio.Image())
    with pytest.raises(gradio.Error, match="no file that was uploaded"):
        asyncio.run(field.async_move_resource_to_block_cache(str(tmp_path)))
    assert not field.temp_files


def test_examples_stay(picture: Path, driving: Path) -> None:
    from lami.web.app import _offer
    from lami.web.examples import Example

    with gradio.Blocks() as page:
        _offer([Example(picture, driving, picture)], gradio.Image(), gradio.Video())
    kept = set().union(*(block.keep_in_cache for block in page.blocks.values()))
    assert {str(picture), str(driving)} <= kept


def test_results_that_are_removed_while_somebody_looks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lami.web import handlers

    line = Line(small_model(), Limits(), folder)
    found = [SimpleNamespace()]

    def find(name: str) -> Any:
        if not found:
            raise DataError("this animation is not there any more; animate again")
        return found.pop()

    def fail(*arguments: Any) -> None:
        raise DataError(f"{folder} cannot be read")

    monkeypatch.setattr(line, "find", find)
    monkeypatch.setattr(handlers, "look_inside", fail)
    with pytest.raises(gradio.Error, match="not there any more"):
        handlers.Handlers(line).inspect("name", 1)
