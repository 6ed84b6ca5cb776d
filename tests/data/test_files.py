from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lami.data.files import atomic_path, check_output, claimed
from lami.errors import DataError


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with claimed(folder):
        with pytest.raises(DataError, match=f"another run is writing to {folder}"), claimed(folder):
            pass
        with claimed(tmp_path):
            pass
    with claimed(folder):
        pass


def test_forked_processes_do_not_hold_it(tmp_path: Path) -> None:
    """Otherwise data workers that outlive a killed run for seconds would keep the next one out."""
    ready, tell = os.pipe()
    with claimed(tmp_path):
        child = os.fork()
        if child == 0:
            os.write(tell, b"1")
            time.sleep(60)
            os._exit(0)
    os.read(ready, 1)
    try:
        with claimed(tmp_path):
            pass
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(tell)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"), claimed(tmp_path / "file" / "folder"):
        pass


def test_no_output_among_the_frames_of_an_input(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    (tmp_path / "link").symlink_to("frames")
    for output in (frames / "1.png", frames / "new.png", tmp_path / "link" / "1.png"):
        with pytest.raises(DataError, match="would be among the frames of an input folder"):
            check_output(output, [frames], overwrite=True)
    check_output(frames / "below" / "1.png", [frames])


def test_an_interruption_while_the_file_is_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch = Path.touch

    def interrupted(path: Path, mode: int = 0o666, exist_ok: bool = True) -> None:
        touch(path, mode, exist_ok)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "touch", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "a.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []
