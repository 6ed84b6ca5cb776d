"""Videos and animated pictures as drivers: the right frames at the right times, or one sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorTrc
from inputs.media import (
    BLUE,
    GIF_MILLISECONDS,
    HEIGHT,
    RED,
    WIDTH,
    corners,
    expected,
    quarters,
    write_animation,
    write_sound,
    write_video,
)
from PIL import Image

from lami.data import VideoReader, VideoWriter, is_still, open_moving
from lami.errors import DataError

LOSSY = 14  # quantisation and chroma at half resolution
UNEVEN = (0, 40, 55, 130, 131, 400, 500, 777)


def check_frames(path: Path, count: int = 8, tolerance: int = LOSSY, first: int = 0) -> list[np.ndarray]:
    """Frames come in order, and one by one as well as together."""
    assert not is_still(path)
    reader = open_moving(path)
    frames = list(reader)
    assert len(reader) == len(frames) == count
    assert [frame.time for frame in frames] == list(reader.times)
    for number, frame in enumerate(frames):
        np.testing.assert_allclose(corners(frame.image), expected(first + number), atol=tolerance)
    for number in (count - 1, 0, count // 2):
        np.testing.assert_array_equal(reader.frames([number])[0], frames[number].image)
    reader.close()
    return [frame.image for frame in frames]


# x265 damages memory where a picture is smaller than its blocks.
X265: dict[str, Any] = {"codec": "libx265", "size": (128, 192), "options": {"x265-params": "log-level=none"}}
B_FRAMES = {"bf": "2", "g": "4"}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "h264 mp4": ("a.mp4", {"options": B_FRAMES}),
    "h264 mov": ("a.mov", {"options": B_FRAMES}),
    "h264 mkv": ("a.mkv", {"options": B_FRAMES}),
    "h264 transport stream": ("a.ts", {"options": B_FRAMES}),
    "h264 flv": ("a.flv", {}),
    "raw h264": ("a.h264", {"options": B_FRAMES}),
    "raw h265": ("a.h265", X265 | {"format": "hevc"}),
    "h265 mp4": ("a.mp4", X265),
    "10-bit h265": (
        "a.mp4",
        X265 | {"pixels": "yuv420p10le"},
    ),
    "vp8": ("a.webm", {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "5"}}),
    "vp9": ("a.webm", {"codec": "libvpx-vp9"}),
    "mpeg-4 avi": ("a.avi", {"codec": "mpeg4", "options": {"bf": "2", "q:v": "2", "b": "9000000"}}),
    "motion jpeg avi": ("a.avi", {"codec": "mjpeg", "pixels": "yuvj420p", "options": {"b": "9000000"}}),
    "mpeg-1": ("a.mpg", {"codec": "mpeg1video", "options": {"b": "9000000"}}),
    "mpeg-2": ("a.mpg", {"codec": "mpeg2video", "options": {"bf": "2", "b": "9000000"}}),
    "interlaced mpeg-2": ("a.mpg", {"codec": "mpeg2video", "options": {"flags": "+ildct+ilme", "b": "9000000"}}),
    "windows media": ("a.wmv", {"codec": "wmv2", "options": {"b": "9000000"}}),
    "lossless ffv1": ("a.mkv", {"codec": "ffv1", "pixels": "yuv444p"}),
    "prores with alpha": ("a.mov", {"codec": "prores_ks", "pixels": "yuva444p10le"}),
    "quicktime animation": ("a.mov", {"codec": "qtrle", "pixels": "argb"}),
    "vp9 with alpha": ("a.webm", {"codec": "libvpx-vp9", "pixels": "yuva420p"}),
    "10 bits": ("a.mp4", {"pixels": "yuv420p10le"}),
    "4:4:4": ("a.mp4", {"pixels": "yuv444p"}),
    "4:2:2": ("a.mp4", {"pixels": "yuv422p"}),
    "full range": ("a.mp4", {"pixels": "yuvj420p"}),
    "interlaced": ("a.mp4", {"options": {"flags": "+ildct+ilme"}}),
    "fragmented": ("a.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    "no duration": ("a.mkv", {"container_options": {"live": "1"}}),
    "index in front": ("a.mp4", {"container_options": {"movflags": "+faststart"}}),
    "several videos": ("a.mkv", {"streams": 2}),
    "mp4 named avi": ("a.avi", {"format": "mp4"}),
    "webm named mp4": ("a.mp4", {"codec": "libvpx-vp9", "format": "webm"}),
    "mp4 named jpg": ("a.jpg", {"format": "mp4"}),
    "mp4 named gif": ("a.gif", {"format": "mp4"}),
    "no suffix": ("clip", {"format": "mp4"}),
    "colon": ("12:30.mp4", {}),
    "dash": ("-o.mp4", {}),
    "percent": ("50%d.mp4", {}),
    "unicode": ("naïve 写真 🙂 .mp4", {}),
    "long name": ("n" * 250 + ".mp4", {}),
}


@pytest.mark.parametrize("case", KINDS)
def test_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    name, options = KINDS[case]
    monkeypatch.chdir(tmp_path)
    check_frames(write_video(Path(name), **options))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.h264"])
def test_one_frame(tmp_path: Path, name: str) -> None:
    check_frames(write_video(tmp_path / name, frames=1), count=1)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_phones_turn_their_videos(tmp_path: Path, rotation: int) -> None:
    path = write_video(tmp_path / "a.mp4", pixels="yuv444p", setup=lambda stream: stream.set_display_rotation(rotation))
    turned = np.rot90(quarters(level=0), rotation // 90)
    with VideoReader(path) as video:
        (image,) = video.frames([0])
        assert image.shape == turned.shape == (video.height, video.width, 3)
        np.testing.assert_allclose(corners(image), corners(turned), atol=LOSSY)


@pytest.mark.parametrize("shape", [(33, 49), (17, 16), (16, 17)])
def test_odd_sizes(tmp_path: Path, shape: tuple[int, int]) -> None:
    images = check_frames(write_video(tmp_path / "a.mp4", pixels="yuv444p", size=shape))
    assert images[0].shape == (*shape, 3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(1, 2)])
def test_pixels_become_square(tmp_path: Path, name: str, aspect: Fraction) -> None:
    def flatten(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = aspect

    images = check_frames(write_video(tmp_path / name, setup=flatten))
    assert images[0].shape == (HEIGHT, round(WIDTH * aspect), 3)


def test_transparent_videos_are_laid_on_white(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    rgba = np.dstack([quarters(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    rgba[HEIGHT // 2 :, : WIDTH // 2, 3] = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("qtrle", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "argb"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="argb")))
        container.mux(stream.encode(None))
    with VideoReader(path) as video:
        np.testing.assert_allclose(corners(video.frames([0])[0]), [BLUE, RED, (255,) * 3, RED], atol=1)


def test_hdr_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def mark(stream: Any) -> None:
        stream.codec_context.color_trc = ColorTrc.SMPTE2084

    path = write_video(tmp_path / "a.mp4", pixels="yuv420p10le", setup=mark)
    check_frames(path)
    assert f"{path} is an HDR video" in caplog.text


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(1), Fraction(240)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_rates_are_exact(tmp_path: Path, name: str, rate: Fraction) -> None:
    with VideoReader(write_video(tmp_path / name, rate=rate)) as video:
        assert video.rate == rate
        assert video.times == tuple(n / rate for n in range(8))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_variable_rates_keep_their_times(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, milliseconds=UNEVEN)
    check_frames(path)
    with VideoReader(path) as video:
        times = video.times
        assert [round(1000 * time) for time in times] == list(UNEVEN)
        with VideoWriter(tmp_path / "out.mp4", video.rate) as writer:
            for frame in video:
                writer.write(frame.image, frame.time)
    with VideoReader(tmp_path / "out.mp4") as again:
        np.testing.assert_allclose([float(t) for t in again.times], [float(t) for t in times], atol=1e-3)


@pytest.mark.parametrize("start", [-500, 5000])
def test_times_count_from_the_first_frame(tmp_path: Path, start: int) -> None:
    path = write_video(tmp_path / "a.mkv", milliseconds=[start + 40 * n for n in range(8)])
    check_frames(path)
    with VideoReader(path) as video:
        assert video.times == tuple(Fraction(n, 25) for n in range(8))


def test_what_an_edit_list_cuts_off_is_not_shown(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", milliseconds=[40 * n - 80 for n in range(8)])
    check_frames(path, count=6, first=2)


def test_a_recording_may_begin_between_keyframes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", frames=12, options={"g": "4", "bf": "0", "sc_threshold": "0"})
    with av.open(str(path)) as container:
        second = [packet for packet in container.demux(video=0) if packet.size][1]
    path.write_bytes(path.read_bytes()[second.pos :])
    check_frames(path, count=8, first=4)


def test_frames_that_need_a_keyframe_cut_off_are_not_counted(tmp_path: Path) -> None:
    """In open groups of pictures, frames shown before a keyframe follow it in the file."""
    options = {"g": "6", "bf": "2", "sc_threshold": "0", "x264-params": "open-gop=1:b-adapt=0"}
    path = write_video(tmp_path / "a.ts", frames=24, options=options)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    second = next(number for number, packet in enumerate(packets) if number and packet.is_keyframe)
    assert packets[second + 1].pts < packets[second].pts
    path.write_bytes(path.read_bytes()[packets[1].pos :])
    first = sum(packet.pts < packets[second].pts for packet in packets)
    check_frames(path, count=24 - first, first=first)


@pytest.mark.parametrize("name", ["a.mkv", "a.ts"])
def test_streams_that_end_early_are_read_up_to_there(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, frames=12, options={"g": "1"})
    whole = list(VideoReader(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with VideoReader(path) as video:
        frames = list(video)
    assert 4 <= len(frames) < 12
    for cut, frame in zip(frames[:-1], whole, strict=False):  # the last one may be cut itself
        np.testing.assert_array_equal(cut.image, frame.image)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif"])
def test_animated_pictures(tmp_path: Path, name: str) -> None:
    path = write_animation(tmp_path / name)
    check_frames(path, count=4)
    starts = [0, *accumulate(GIF_MILLISECONDS)]
    reader = open_moving(path)
    assert [round(1000 * time) for time in reader.times] == starts[:4]
    assert reader.rate == Fraction(4000, starts[4])


@pytest.mark.parametrize("number", [-1, 4])
def test_frames_that_pictures_do_not_have(tmp_path: Path, number: int) -> None:
    animation, folder = write_animation(tmp_path / "a.gif"), tmp_path / "frames"
    folder.mkdir()
    for name in range(4):
        Image.fromarray(quarters()).save(folder / f"{name}.png")
    for path in (animation, folder):
        with pytest.raises(IndexError, match=f"{path} has 4 frames, frame {number} does not exist"):
            open_moving(path).frames([0, number])


def test_animated_pictures_go_by_content(tmp_path: Path) -> None:
    path = write_animation(tmp_path / "a.webp").rename(tmp_path / "a.mp4")
    check_frames(path, count=4)


def test_the_picture_for_other_programs_is_no_frame(tmp_path: Path) -> None:
    path = write_animation(tmp_path / "a.png", default_image=True)
    check_frames(path, count=3, tolerance=0, first=1)


def test_frames_as_fast_as_possible_last_as_in_browsers(tmp_path: Path) -> None:
    frames = [Image.fromarray(quarters(level=n)) for n in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=0)
    assert open_moving(tmp_path / "a.gif").times == (0, Fraction(1, 10), Fraction(1, 5))


def test_pictures_that_do_not_move_are_still(tmp_path: Path) -> None:
    Image.fromarray(quarters()).save(tmp_path / "a.gif")
    assert is_still(tmp_path / "a.gif")


def test_heic_pictures_are_no_videos(tmp_path: Path) -> None:
    """FFmpeg takes them for mp4."""
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    assert is_still(tmp_path / "IMG_1.HEIC")


@pytest.mark.parametrize("output", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize(
    ("name", "sound"),
    [
        ("a.mp4", "aac"),
        ("a.mp4", "libmp3lame"),
        ("a.mp4", "ac3"),
        ("a.webm", "libopus"),
        ("a.mkv", "flac"),
        ("a.mov", "pcm_s16le"),
        ("a.avi", "libmp3lame"),
        ("a.mpg", "mp2"),
    ],
)
def test_sound_goes_along(tmp_path: Path, name: str, sound: str, output: str) -> None:
    codecs = {"a.webm": "libvpx-vp9", "a.avi": "mpeg4", "a.mpg": "mpeg2video"}
    path = write_video(tmp_path / name, codecs.get(name, "libx264"), frames=25, sound=sound)
    result = tmp_path / f"out{output}"
    with VideoReader(path) as video, VideoWriter(result, video.rate, audio_from=path) as writer:
        for frame in video:
            writer.write(frame.image, frame.time)
    with av.open(str(result)) as container:
        pieces = [piece.to_ndarray() for piece in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    samples = np.concatenate(pieces, axis=-1)[0].astype(float)
    assert abs(len(samples) / rate - 1) < 0.1
    middle = samples[len(samples) // 4 : len(samples) // 2]
    loudest = np.argmax(np.abs(np.fft.rfft(middle))) * rate / len(middle)
    assert abs(loudest - 48000 / (20 * 2 * np.pi)) < 20


def _sound(path: Path) -> None:
    write_sound(path.with_suffix(".m4a"), "aac").rename(path)


def _cut(share: float, **options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_video(path, frames=12, options={"g": "1"}, **options)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return write


def _empty_stream(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        container.start_encoding()


def _zeros(path: Path) -> None:
    write_video(path, frames=12)
    content = path.read_bytes()
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    path.write_bytes(content[:start] + bytes(end - start) + content[end:])


def _playlist(path: Path) -> None:
    write_video(path.with_name("part.ts"))
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.32,\npart.ts\n#EXT-X-ENDLIST\n")


FRONT = {"container_options": {"movflags": "+faststart"}}
REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("a.mp4", lambda path: None, "does not exist"),
    "empty": ("a.mp4", lambda path: path.touch(), "is empty"),
    "empty folder": ("a.mp4", lambda path: path.mkdir(), "holds no images"),
    "pipe": ("a.mp4", lambda path: os.mkfifo(path), "is not a file"),
    "device": ("a.mp4", lambda path: path.symlink_to("/dev/zero"), "is not a file"),
    "circle of links": ("a.mp4", lambda path: path.symlink_to(path), "cannot be read"),
    "name too long": ("n" * 300 + ".mp4", lambda path: None, "cannot be read"),
    "git-lfs": ("a.mp4", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "git lfs pull"),
    "text": ("a.mp4", lambda path: path.write_text("words\n" * 99), "convert it to mp4"),
    "html": ("a.mp4", lambda path: path.write_text("<html>404</html>"), "convert it to mp4"),
    "subtitles": ("a.srt", lambda path: path.write_text("1\n00:00:00,0 --> 00:00:01,0\nhi\n"), "convert it to mp4"),
    "playlist": ("a.m3u8", _playlist, "convert it to mp4"),
    "list": ("a.mp4", lambda path: path.write_text("ffconcat version 1.0\nfile a.ts\n"), "convert it to mp4"),
    "sound alone": ("a.mp4", _sound, "sound alone"),
    "wav": ("a.wav", lambda path: write_sound(path, "pcm_s16le"), "convert it to mp4"),
    "no frames in mp4": ("a.mp4", _empty_stream, "convert it"),
    "no frames in mkv": ("a.mkv", _empty_stream, "convert it"),
    "index missing": ("a.mp4", _cut(0.5), "convert it"),
    "index cut": ("a.mp4", _cut(0.95), "convert it"),
    "pictures cut": ("a.mp4", _cut(0.7, **FRONT), "damaged"),
    "pictures nearly whole": ("a.mov", _cut(0.97, **FRONT), "damaged"),
    "pictures missing": ("a.mp4", _zeros, "damaged"),
    "random bytes": ("a.mkv", lambda path: path.write_bytes(np.random.default_rng(0).bytes(9999)), "convert it"),
    "head of an mkv": ("a.mkv", _cut(0.05), "convert it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    name, write, advice = REFUSED[case]
    write(tmp_path / name)
    with pytest.raises(DataError, match=advice) as caught:
        list(open_moving(tmp_path / name))
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)
