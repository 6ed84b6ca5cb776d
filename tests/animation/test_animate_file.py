from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from small import small_model

import lami
from lami.animation import Animator, Moved, animate_file, draw_panel
from lami.checkpoint import save
from lami.data import VideoReader, parse_rate, read_image, write_image
from lami.data.provenance import NOTE, draw_label
from lami.errors import ConfigError, DataError, LamiError, WeightsUnavailableError
from lami.pose import SeenPoses

RATE = Fraction(30000, 1001)
FRAMES = 9


def write_driving(path: Path, frames: int, rate: Fraction) -> None:
    """A moving square of 48x80 pixels with a tone."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = 80, 48, "yuv420p"
        audio = container.add_stream("aac", rate=44100, layout="mono")
        for n in range(frames):
            image = np.full((48, 80, 3), 60, np.uint8)
            image[10:30, 3 * n : 3 * n + 20] = (220, 60, 30)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(video.encode(None))
        for start in range(0, int(frames / rate * 44100), 1024):
            tone = (9000 * np.sin(np.arange(start, start + 1024) / 20)).astype(np.int16)[None]
            piece = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            piece.sample_rate, piece.pts = 44100, start
            container.mux(audio.encode(piece))
        container.mux(audio.encode(None))


def audio_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size] if container.streams.audio else []


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save(small_model(), path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    source, driving = tmp_path / "source.png", tmp_path / "driving.mp4"
    write_image(source, np.random.default_rng(0).integers(0, 256, (90, 45, 3), dtype=np.uint8))
    write_driving(driving, FRAMES, RATE)
    return {"source": source, "driving": driving, "output": tmp_path / "new" / "folder" / "out.mp4"}


def test_frames_rate_sound_and_aspect_are_kept(checkpoint: Path, files: dict[str, Path]) -> None:
    assert animate_file(checkpoint, **files) == files["output"]
    with VideoReader(files["output"]) as result, VideoReader(files["driving"]) as driving:
        assert (result.width, result.height) == (32, 64)
        assert result.rate == RATE
        assert result.times == driving.times
        assert len(list(result)) == FRAMES
    copied = audio_packets(files["output"])
    assert len(copied) > 5
    assert copied == audio_packets(files["driving"])[: len(copied)]


def test_distances_of_poses_are_told(
    checkpoint: Path, files: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    model = lami.load(checkpoint, "cpu")
    model.seen_poses = SeenPoses.from_list([1.0])  # all pairs are below 0.01
    with caplog.at_level(logging.INFO, "lami"):
        animate_file(model, **files, mode="absolute")
    told, warned = (record for record in caplog.records if record.name == "lami.animation.pose")
    assert "99 % below 0.01" in told.message
    assert (warned.levelname, "a strength below 1" in warned.message) == ("WARNING", True)


def test_options(checkpoint: Path, files: dict[str, Path], tmp_path: Path) -> None:
    panel = tmp_path / "panel.png"
    animate_file(
        checkpoint,
        **files,
        times=(0.2, 0.8),
        granularity="clip",
        best_frame=True,
        audio="none",
        size="source",
        batch_size=4,
        save_panel=panel,
        progress=lambda frames, total, description: frames if total == FRAMES else [],
    )
    with VideoReader(files["output"]) as result:
        assert (result.width, result.height) == (46, 90)  # H.264 needs even sides
        assert len(result) == FRAMES
        assert not result.has_audio
    assert read_image(panel).ndim == 3


def test_strength(checkpoint: Path, files: dict[str, Path]) -> None:
    def shown(strength: float) -> list[np.ndarray]:
        animate_file(checkpoint, **files, mode="absolute", strength=strength, overwrite=True)
        with VideoReader(files["output"]) as result:
            return [frame.image.astype(int) for frame in result]

    still, moving = shown(0), shown(3)
    assert max(np.abs(frame - still[0]).mean() for frame in still) < 1  # H.264 loses that much
    assert max(np.abs(frame - still[0]).mean() for frame in moving) > 3


@pytest.mark.parametrize("fps", ["60000/1001", Fraction(12), 23.976])
def test_another_frame_rate_keeps_duration_and_sound(checkpoint: Path, files: dict[str, Path], fps: Any) -> None:
    animate_file(checkpoint, **files, fps=fps)
    with VideoReader(files["output"]) as result, VideoReader(files["driving"]) as driving:
        assert result.rate == parse_rate(fps)
        assert result.times == tuple(n / result.rate for n in range(len(result)))
        assert abs(result.duration - driving.duration) <= 1 / result.rate / 2
    copied = audio_packets(files["output"])
    assert len(copied) > 5
    assert copied == audio_packets(files["driving"])[: len(copied)]


@pytest.mark.parametrize("selector", ["eq4", "fixed"])
def test_chain_of_all_frames(checkpoint: Path, files: dict[str, Path], tmp_path: Path, selector: Any) -> None:
    chain = tmp_path / "chain.mp4"
    animate_file(checkpoint, **files, selector=selector, save_chain=chain)
    with VideoReader(chain) as strips, VideoReader(files["driving"]) as driving:
        assert strips.times == driving.times
        assert strips.width > (5 if selector == "eq4" else 3) * strips.height * 0.7


def test_chain_of_the_frame_that_is_moved_farthest(checkpoint: Path, files: dict[str, Path], tmp_path: Path) -> None:
    moved: list[Moved] = []

    def collect(results: Any, total: int, description: str) -> Any:
        for result in results:
            moved.append(result.moved)
            yield result

    model = lami.load(checkpoint, "cpu")
    animate_file(model, **files, mode="absolute", save_chain=tmp_path / "chain.png", progress=collect)
    source = Animator(model, files["source"]).source
    far = [float((frame.keypoints - source.keypoints[0]).norm(dim=-1).mean()) for frame in moved]
    farthest = int(np.argmax(far))
    expected = draw_panel(source, [moved[farthest]], captions=[f"frame {farthest}"])
    assert np.array_equal(read_image(tmp_path / "chain.png"), expected)


@pytest.mark.parametrize("suffix", [".gif", ".mov"])
def test_other_containers(checkpoint: Path, files: dict[str, Path], suffix: str) -> None:
    output = files["output"].with_suffix(suffix)
    animate_file(checkpoint, **files | {"output": output}, selector="fixed", times=(0.4,))
    with VideoReader(output) as result:
        assert len(list(result)) == FRAMES


def test_results_say_that_they_were_generated_and_show_it_if_wanted(
    checkpoint: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    videos = {}
    for label in (False, True):
        animate_file(checkpoint, **files, label=label, overwrite=True)
        with av.open(str(files["output"])) as container:
            assert container.metadata["comment"] == NOTE
        with VideoReader(files["output"]) as video:
            videos[label] = np.stack([frame.image.astype(int) for frame in video])
        animate_file(checkpoint, files["source"], files["source"], tmp_path / f"{label}.png", label=label)
    changed = np.abs(videos[True] - videos[False]).mean(axis=(0, 2, 3))  # of each row
    assert changed[:-16].max() < 4 < 20 < changed[-4:].min()
    plain, labelled = read_image(tmp_path / "False.png"), read_image(tmp_path / "True.png")
    assert np.array_equal(labelled, draw_label(plain))


def test_a_driving_image_gives_an_image_in_absolute_mode(
    checkpoint: Path, files: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    write_image(files["driving"].with_suffix(".jpg"), np.zeros((50, 50, 3), np.uint8))
    files |= {"driving": files["driving"].with_suffix(".jpg"), "output": files["output"].with_suffix(".png")}
    with caplog.at_level(logging.INFO, "lami"):
        names = {"save_panel": files["output"].with_name("p.png"), "save_chain": files["output"].with_name("c.png")}
        animate_file(checkpoint, **files, **names)
    assert np.array_equal(*(read_image(path) for path in names.values()))
    assert "absolute instead of relative" in caplog.text
    with pytest.raises(DataError, match="leave out fps"):
        animate_file(checkpoint, **files, overwrite=True, fps=25)
    assert read_image(files["output"]).shape == (64, 32, 3)


def test_nothing_is_left_of_a_failure(checkpoint: Path, files: dict[str, Path]) -> None:
    def interrupted(frames: Any, total: int, description: str) -> Any:
        yield next(iter(frames))
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        animate_file(checkpoint, **files, progress=interrupted)
    assert list(files["output"].parent.iterdir()) == []


def test_a_damaged_video_leaves_an_earlier_result_alone(checkpoint: Path, files: dict[str, Path]) -> None:
    files["output"].parent.mkdir(parents=True)
    files["output"].write_bytes(b"earlier")
    content = files["driving"].read_bytes()
    files["driving"].write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"driving\.mp4"):
        animate_file(checkpoint, **files, overwrite=True)
    assert files["output"].read_bytes() == b"earlier"


def test_inputs_are_not_overwritten(checkpoint: Path, files: dict[str, Path]) -> None:
    before = files["driving"].read_bytes()
    output = files["driving"].parent / "." / "driving.mp4"
    with pytest.raises(DataError, match="not be overwritten"):
        animate_file(checkpoint, files["source"], files["driving"], output)
    with pytest.raises(DataError, match="not be overwritten"):
        animate_file(checkpoint, **files, save_panel=files["source"])
    assert files["driving"].read_bytes() == before


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"output": "out.png"}, DataError),
        ({"output": "out"}, DataError),
        ({"save_panel": "panel.mp4"}, DataError),
        ({"save_chain": "chain.txt"}, DataError),
        ({"save_panel": "same.png", "save_chain": "same.png"}, DataError),
        ({"driving": "none.mp4"}, DataError),
        ({"driving": "none.txt"}, DataError),
        ({"source": "none.png"}, DataError),
        ({"checkpoint": "none.safetensors"}, LamiError),
        ({"audio": "source"}, ConfigError),
        ({"mode": "absolute", "best_frame": True}, ConfigError),
        ({"mode": "avd"}, ConfigError),
        ({"strength": -1.0}, ConfigError),
        ({"fps": "fast"}, ConfigError),
        ({"fps": 0}, ConfigError),
        ({"selector": "best"}, ConfigError),
        ({"selector": "fixed", "times": (0.3, 0.5)}, ConfigError),
        ({"selector": "fixed", "times": (1.5,)}, ConfigError),
        ({"times": (0.0,)}, ConfigError),
        ({"weights_vit": "none.pth"}, WeightsUnavailableError),
        ({"device": "tpu9"}, ConfigError),
    ],
)
def test_bad_input(checkpoint: Path, files: dict[str, Path], options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        animate_file(**{"checkpoint": checkpoint, **files, **options})
    assert "\n" not in str(caught.value)
    assert not files["output"].exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "driving", "sound"),
    [
        ("pairs/body_source.png", "pairs/body_driving.mp4", False),
        ("pairs/face_source.png", "pairs/face_driving.mp4", True),
        ("faces/source/s36.jpg", "faces/driving/d12.mp4", True),
    ],
)
def test_real_files(
    checkpoint: Path, shared_data: Path, tmp_path: Path, source: str, driving: str, sound: bool
) -> None:
    output = animate_file(checkpoint, shared_data / source, shared_data / driving, tmp_path / "out.mp4", size="source")
    height, width = read_image(shared_data / source).shape[:2]
    with VideoReader(output) as result, VideoReader(shared_data / driving) as original:
        assert (result.width, result.height) == (width + width % 2, height + height % 2)
        assert result.rate == original.rate
        assert result.times == original.times
        assert result.has_audio == sound
    copied = audio_packets(output)
    assert copied == audio_packets(shared_data / driving)[: len(copied)]
    assert bool(copied) == sound
