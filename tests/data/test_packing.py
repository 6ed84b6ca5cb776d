"""Packing and what it survives, with real files and processes."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lami.configs.schema import DataConfig
from lami.data import PackReport, PackSettings, find_clips, pack, read_image, write_image
from lami.data.files import claimed
from lami.data.images import decode_image
from lami.errors import ConfigError, DataError, LamiError

MakeVideo = Callable[..., Path]


def settings(**changes: object) -> PackSettings:
    values = {"size": None, "format": "png", "shard_size": 100_000_000, "frame_shape": None}
    return PackSettings(**values | changes)


def noise(number: int, size: tuple[int, int] = (16, 24)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)


def frame_folders(root: Path, clips: int = 6, frames: int = 4, size: tuple[int, int] = (16, 24)) -> Path:
    """`root/train/c<i>` and one clip in `root/test`, as png files of noise."""
    for clip in range(clips):
        for frame in range(frames):
            image = noise(10 * clip + frame, size)
            write_image(root / "train" / f"c{clip}" / f"{frame}.png", image, generated=False)
    write_image(root / "test" / "t" / "0.png", noise(1000, size), generated=False)
    return root


def pack_folder(root: Path, output: Path, workers: int = 1, **changes: object) -> PackReport:
    chosen = settings(**changes)
    return pack(DataConfig(root=str(root), frame_shape=chosen.frame_shape), output, chosen, workers)


def content(output: Path) -> dict[str, bytes]:
    """All files but the report, which has the time taken."""
    files = (path for path in output.rglob("*") if path.is_file() and path.name != "report.json")
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


def test_a_shard_is_a_plain_tar_of_frames_in_order(tmp_path: Path) -> None:
    root = frame_folders(tmp_path / "data", clips=2, frames=11)
    report = pack_folder(root, tmp_path / "packed")
    with tarfile.open(tmp_path / "packed" / "train" / "shard-00000.tar") as tar:
        assert tar.getnames() == [f"c{clip}/{frame:06d}.png" for clip in range(2) for frame in range(11)]
        copied = tar.extractfile("c1/000010.png")
        assert copied is not None
        assert copied.read() == (root / "train" / "c1" / "10.png").read_bytes()
    assert not list((tmp_path / "packed").glob(".*"))
    written = json.loads((tmp_path / "packed" / "report.json").read_text())
    assert written == json.loads(report.model_dump_json())
    train = report.sets["train"]
    assert (train.shards, train.clips, train.frames, train.left_out) == (1, 2, 22, {})
    assert train.bytes == (tmp_path / "packed" / "train" / "shard-00000.tar").stat().st_size


def test_shards_close_between_clips(tmp_path: Path) -> None:
    root = frame_folders(tmp_path / "data")
    clip = 4 * (512 + 1536)  # noise of 16x24 takes 3 blocks
    report = pack_folder(root, tmp_path / "packed", shard_size=2 * clip)
    assert report.sets["train"].shards == 3
    index = json.loads((tmp_path / "packed" / "train" / "shard-00001.json").read_text())
    assert [clip["name"] for clip in index["clips"]] == ["c2", "c3"]
    assert pack_folder(root, tmp_path / "small", shard_size=1).sets["train"].shards == 6


def test_jpg_is_encoded_well_and_never_twice(tmp_path: Path) -> None:
    y, x = np.mgrid[0:32, 0:48]
    smooth = np.stack([4 * x, 6 * y, 255 - 4 * x], -1).astype(np.uint8)
    write_image(tmp_path / "data" / "train" / "a" / "0.png", smooth)
    write_image(tmp_path / "data" / "train" / "b" / "0.jpg", smooth)
    for chosen in ("jpg", "png"):
        pack_folder(tmp_path / "data", tmp_path / chosen, format=chosen)
        with tarfile.open(tmp_path / chosen / "train" / "shard-00000.tar") as tar:
            assert tar.getnames() == [f"a/000000.{chosen}", "b/000000.jpg"]
            a, b = (tar.extractfile(member).read() for member in tar)  # type: ignore[union-attr]
        assert b == (tmp_path / "data" / "train" / "b" / "0.jpg").read_bytes()
        error = np.abs(decode_image(a).astype(int) - smooth)
        assert error.mean() < (1.5 if chosen == "jpg" else 1e-9)


def test_what_decoders_see_differently_is_encoded_anew(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "data" / "train" / "a"
    folder.mkdir(parents=True)
    rgba = np.dstack([noise(0), np.full((16, 24), 100, np.uint8)])
    Image.fromarray(rgba).save(folder / "0.png")
    Image.fromarray(noise(1)).convert("P").save(folder / "1.png", transparency=3)
    Image.fromarray(noise(2)[..., 0].astype(np.uint16) * 200).save(folder / "2.png")
    Image.fromarray(noise(3)).save(folder / "3.tif")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(4, (24, 16))).save(folder / "4.jpg", exif=exif)
    pack_folder(tmp_path / "data", tmp_path / "packed")
    clip = find_clips(DataConfig(root=str(tmp_path / "packed")), (1, 1)).train[0].open()
    for index, file in enumerate(sorted(folder.iterdir())):
        np.testing.assert_array_equal(clip.frames([index])[0], read_image(file), str(file))


def test_clips_that_cannot_be_read_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = frame_folders(tmp_path / "data", clips=3)
    damaged = root / "train" / "c1" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    (root / "train" / "c9.mp4").write_bytes(b"no video")
    with caplog.at_level(logging.WARNING, "lami"):
        report = pack_folder(root, tmp_path / "packed")
    left_out = report.sets["train"].left_out
    assert list(left_out) == ["c1", "c9.mp4"]
    assert str(damaged) in left_out["c1"]
    assert [record.args[0] for record in caplog.records if record.levelno == logging.WARNING] == ["c1", "c9.mp4"]
    clips = find_clips(DataConfig(root=str(tmp_path / "packed")), (1, 1)).train
    assert [clip.name for clip in clips] == ["c0", "c2"]
    # A rerun reports them as well.
    assert pack_folder(root, tmp_path / "packed").sets == report.sets


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "train" / "a.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match="none of the 1 clips for train"):
        pack_folder(tmp_path / "data", tmp_path / "packed")
    assert content(tmp_path / "packed") == {}


def test_reruns_skip_what_is_there_and_fill_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, output = frame_folders(tmp_path / "data"), tmp_path / "packed"
    pack_folder(root, output, shard_size=20_000)
    whole = content(output)
    assert len(whole) > 6
    written = {path: path.stat().st_mtime_ns for path in output.rglob("shard-*")}
    with monkeypatch.context() as nothing_to_do:
        nothing_to_do.delattr("lami.data.packing.encode_clips")
        pack_folder(root, output, shard_size=20_000)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("shard-*")} == written
    for missing in (["shard-00000.tar"], ["shard-00001.tar", "shard-00001.json"], ["shard-00002.json"]):
        for name in missing:
            (output / "train" / name).unlink()
        pack_folder(root, output, shard_size=20_000)
        assert content(output) == whole
    truncated = output / "train" / "shard-00001.tar"
    os.truncate(truncated, 5000)
    pack_folder(root, output, shard_size=20_000)
    assert content(output) == whole


def test_workers_change_nothing(tmp_path: Path) -> None:
    root = frame_folders(tmp_path / "data")
    (root / "train" / "c7.mp4").write_bytes(b"no video")
    pack_folder(root, tmp_path / "one", shard_size=20_000)
    pack_folder(root, tmp_path / "two", workers=2, shard_size=20_000)
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.parametrize(
    ("changes", "named"), [({"size": (8, 8)}, "size"), ({"format": "jpg"}, "format"), ({"shard_size": 9}, "shard_size")]
)
def test_other_settings_are_refused(tmp_path: Path, changes: dict[str, object], named: str) -> None:
    root = frame_folders(tmp_path / "data", clips=1)
    pack_folder(root, tmp_path / "packed")
    before = content(tmp_path / "packed")
    with pytest.raises(DataError, match=rf"shard-00000.json was packed with {named} .*another output folder"):
        pack_folder(root, tmp_path / "packed", **changes)
    assert content(tmp_path / "packed") == before
    assert (tmp_path / "packed" / "report.json").exists()


def test_changed_sources_are_refused_and_new_ones_at_the_end_added(tmp_path: Path) -> None:
    root, output = frame_folders(tmp_path / "data", clips=2), tmp_path / "packed"
    pack_folder(root, output)
    write_image(root / "train" / "c5" / "0.png", noise(5))
    assert pack_folder(root, output).sets["train"].clips == 3
    changed = root / "train" / "c1" / "0.png"
    original = changed.stat().st_mtime_ns
    os.utime(changed, ns=(0, original + 10**12))
    with pytest.raises(DataError, match="other clips: c1 has changed"):
        pack_folder(root, output)
    os.utime(changed, ns=(0, original))
    pack_folder(root, output)
    (root / "test").rename(tmp_path / "test")
    with pytest.raises(DataError, match="other clips: t has changed, moved or gone"):
        pack_folder(root, output)
    (tmp_path / "test").rename(root / "test")
    write_image(root / "train" / "c00" / "0.png", noise(5))
    with pytest.raises(DataError, match="other clips: c1 "):
        pack_folder(root, output)


def test_other_content_and_bad_settings_are_refused(tmp_path: Path) -> None:
    root = frame_folders(tmp_path / "data", clips=1)
    with pytest.raises(DataError, match="c0 is not part of a packed data set"):
        pack_folder(root, root)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is not a folder"):
        pack_folder(root, tmp_path / "file")
    for changes in ({"size": (0, 4)}, {"shard_size": 0}, {"workers": 0}):
        with pytest.raises(ConfigError, match="must be positive"):
            pack_folder(root, tmp_path / "packed", **changes)
    assert not (tmp_path / "packed").exists()


def test_a_packed_folder_can_be_packed_again(tmp_path: Path) -> None:
    pack_folder(frame_folders(tmp_path / "data", clips=2), tmp_path / "packed", shard_size=20_000)
    pack_folder(tmp_path / "packed", tmp_path / "again")
    pack_folder(tmp_path / "data", tmp_path / "at once")
    again, at_once = ((tmp_path / name / "train" / "shard-00000.tar").read_bytes() for name in ("again", "at once"))
    assert again == at_once


def test_a_full_disk_keeps_what_is_finished(tmp_path: Path) -> None:
    root, output = frame_folders(tmp_path / "data"), tmp_path / "packed"
    write_image(root / "train" / "c3" / "big.png", noise(3, (200, 200)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(DataError, match=r"cannot be written \(File too large\); 1 shards are finished and stay"):
            pack_folder(root, output, shard_size=20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert set(content(output)) == {"train/shard-00000.tar", "train/shard-00000.json"}
    with pytest.raises(DataError, match="not packed to the end"):
        find_clips(DataConfig(root=str(output)), (1, 1))
    pack_folder(root, output, shard_size=20_000)
    pack_folder(root, tmp_path / "whole", shard_size=20_000)
    assert content(output) == content(tmp_path / "whole")


def test_sigkill_and_rerun_equal_one_run(tmp_path: Path) -> None:
    _killed_and_rerun(tmp_path, workers=1)


@pytest.mark.slow
def test_sigkill_of_a_run_with_workers(tmp_path: Path) -> None:
    _killed_and_rerun(tmp_path, workers=2)


def _killed_and_rerun(tmp_path: Path, workers: int) -> None:
    root, output = frame_folders(tmp_path / "data", clips=12, frames=8, size=(128, 128)), tmp_path / "packed"
    command = [sys.executable, "-m", "lami", "data", "pack", str(root), str(output), "--format", "png"]
    command += ["--size", "256", "256", "--shard-size", "3", "--workers", str(workers)]
    with subprocess.Popen(command) as process:
        _wait(lambda: len(list(output.glob("train/shard-*.json"))) >= 1)
        children = _children(process.pid)
        process.kill()
    assert len(children) >= workers if workers > 1 else not children
    _wait(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    finished = len(list(output.glob("train/shard-*.json")))
    assert list(output.glob(".packing-*"))
    report = pack_folder(root, output, size=(256, 256), shard_size=3_000_000)
    assert 0 < finished < report.sets["train"].shards
    pack_folder(root, tmp_path / "whole", size=(256, 256), shard_size=3_000_000)
    assert content(output) == content(tmp_path / "whole")


@pytest.mark.slow
def test_a_lost_worker_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = frame_folders(tmp_path / "data", clips=2)
    monkeypatch.setattr("lami.data.encoding._begin", _die)
    with pytest.raises(LamiError, match="a process that encodes clips died"):
        pack_folder(root, tmp_path / "packed", workers=2)
    assert content(tmp_path / "packed") == {}


def _die(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _wait(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    root, output = frame_folders(tmp_path / "data"), tmp_path / "packed"
    with claimed(output), pytest.raises(DataError, match=f"another run is writing to {output}"):
        pack_folder(root, output)
    assert not list(output.iterdir())
    pack_folder(root, output)
