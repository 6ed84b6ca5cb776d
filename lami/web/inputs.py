"""Fields for files that leave all judgement of them to lami, and fetch nothing from other computers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

Field = TypeVar("Field", gr.Image, gr.Video)


def unopened(field: Field) -> Field:
    """The field, giving functions the path of an upload, whatever it is, or None.

    By itself Gradio opens pictures before we could say in our words what is wrong with them, and downloads addresses.
    The instance is changed, because Gradio writes files beside the source of classes that are derived from its own.
    """
    move = field.async_move_resource_to_block_cache

    def take(payload: Any) -> str | None:
        return None if payload is None else payload.path

    async def move_file(place: str | Path | None) -> str | None:
        if str(place).partition(":")[0].lower() in ("http", "https"):
            raise gr.Error("this page takes files, no addresses; upload the file itself", print_exception=False)
        if place is not None and not Path(place).is_file():  # Gradio could not remove a folder again
            raise gr.Error("this is no file that was uploaded; upload it again", print_exception=False)
        return await move(place)

    field.preprocess = take  # type: ignore[method-assign]
    field.async_move_resource_to_block_cache = move_file  # type: ignore[method-assign]
    return field
