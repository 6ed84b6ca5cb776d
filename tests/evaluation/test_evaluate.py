from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import small_model

from lami.checkpoint import save
from lami.configs.schema import Config
from lami.data import find_clips, read_image, write_image
from lami.errors import ConfigError, DataError
from lami.evaluation import evaluate, reconstruct
from lami.evaluation.estimators import Frame, Keypoints

FRAMES = 5
SIZE = 64


class Brightness:
    """Finds the brightest pixel of each colour; in frames of odd numbers only where `odd`."""

    name = "brightness"
    version = "1"

    def __init__(self, odd: bool = True) -> None:
        self.odd = odd

    def keypoints(self, frame: Frame) -> Keypoints | None:
        if frame.number % 2 and not self.odd:
            return None
        flat = [np.unravel_index(frame.image[..., c].argmax(), frame.image.shape[:2]) for c in range(3)]
        return Keypoints(np.array([(x, y) for y, x in flat], float), np.ones(3, bool))

    def embedding(self, frame: Frame) -> np.ndarray | None:
        return None if frame.number == 0 else frame.image.mean(axis=(0, 1)).astype(float)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Two test clips as folders of frames."""
    rng = np.random.default_rng(0)
    for name in ("a", "b.c"):
        for number in range(FRAMES):
            image = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            write_image(tmp_path / "data" / "test" / name / f"{number}.png", image)
    return tmp_path / "data"


@pytest.fixture
def estimators(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    made: dict[str, Any] = {"keypoints": Brightness(), "identity": Brightness()}
    monkeypatch.setattr("lami.evaluation.run.make_keypoint_estimator", lambda *_, **__: made["keypoints"])
    monkeypatch.setattr("lami.evaluation.run.make_identity_estimator", lambda *_, **__: made["identity"])
    return made


def config_of(folder: Path, **model: Any) -> Config:
    return Config.model_validate({"data": {"root": str(folder)}, "model": {"image_size": SIZE, **model}})


def strips(config: Config, folder: Path, change: Any = lambda images: images) -> Path:
    """Generated clips as strips: the real ones, changed."""
    for source in find_clips(config.data, (SIZE, SIZE)).test:
        clip = source.open()
        images = [change(image) for image in clip.frames(range(len(clip)))]
        write_image(folder / f"{source.name.partition('.')[0]}.png", np.concatenate(images, axis=1))
    return folder


def test_equal_videos_have_no_errors(videos: Path, tmp_path: Path, estimators: dict[str, Any]) -> None:
    config = config_of(videos)
    generated = strips(config, tmp_path / "made")
    result = evaluate(config, tmp_path / "out", generated=generated, keypoints="x", identity="y", device="cpu")
    means = result.means
    assert (means.frames, means.l1, means.psnr, means.akd, means.mkr, means.aed) == (2 * FRAMES, 0, 100, 0, 0, 0)
    assert means.ssim == pytest.approx(1)
    assert means.without_identity == pytest.approx(1 / FRAMES)


def test_errors_are_those_of_the_definition(
    videos: Path, tmp_path: Path, estimators: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = config_of(videos), tmp_path / "out"
    estimators["keypoints"] = Brightness(odd=False)
    generated = strips(config, tmp_path / "made", lambda image: image[:, ::-1] // 2)
    result = evaluate(config, out, generated=generated, keypoints="x", identity="y", device="cpu")
    rows = list(csv.DictReader((out / "frames.csv").open()))
    assert [(row["clip"], row["frame"]) for row in rows] == [(c, str(f)) for c in ("a", "b.c") for f in range(FRAMES)]
    expected = []
    for source in find_clips(config.data, (SIZE, SIZE)).test:
        for number, image in enumerate(source.open().frames(range(FRAMES))):
            made = image[:, ::-1] // 2
            l1 = np.abs(image / 255 - made / 255).mean()
            identity = np.linalg.norm(image.mean(axis=(0, 1)) - made.mean(axis=(0, 1)))
            expected.append((l1, identity if number else None, 0 if number % 2 else 3))
    assert [float(row["l1"]) for row in rows] == pytest.approx([l1 for l1, _, _ in expected], abs=1e-6)
    assert [float(row["identity"]) if row["identity"] else None for row in rows] == pytest.approx(
        [identity for _, identity, _ in expected]
    )
    assert [int(row["points"]) for row in rows] == [points for _, _, points in expected]
    assert float(rows[0]["displacement"]) == 0
    report = json.loads((out / "evaluation.json").read_text())
    assert report["means"]["l1"] == pytest.approx(np.mean([l1 for l1, _, _ in expected]), abs=1e-6)
    assert report["means"]["real_without_keypoints"] == pytest.approx(0.4)
    assert report["means"]["lpips"] is None
    assert report["measures"]["keypoints"] == {"name": "brightness", "version": "1"}
    table = (out / "evaluation.md").read_text()
    assert table.strip() == capsys.readouterr().out.strip()
    assert "| mean over all frames | 10 |" in table
    assert "40.0% of the real frames" in table
    assert result.means.aed == pytest.approx(np.mean([i for _, i, _ in expected if i is not None]))


def test_of_a_checkpoint(videos: Path, tmp_path: Path, estimators: dict[str, Any]) -> None:
    """L1 is that of `reconstruct`; the frames that are compared are kept without loss."""
    path, config, out = tmp_path / "small.safetensors", config_of(videos), tmp_path / "out"
    save(small_model(background=False, selector="fixed"), path)
    result = evaluate(config, out, checkpoint=path, keypoints="x", device="cpu")
    assert result.means.l1 == pytest.approx(reconstruct(path, config, device="cpu").l1, abs=1e-7)
    strip = read_image(out / "png" / "a.png").astype(float)
    real = np.concatenate([read_image(videos / "test" / "a" / f"{n}.png") for n in range(FRAMES)], axis=1)
    assert np.mean([frame.l1 for frame in result.clips[0].frames]) == pytest.approx(
        np.abs(strip - real).mean() / 255, abs=1e-6
    )
    truncated = evaluate(config, tmp_path / "official", checkpoint=path, reference_protocol=True, device="cpu")
    levels = strip - read_image(tmp_path / "official" / "png" / "a.png")
    assert set(np.unique(levels)) == {0, 1}
    assert truncated.means.l1 == result.means.l1


def test_strips_may_be_longer_than_images_of_others(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", SIZE * SIZE)  # Pillow refuses twice as many
    path = tmp_path / "small.safetensors"
    save(small_model(background=False, selector="fixed"), path)
    result = evaluate(config_of(videos), tmp_path / "out", checkpoint=path, limit=1, device="cpu")
    assert (result.means.frames, result.failed) == (FRAMES, {})


def test_weights_of_one_view_serve_two(videos: Path, tmp_path: Path) -> None:
    """V1 weights with the fusion of V2, against a model that is configured so."""
    path, config = tmp_path / "one.safetensors", config_of(videos)
    model = small_model(background=False, selector="fixed")
    save(model, path)
    scores = {
        fusion: evaluate(config, tmp_path / fusion, checkpoint=path, fusion=fusion, limit=1, device="cpu").means.l1
        for fusion in ("none", "occlusion")
    }
    model.interpolation = model.interpolation.model_copy(update={"fusion": "occlusion"})
    save(model, tmp_path / "two.safetensors")
    two = reconstruct(tmp_path / "two.safetensors", config, limit=1, device="cpu")
    assert scores["occlusion"] == pytest.approx(two.l1, abs=1e-7)
    assert abs(scores["occlusion"] - scores["none"]) > 1e-4


def test_what_is_done_is_not_done_again(videos: Path, tmp_path: Path, estimators: dict[str, Any]) -> None:
    config, out = config_of(videos), tmp_path / "out"
    generated = strips(config, tmp_path / "made")
    first = evaluate(config, out, generated=generated, keypoints="x", device="cpu")
    estimators["keypoints"].keypoints = lambda frame: pytest.fail("looked again")
    assert evaluate(config, out, generated=generated, keypoints="x", device="cpu").table() == first.table()
    with pytest.raises(ConfigError, match="limit"):
        evaluate(config, out, generated=generated, limit=0, device="cpu")
    with pytest.raises(DataError, match="no folder"):
        evaluate(config, out, generated=tmp_path / "gone", device="cpu")
    assert (out / "evaluation.json").is_file()  # a mistake costs nothing
    (videos / "test" / "a" / "0.png").unlink()
    del estimators["keypoints"].keypoints
    changed = evaluate(config, out, generated=generated, keypoints="x", device="cpu")
    assert "5 generated" in changed.failed["a"]
    assert changed.means.frames == FRAMES


def test_bad_input(videos: Path, tmp_path: Path, estimators: dict[str, Any]) -> None:
    config, out = config_of(videos), tmp_path / "out"
    with pytest.raises(ConfigError, match="what to evaluate"):
        evaluate(config, out)
    generated = strips(config, tmp_path / "made")
    (generated / "a.png").unlink()
    with pytest.raises(DataError, match="nothing for 1 of 2 test videos, the first is a"):
        evaluate(config, out, generated=generated, device="cpu")
    generated = strips(config, tmp_path / "made")
    with pytest.raises(ConfigError, match="limit must be 1 or more, got -1"):
        evaluate(config, out, generated=generated, limit=-1, device="cpu")
    with pytest.raises(ConfigError, match="belong to a checkpoint"):
        evaluate(config, out, generated=generated, selector="fixed", device="cpu")
    write_image(generated / "a.v2.png", np.zeros((SIZE, SIZE * FRAMES, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.png and a\.v2\.png of .* are the same up to the first dot"):
        evaluate(config, out, generated=generated, device="cpu")
    (generated / "a.v2.png").unlink()
    estimators["keypoints"].keypoints = lambda frame: None
    with pytest.raises(DataError, match="brightness finds no keypoints in any of 10 real frames"):
        evaluate(config, out, generated=generated, keypoints="x", device="cpu")
    train_only = tmp_path / "other"
    (train_only / "train" / "clip").mkdir(parents=True)
    write_image(train_only / "train" / "clip" / "0.png", np.zeros((SIZE, SIZE, 3), np.uint8))
    with pytest.raises(DataError, match="no test"):
        evaluate(config_of(train_only), out, generated=generated, device="cpu")


def test_a_checkpoint_of_another_model(videos: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    save(small_model(background=False), path)
    with pytest.raises(ConfigError, match="image_size"):
        evaluate(config_of(videos, image_size=128), tmp_path / "out", checkpoint=path, device="cpu")
    with pytest.raises(ConfigError, match="num_splines"):
        evaluate(config_of(videos, num_splines=7), tmp_path / "out", checkpoint=path, device="cpu")


def test_a_video_of_one_frame(tmp_path: Path) -> None:
    write_image(tmp_path / "data" / "test" / "one" / "0.png", np.full((SIZE, SIZE, 3), 90, np.uint8))
    config = config_of(tmp_path / "data")
    result = evaluate(config, tmp_path / "out", generated=strips(config, tmp_path / "made"), device="cpu")
    assert result.means.frames == 1
    assert result.means.l1 == 0
