from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from lami.data.video import VideoReader
from lami.data.writer import VideoWriter
from lami.errors import DataError

MakeVideo = Callable[..., Path]
NTSC = Fraction(30000, 1001)


def frames(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Smooth coloured pictures that change slowly."""
    y, x = np.mgrid[:height, :width]
    return [
        np.stack([4 * x, 5 * y, 128 + 40 * np.sin(x / 9 + n / 5)], 2).clip(0, 255).astype(np.uint8)
        for n in range(count)
    ]


def audio_packets(path: Path) -> tuple[str, list[tuple[float, bytes]]]:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.size]
        return stream.codec.canonical_name, packets


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    images = frames(30)
    with VideoWriter(path, NTSC) as writer:
        for image in images:
            writer.write(image)
    with VideoReader(path) as video:
        assert video.rate == NTSC
        assert len(video) == 30
        assert not video.has_audio
        if suffix != ".mkv":
            assert video.times == tuple(n / NTSC for n in range(30))
            assert video.duration == 30 / NTSC
        for frame, image in zip(video, images, strict=True):
            assert np.abs(frame.image.astype(int) - image).mean() < 3
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_pure_colours_survive(tmp_path: Path) -> None:
    """Red stays red only if the colour matrix that is written and the one that is used agree."""
    for color in [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)]:
        with VideoWriter(tmp_path / "a.mp4", 25) as writer:
            writer.write(np.full((32, 32, 3), color, np.uint8))
        with VideoReader(tmp_path / "a.mp4") as video:
            assert np.abs(video.frames([0])[0].astype(int) - color).max() <= 4


def test_gif(tmp_path: Path) -> None:
    images = frames(12, 31, 45)
    with VideoWriter(tmp_path / "a.gif", 10) as writer:
        for image in images:
            writer.write(image)
    with VideoReader(tmp_path / "a.gif") as video:
        assert video.rate == 10
        assert video.times == tuple(Fraction(n, 10) for n in range(12))
        for frame, image in zip(video, images, strict=True):
            assert np.abs(frame.image.astype(int) - image).mean() < 6


def test_odd_sides_are_extended_by_repeating_the_border(tmp_path: Path) -> None:
    (image,) = frames(1, 33, 51)
    with VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(image)
    with VideoReader(tmp_path / "a.mp4") as video:
        (read,) = video.frames([0])
    assert read.shape == (34, 52, 3)
    assert np.abs(read[:33, :51].astype(int) - image).mean() < 4
    assert np.abs(read[33, :51].astype(int) - image[32]).mean() < 6


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    times = [Fraction(0), Fraction(1, 30), Fraction(1, 10), Fraction(1, 2)]
    with VideoWriter(tmp_path / "a.mp4", 25) as writer:
        for image, time in zip(frames(4), times, strict=True):
            writer.write(image, time)
    with VideoReader(tmp_path / "a.mp4") as video:
        assert video.times == tuple(times)


def test_sound_is_copied_packet_by_packet_and_cut_to_the_video(tmp_path: Path, make_video: MakeVideo) -> None:
    source = make_video("source.mp4", frames=60, rate=NTSC, sound="aac")
    with VideoWriter(tmp_path / "a.mp4", NTSC, audio_from=source) as writer:
        for image in frames(45):
            writer.write(image)
    codec, given = audio_packets(source)
    expected = [packet for packet in given if packet[0] < 45 / NTSC]
    assert codec == "aac"
    assert 0 < len(expected) < len(given)
    assert audio_packets(tmp_path / "a.mp4") == ("aac", expected)
    with VideoReader(tmp_path / "a.mp4") as video:
        assert (len(video), video.rate, video.has_audio) == (45, NTSC, True)


def test_sound_that_the_container_cannot_hold_becomes_aac(tmp_path: Path, make_video: MakeVideo) -> None:
    source = make_video("source.mkv", sound="pcm_s16le")
    with VideoWriter(tmp_path / "a.mp4", 25, audio_from=source) as writer:
        for image in frames(20):
            writer.write(image)
    codec, packets = audio_packets(tmp_path / "a.mp4")
    assert codec == "aac"
    assert 0.7 < packets[-1][0] < 0.85
    with av.open(str(tmp_path / "a.mp4")) as container:
        loudest = max(np.abs(block.to_ndarray()).max() for block in container.decode(audio=0))
    assert 0.2 < loudest < 0.4  # the tone has 9000 of 32768


def test_no_sound_to_carry(tmp_path: Path, make_video: MakeVideo) -> None:
    silent, loud = make_video("silent.mp4"), make_video("loud.mp4", sound="aac")
    for name, source in (("a.mp4", silent), ("a.gif", loud)):
        with VideoWriter(tmp_path / name, 25, audio_from=source) as writer:
            writer.write(frames(1)[0])
        with VideoReader(tmp_path / name) as video:
            assert not video.has_audio


def test_metadata(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 25, metadata={"comment": "generated by lami"}) as writer:
        writer.write(frames(1)[0])
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.metadata["comment"] == "generated by lami"


def fail_after(path: Path, images: list[np.ndarray], source: Path) -> None:
    with VideoWriter(path, 25, audio_from=source) as writer:
        for image in images:
            writer.write(image)
        raise RuntimeError("the model failed")


@pytest.mark.parametrize("written", [0, 3])
def test_a_failure_leaves_nothing_behind_and_the_old_file_alone(
    tmp_path: Path, make_video: MakeVideo, written: int
) -> None:
    source = make_video("source.mp4", sound="aac")
    target = tmp_path / "a.mp4"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="the model failed"):
        fail_after(target, frames(written), source)
    assert target.read_bytes() == b"old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mp4", "source.mp4"]


def write(path: Path, *images: np.ndarray, times: tuple[Fraction | None, ...] = (None, None), rate: int = 25) -> None:
    with VideoWriter(path, rate) as writer:
        for image, time in zip(images, times, strict=False):
            writer.write(image, time)


def test_bad_input(tmp_path: Path) -> None:
    image = frames(1)[0]
    with pytest.raises(DataError, match=r"\.mp4"):
        write(tmp_path / "a.xyz", image)
    with pytest.raises(DataError, match="positive"):
        write(tmp_path / "a.mp4", image, rate=0)
    with pytest.raises(DataError, match="no frames"):
        write(tmp_path / "a.mp4")
    with pytest.raises(DataError, match="uint8"):
        write(tmp_path / "a.mp4", image / 255)
    with pytest.raises(DataError, match="the first was"):
        write(tmp_path / "a.mp4", image, image[:-2])
    with pytest.raises(DataError, match="not after"):
        write(tmp_path / "a.mp4", image, image, times=(Fraction(1), Fraction(1)))
    with pytest.raises(DataError, match="does not exist"), VideoWriter(tmp_path / "a.mp4", 25, tmp_path / "none.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []
