"""Outputs: whole or not at all, and nothing that was there is lost unless it is asked for; by `lami` itself."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from inputs.media import quarters, write_animation, write_video
from PIL import Image
from small import small_model

from lami import checkpoint
from lami.animation import animate_file
from lami.cli.main import main
from lami.data import VideoReader, VideoWriter, check_output, read_image, write_image
from lami.errors import DataError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    checkpoint.save(small_model(), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds `source.png` and the drivers `driving.mp4`, `driving.jpg`, `driving.webp`, `frames/`."""
    Image.fromarray(quarters()).save(tmp_path / "source.png")
    Image.fromarray(quarters()).save(tmp_path / "driving.jpg")
    write_video(tmp_path / "driving.mp4", frames=3, sound="aac")
    write_animation(tmp_path / "driving.webp")
    for number in range(3):
        write_image(tmp_path / "frames" / f"{number}.png", quarters(level=number))
    return tmp_path


def animate(model: Path, folder: Path, output: str, *more: str, driving: str = "driving.mp4") -> None:
    paths = ["--source", str(folder / "source.png"), "--driving", str(folder / driving)]
    main(["animate", "--checkpoint", str(model), *paths, f"--output={folder / output}", "--device", "cpu", *more])


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Callable[..., None]:
    def check(run: Callable[[], None], *words: str) -> None:
        """One line on stderr, where libraries could write past Python, and exit code 2."""
        with pytest.raises(SystemExit) as stop:
            run()
        assert stop.value.code == 2
        line, end = capfd.readouterr().err.rsplit("\n", 1)
        assert line.startswith("lami: error: ")
        assert "\n" not in line
        assert not end
        for word in words:
            assert word in line

    return check


DRIVERS = [("driving.mp4", "out.mp4", 3), ("frames", "out.mp4", 3), ("driving.webp", "out.gif", 4)]


@pytest.mark.parametrize(("driving", "output", "count"), DRIVERS)
def test_every_driver(model: Path, folder: Path, driving: str, output: str, count: int) -> None:
    animate(model, folder, output, driving=driving)
    with VideoReader(folder / output) as video:
        assert len(list(video)) == count
        assert video.has_audio == (driving == "driving.mp4")


def test_a_driving_image(model: Path, folder: Path) -> None:
    animate(model, folder, "out.png", driving="driving.jpg")
    assert read_image(folder / "out.png").ndim == 3


EXISTING = [("out.mp4", "driving.mp4", ()), ("out.png", "driving.jpg", ()), ("panel.png", "driving.mp4", ("panel",))]


@pytest.mark.parametrize(("name", "driving", "panel"), EXISTING)
def test_animate_keeps_what_exists(
    model: Path, folder: Path, refused: Callable[..., None], name: str, driving: str, panel: tuple[str, ...]
) -> None:
    (folder / name).write_bytes(b"precious")
    output = "new.mp4" if panel else name
    more = [f"--save-panel={folder / name}"] if panel else []
    refused(lambda: animate(model, folder, output, *more, driving=driving), str(folder / name), "--overwrite")
    assert (folder / name).read_bytes() == b"precious"
    assert not (folder / "new.mp4").exists()
    animate(model, folder, output, *more, "--overwrite", driving=driving)
    assert (folder / name).read_bytes() != b"precious"


def test_convert_keeps_what_exists(model: Path, tmp_path: Path, refused: Callable[..., None]) -> None:
    output = tmp_path / "out.safetensors"
    output.write_bytes(b"precious")
    refused(lambda: main(["convert", str(model), str(output)]), str(output), "--overwrite")
    assert output.read_bytes() == b"precious"
    main(["convert", str(model), str(output), "--overwrite"])
    checkpoint.load(output, "cpu")


@pytest.mark.parametrize(
    "command",
    [
        ["train-avd", "--checkpoint", "MODEL", "--data", "demo", "-o", "out.safetensors"],
        ["demo", "-o", "."],
        ["bench", "data", "demo", "-o", "bench.json"],
    ],
)
def test_other_commands_keep_what_exists(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., None], command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["out.safetensors", "panel.png", "bench.json"]
    for name in names:
        (tmp_path / name).write_bytes(b"precious")
    refused(lambda: main([word.replace("MODEL", str(model)) for word in command]), "exists already", "--overwrite")
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    assert all((tmp_path / name).read_bytes() == b"precious" for name in names)


@pytest.mark.parametrize("link", [None, "symbolic", "hard"])
@pytest.mark.parametrize("taken", ["driving.mp4", "source.png"])
def test_inputs_are_not_even_overwritten_on_request(
    model: Path, folder: Path, refused: Callable[..., None], taken: str, link: str | None
) -> None:
    output = taken
    if link is not None:
        output = f"link{Path(taken).suffix}"
        (folder / output).symlink_to(taken) if link == "symbolic" else os.link(folder / taken, folder / output)
    before = (folder / taken).read_bytes()
    driving = "driving.jpg" if taken == "source.png" else "driving.mp4"
    refused(lambda: animate(model, folder, output, "--overwrite", driving=driving), "is an input")
    assert (folder / taken).read_bytes() == before


@pytest.mark.parametrize(
    ("output", "driving", "words"),
    [
        ("out.avi", "driving.mp4", ".mp4"),
        ("out.webm", "driving.mp4", ".mp4"),
        ("out", "driving.mp4", ".mp4"),
        ("out.mp4", "driving.jpg", ".png"),
        ("out.png", "driving.webp", ".mp4"),
        ("out.heic", "driving.jpg", ".png"),
        ("folder.mp4", "driving.mp4", "is a folder"),
        ("pipe.mp4", "driving.mp4", "not a regular file"),
        ("source.png/out.mp4", "driving.mp4", "choose another"),
        ("n" * 300 + ".mp4", "driving.mp4", "choose another name"),
        ("n" * 250 + ".mp4", "driving.mp4", "choose another name"),
        ("circle.mp4", "driving.mp4", "choose another name"),
        ("out.mp4", "driving.wav", "does not exist"),
        ("out.mp4", "*.mkv", "matches no file"),
        ("out.mp4", "notes.mp4", "convert it to mp4"),
        ("out.mp4", "cut.mp4", "convert it"),
        ("out.png", "notes.jpg", "convert it to PNG"),
    ],
)
def test_refused(
    model: Path, folder: Path, refused: Callable[..., None], output: str, driving: str, words: str
) -> None:
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    (folder / "circle.mp4").symlink_to("circle.mp4")
    for name in ("notes.mp4", "notes.jpg"):
        (folder / name).write_text("neither video nor image")
    video = (folder / "driving.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(video[: len(video) // 2])
    before = sorted(os.listdir(folder))
    refused(lambda: animate(model, folder, output, "--mode", "absolute", driving=driving), words)
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize("name", ["new/folders/out.mp4", "-o.mp4", "naïve 写真 🙂 .mp4", "12:30.mp4", "50%d.mp4"])
def test_names(model: Path, folder: Path, name: str) -> None:
    animate(model, folder, name)
    with VideoReader(folder / name) as video:
        assert len(video) == 3
    assert [path.name for path in (folder / name).parent.iterdir() if path.name.startswith(".")] == []


def test_read_only_folders_are_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # for root no folder is read-only
    with pytest.raises(DataError, match="not a folder with write access"):
        check_output(tmp_path / "new" / "out.mp4")
    assert list(tmp_path.iterdir()) == []


@contextmanager
def _file_size(limit: int) -> Iterator[None]:
    """What a full disk is like: no file can grow beyond `limit` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.mov", "out.gif"])
def test_no_room_for_a_video(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    with (
        pytest.raises(DataError, match="make room") as caught,
        _file_size(20_000),
        VideoWriter(tmp_path / name, 25) as writer,
    ):
        for image in noise:
            writer.write(image)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.bmp", "out.webp", "out.tif"])
def test_no_room_for_an_image(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with pytest.raises(DataError, match="make room"), _file_size(2_000):
        write_image(tmp_path / name, noise)
    assert list(tmp_path.iterdir()) == []


def test_a_pattern_makes_a_folder_of_pairs(model: Path, folder: Path) -> None:
    write_video(folder / "driving2.mp4", frames=2)
    animate(model, folder, "results", driving="driv*.mp4")
    counts = {path.name: len(VideoReader(path)) for path in (folder / "results").glob("*.mp4")}
    assert counts == {"source-driving.mp4": 3, "source-driving2.mp4": 2}


def test_a_result_that_exists_is_replaced_by_animate_file_on_request(model: Path, folder: Path) -> None:
    output = folder / "out.mp4"
    output.write_bytes(b"precious")
    files = {"source": folder / "source.png", "driving": folder / "driving.mp4", "output": output}
    with pytest.raises(DataError, match="exists already"):
        animate_file(model, **files, device="cpu")
    animate_file(model, **files, device="cpu", overwrite=True)
    assert len(VideoReader(output)) == 3
