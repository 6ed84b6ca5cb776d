from __future__ import annotations

import csv
import json
from fractions import Fraction
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
from small import small_model

from lami.checkpoint import save
from lami.cli.main import main
from lami.configs import Config, DataConfig, load_config
from lami.configs.schema import SyntheticConfig
from lami.data import VideoWriter, find_clips, read_image, write_image
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
    return Config.model_validate(
        {"data": {"root": str(folder)}, "model": {"image_size": SIZE, "num_splines": 4, **model}}
    )


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
    assert means.real_without_identity == pytest.approx(1 / FRAMES)
    assert means.generated_without_identity == 0


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
    assert report["data"] == str(videos)
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
    report = json.loads((out / "evaluation.json").read_text())
    for means in (report["means"], *report["clips"]):
        assert (means["real_without_keypoints"], means["real_without_identity"]) == (0, None)  # nobody was looked for
    strip = read_image(out / "png" / "a.png").astype(float)
    real = np.concatenate([read_image(videos / "test" / "a" / f"{n}.png") for n in range(FRAMES)], axis=1)
    rounded = np.abs(strip - real).reshape(SIZE, FRAMES, SIZE, 3).mean(axis=(0, 2, 3)) / 255
    assert [frame.l1 for frame in result.clips[0].frames] == pytest.approx(rounded, abs=1 / 255)
    rows = list(csv.DictReader((out / "frames.csv").open()))
    mean = np.mean([float(row["l1"]) for row in rows])
    assert mean == pytest.approx(result.means.l1, abs=1e-12)  # the same quantity, not that of the 8-bit images
    assert mean == pytest.approx(json.loads((out / "evaluation.json").read_text())["means"]["l1"], abs=1e-12)
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
    (videos / "test" / "a" / "0.png").write_bytes(b"no image")
    del estimators["keypoints"].keypoints
    changed = evaluate(config, out, generated=generated, keypoints="x", device="cpu")
    assert "0.png" in changed.failed["a"]
    assert changed.means.frames == FRAMES


def test_a_mistake_does_not_cost_an_earlier_result(videos: Path, tmp_path: Path, estimators: dict[str, Any]) -> None:
    config, out = config_of(videos), tmp_path / "out"
    generated = strips(config, tmp_path / "made")
    evaluate(config, out, generated=generated, keypoints="x", device="cpu")
    before = files(out)
    assert {"evaluation.json", "evaluation.md", "frames.csv"} < before.keys()
    train_only = tmp_path / "other"
    write_image(train_only / "train" / "clip" / "0.png", np.zeros((SIZE, SIZE, 3), np.uint8))
    for folder, options, message in (
        (videos, {"limit": 0}, "limit"),
        (videos, {"generated": tmp_path / "gone"}, "no folder"),
        (train_only, {}, "no test clips"),
    ):
        with pytest.raises((ConfigError, DataError), match=message):
            evaluate(config_of(folder), out, device="cpu", **{"generated": generated, **options})
        assert files(out) == before
    # Found only at the end of the work.
    estimators["keypoints"].keypoints = lambda frame: None
    estimators["keypoints"].name = "blind"
    with pytest.raises(DataError, match="blind finds no keypoints in any of 10 real frames"):
        evaluate(config, out, generated=generated, keypoints="x", device="cpu")
    assert {name: files(out)[name] for name in ("evaluation.json", "evaluation.md", "frames.csv")} == {
        name: before[name] for name in ("evaluation.json", "evaluation.md", "frames.csv")
    }


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_of_two_evaluations_are_never_together(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever moment a run is interrupted at, the earlier ones are there again."""
    config, out = config_of(videos), tmp_path / "out"
    one, other = strips(config, tmp_path / "one"), strips(config, tmp_path / "other", lambda image: image // 2)
    evaluate(config, tmp_path / "new", generated=other, device="cpu")
    new, replace, moved = files(tmp_path / "new"), Path.replace, []
    evaluate(config, out, generated=one, device="cpu")
    old = files(out)

    def cut_off(path: Path, target: Path) -> Path:
        nonlocal last
        moved.append(path.name)
        if target == last:
            last = None
            raise KeyboardInterrupt
        return replace(path, target)

    last: Path | None = None
    monkeypatch.setattr(Path, "replace", cut_off)
    for name in ("frames.csv", "evaluation.md", "evaluation.json"):
        last = out / name
        with pytest.raises(KeyboardInterrupt):
            evaluate(config, out, generated=other, device="cpu")
        assert results(files(out)) == results(old)
        assert not list(out.glob(".*"))
    evaluate(config, out, generated=other, device="cpu")
    assert results(files(out)) == results(new)
    assert not list(out.glob(".*"))
    # The same once more leaves no moment without it.
    assert "evaluation.json" in moved
    moved.clear()
    evaluate(config, out, generated=other, device="cpu")
    assert "evaluation.json" not in moved


def results(written: dict[str, bytes]) -> dict[str, bytes]:
    return {name: written[name] for name in ("evaluation.json", "evaluation.md", "frames.csv") if name in written}


@pytest.mark.parametrize("name", ["frames.csv", "evaluation.md"])
def test_files_that_cannot_take_their_place_cost_nothing(videos: Path, tmp_path: Path, name: str) -> None:
    config, out = config_of(videos), tmp_path / "out"
    one, other = strips(config, tmp_path / "one"), strips(config, tmp_path / "other", lambda image: image // 2)
    evaluate(config, out, generated=one, device="cpu")
    (out / name).unlink()
    (out / name / "mine").mkdir(parents=True)
    before = results(files(out))
    with pytest.raises(DataError, match="out cannot be written"):
        evaluate(config, out, generated=other, device="cpu")
    assert results(files(out)) == before
    assert not list(out.glob(".*"))
    assert (out / name / "mine").is_dir()


def test_without_test_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the real frames would tell the size."""
    write_image(tmp_path / "data" / "train" / "clip" / "0.png", np.zeros((SIZE, SIZE, 3), np.uint8))
    write_image(tmp_path / "made" / "clip" / "0.png", np.zeros((SIZE, SIZE, 3), np.uint8))
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--generated", str(tmp_path / "made"), "--data", str(tmp_path / "data"), "--device", "cpu"])
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "no test clips" in line
    assert not (tmp_path / "made-on-data").exists()


def test_the_default_folder_is_for_one_evaluation(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, others, checkpoint = tmp_path / "run", tmp_path / "others" / "data", tmp_path / "run" / "model.safetensors"
    save(small_model(background=False, selector="fixed"), checkpoint)
    generated = tmp_path / "run" / "model"
    generated.mkdir()
    copytree(videos, others)
    command = ["evaluate", "--data", str(videos), "--device", "cpu"]
    of_model = ["--checkpoint", str(checkpoint)]
    main([*command, *of_model])
    before = files(run)
    main([*command, *of_model])
    assert files(run) == before
    capsys.readouterr()
    for arguments, what in (
        (["--generated", str(generated)], "of: model.safetensors instead of model)"),
        ([*of_model, "--data", str(others)], f'data: "{videos}" instead of "{others}"'),
        ([*of_model, "--fusion", "mean"], 'fusion: default instead of "mean"'),
        ([*of_model, "--times", "0.3"], "times: default instead of [0.3]"),
        ([*of_model, "--limit", "1"], "clips: 2 instead of 1"),
        ([*of_model, "--reference-protocol"], "reference protocol: false instead of true"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*command, *arguments])
        assert stop.value.code == 2
        [line] = capsys.readouterr().err.splitlines()
        assert what in line
        assert "with -o" in line
        assert files(run) == before
    report = run / "model-on-data" / "evaluation.json"
    report.write_text("[]")
    with pytest.raises(SystemExit):
        main([*command, *of_model])
    assert "is damaged; delete it" in capsys.readouterr().err
    main([*command, *of_model, "--limit", "1", "-o", str(report.parent)])
    assert len(json.loads(report.read_text())["clips"]) == 1


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
    assert not out.exists()


def test_a_checkpoint_of_another_model(videos: Path, tmp_path: Path) -> None:
    """Also where the size and the splines of the configuration are the defaults, as in most presets."""
    path = tmp_path / "small.safetensors"
    save(small_model(background=False, selector="fixed"), path)
    data = {"data.root": str(videos), "data.synthetic": None}
    for config, key in (
        (config_of(videos, image_size=128), "image_size"),
        (config_of(videos, num_splines=7), "num_splines"),
        (config_of(videos, points_per_spline=3), "points_per_spline"),
        (load_config("taichi", data), "image_size"),
        (load_config("vox", data | {"model.image_size": SIZE}), "num_splines"),
    ):
        with pytest.raises(ConfigError, match=rf"model\.{key}"):
            evaluate(config, tmp_path / "out", checkpoint=path, device="cpu")
    assert not (tmp_path / "out").exists()
    assert evaluate(DataConfig(root=str(videos)), tmp_path / "out", checkpoint=path, device="cpu").means.frames == 10


def test_a_video_of_one_frame(tmp_path: Path) -> None:
    """Its first frame is all there is: every model would be perfect."""
    write_image(tmp_path / "data" / "test" / "one" / "0.png", np.full((SIZE, SIZE, 3), 90, np.uint8))
    config, path = config_of(tmp_path / "data"), tmp_path / "small.safetensors"
    save(small_model(background=False, selector="fixed"), path)
    generated = strips(config, tmp_path / "made")
    for run in (
        lambda out: evaluate(config, out, generated=generated, device="cpu"),
        lambda out: evaluate(config, out, checkpoint=path, device="cpu"),
        lambda out: reconstruct(path, config, out, device="cpu"),
    ):
        with pytest.raises(DataError, match=r"test/one has a single frame"):
            run(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_face_that_only_generated_frames_lack_is_a_result(
    videos: Path, tmp_path: Path, estimators: dict[str, Any]
) -> None:
    config, out = config_of(videos), tmp_path / "out"
    generated, look = strips(config, tmp_path / "made"), Brightness().embedding
    estimators["identity"].embedding = lambda frame: None if frame.generated else look(frame)
    result = evaluate(config, out, generated=generated, identity="y", device="cpu")
    assert np.isnan(result.means.aed)
    assert result.means.real_without_identity == pytest.approx(1 / FRAMES)
    assert result.means.generated_without_identity == 1
    assert "nobody found in 20.0% of the real frames, and in 100.0% of the generated ones" in result.table()
    estimators["identity"].embedding = lambda frame: look(frame) if frame.generated else None
    estimators["identity"].name = "blind"
    with pytest.raises(DataError, match="blind finds nobody in any of 10 real frames"):
        evaluate(config, out, generated=generated, identity="y", device="cpu")


def test_generated_videos_are_compared_at_the_size_of_the_real_ones(videos: Path, tmp_path: Path) -> None:
    config, data, out = config_of(videos), DataConfig(root=str(videos)), tmp_path / "out"
    generated = strips(config, tmp_path / "made", lambda image: 255 - image)
    result = evaluate(data, out, generated=generated, device="cpu")
    assert result.subject["image_size"] == (SIZE, SIZE)
    named = evaluate(config, tmp_path / "named", generated=generated, device="cpu")
    assert result.table() == named.table()
    halves = tmp_path / "halves"
    for clip in ("a", "b"):
        for number in range(FRAMES):
            write_image(halves / clip / f"{number}.png", np.zeros((SIZE // 2, SIZE // 2, 3), np.uint8))
    with pytest.raises(DataError, match=r"halves/a are 32x32 and the real ones 64x64; .*--model\.image-size"):
        evaluate(data, tmp_path / "none", generated=halves, device="cpu")
    strip = np.zeros((SIZE // 2, FRAMES * SIZE // 2, 3), np.uint8)
    for clip in ("a", "b"):
        write_image(tmp_path / "strips" / f"{clip}.png", strip)
    with pytest.raises(DataError, match=r"a\.png is 32x160 and no row of frames of 64x64; .*--model\.image-size"):
        evaluate(data, tmp_path / "none", generated=tmp_path / "strips", device="cpu")
    named = evaluate(config_of(videos, image_size=32), tmp_path / "32", generated=tmp_path / "strips", device="cpu")
    assert named.subject["image_size"] == (32, 32)
    write_image(videos / "test" / "b.c" / "0.png", np.zeros((48, SIZE, 3), np.uint8))
    with pytest.raises(DataError, match=r"frames of a are 64x64 and those of b\.c 48x64"):
        evaluate(data, tmp_path / "none", generated=generated, device="cpu")
    assert not (tmp_path / "none").exists()
    with pytest.raises(ConfigError, match=r"model\.image_size"):
        evaluate(DataConfig(synthetic=SyntheticConfig()), tmp_path / "none", generated=generated, device="cpu")


def test_each_test_video_has_one_generated_clip_of_its_length(videos: Path, tmp_path: Path) -> None:
    config, out = config_of(videos), tmp_path / "out"
    generated = strips(config, tmp_path / "made")
    assert evaluate(config, tmp_path / "one", generated=generated, limit=1, device="cpu").means.frames == FRAMES
    (generated / "b.png").rename(generated / "c.png")
    with pytest.raises(DataError, match="nothing for 1 of 2 test videos, the first is b;"):
        evaluate(config, out, generated=generated, device="cpu")
    with pytest.raises(DataError, match=r"1 clips that stand for no test video, the first is c\.png"):
        evaluate(config, out, generated=generated, limit=1, device="cpu")
    (generated / "c.png").rename(generated / "b.png")
    (videos / "test" / "a" / "0.png").unlink()
    with pytest.raises(DataError, match=r"a has 4 frames in the test set and 5 in .*made/a\.png"):
        evaluate(config, out, generated=generated, device="cpu")
    (generated / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"made/a\.png"):
        evaluate(config, out, generated=generated, device="cpu")
    assert not out.exists()


def test_compressed_generated_videos_are_noted(videos: Path, tmp_path: Path) -> None:
    config = config_of(videos)
    lossless = evaluate(config, tmp_path / "out", generated=strips(config, tmp_path / "made"), device="cpu")
    assert "compressed" not in lossless.table()
    generated = tmp_path / "videos"
    for source in find_clips(config.data, (SIZE, SIZE)).test:
        path = generated / f"{source.name.partition('.')[0]}.mp4"
        path.parent.mkdir(exist_ok=True)
        with VideoWriter(path, Fraction(25)) as writer:
            for image in source.open().frames(range(FRAMES)):
                writer.write(image)
    result = evaluate(config, tmp_path / "lossy", generated=generated, device="cpu")
    [note] = [line for line in result.table().splitlines() if "compressed" in line]
    assert "Generated frames are from .mp4 files" in note


@pytest.mark.parametrize("change", [{"l1": None}, {"psnr": [1.0]}, {"ssim": ["?"] * FRAMES}])
def test_damaged_records(videos: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    """JSON still, but not what was written."""
    config, out = config_of(videos), tmp_path / "out"
    generated = strips(config, tmp_path / "made")
    evaluate(config, out, generated=generated, device="cpu")
    record = out / "scores" / "records" / "a.json"
    content = json.loads(record.read_text())
    content["result"] = {name: value for name, value in (content["result"] | change).items() if value is not None}
    record.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"the record of a in .*scores/records is damaged, delete it"):
        evaluate(config, out, generated=generated, device="cpu")


def test_a_damaged_record_of_a_rebuilt_video(videos: Path, tmp_path: Path) -> None:
    config, out, path = config_of(videos), tmp_path / "out", tmp_path / "small.safetensors"
    save(small_model(background=False, selector="fixed"), path)
    evaluate(config, out, checkpoint=path, limit=1, device="cpu")
    record = out / "records" / "a.json"
    record.write_text(record.read_text().replace('"copy"', '"cozy"'))
    with pytest.raises(DataError, match=r"the record of a in .*out/records is damaged, delete it"):
        evaluate(config, out, checkpoint=path, limit=1, device="cpu")
