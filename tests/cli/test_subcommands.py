"""Commands that have commands of their own: `lami data`, `lami bench`, `lami weights`."""

from __future__ import annotations

import re
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest

from lami.bench.data import bench_data
from lami.cli.main import main
from lami.configs import load_config
from lami.data import write_image
from lami.weights import get_weights
from lami.weights.inventory import path_of


@pytest.mark.parametrize(
    ("command", "subcommands"),
    [("data", ("check", "pack", "verify")), ("bench", ("data",)), ("weights", ("list", "path", "get", "verify"))],
)
def test_help(command: str, subcommands: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    main([command])
    listed = capsys.readouterr().out
    assert all(f"\n  {name}" in listed for name in subcommands)
    for name in subcommands:
        with pytest.raises(SystemExit) as stop:
            main([command, name, "--help"])
        assert stop.value.code == 0
        assert f"lami {command} {name}" in capsys.readouterr().out


def test_unknown_subcommands_name_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    for command, sentence in (("pakc", "did you mean pack?"), ("zzz", "there are check, pack, verify")):
        with pytest.raises(SystemExit) as stop:
            main(["data", command])
        assert stop.value.code == 2
        assert capsys.readouterr().err == f"lami: error: unknown command data {command}, {sentence}\n"


def test_pack_and_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for clip in ("a", "b", "c"):
        strip = np.random.default_rng(ord(clip)).integers(0, 256, (8, 24, 3), np.uint8)
        write_image(tmp_path / "data" / f"{clip}.png", strip)
    (tmp_path / "data" / "d.mp4").write_bytes(b"no video")
    data, packed = str(tmp_path / "data"), str(tmp_path / "packed")
    options = ["--frame-shape", "8", "8", "--size", "16", "16", "--format", "png", "--test-fraction", "0.4"]
    main(["data", "pack", data, packed, *options, "--shard-size", "0.003", "--workers", "1"])
    printed = capsys.readouterr().out
    lines = [
        re.fullmatch(r"(\w+): \d clips(, 1 left out)?, (\d) frames, .* shards", line) for line in printed.splitlines()
    ]
    assert [line and line[1] for line in lines] == ["train", "test"]
    assert sum(int(line[3]) for line in lines if line) == 9
    assert printed.count("1 left out") == 1
    main(["data", "verify", packed])
    assert capsys.readouterr().out == f"{packed} is as it was packed\n"
    shard = next((tmp_path / "packed").glob("*/shard-00000.tar"))
    shard.write_bytes(b"x" + shard.read_bytes()[1:])
    with pytest.raises(SystemExit) as stop:
        main(["data", "verify", packed])
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    assert f"{shard}: its bytes are not those that were packed" in errors
    assert "error: 1 shards in" in errors.splitlines()[-1]


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for clip, frames in (("a#1", 3), ("a#2", 1), ("b", 2)):
        write_image(tmp_path / "train" / f"{clip}.png", np.zeros((8, 8 * frames, 3), np.uint8))
    (tmp_path / "train" / "c.mp4").write_bytes(b"no video")
    options = ["--frame-shape", "8", "8"]
    main(["data", "check", str(tmp_path), *options])
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "train: 3 clips of 2 identities, 1 left out, 6 frames (1 clips have one only and show no motion), "
        "8 x 8 (height x width)"
    )
    assert second.startswith("  c.mp4 is left out: ")
    main(["data", "check", str(tmp_path), *options, "--clips"])
    assert "  a#1.png: 3 frames of 8 x 8\n" in capsys.readouterr().out
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "d.mp4").write_bytes(b"no video")
    with pytest.raises(SystemExit) as stop:
        main(["data", "check", str(tmp_path), *options])
    assert stop.value.code == 2
    assert (
        capsys.readouterr().err.splitlines()[-1] == "lami: error: none of the 1 clips for test can be read, see above"
    )


def test_bench_data(monkeypatch: pytest.MonkeyPatch) -> None:
    function = create_autospec(bench_data)
    monkeypatch.setattr("lami.bench.data.bench_data", function)
    roots = ["--root", "a", "--root", "b"]
    main(["bench", "data", "taichi", *roots, "--workers", "0", "4", "--seconds", "3", "--training.batch-size", "2"])
    expected = load_config("taichi", {"training.batch_size": 2})
    function.assert_called_once_with(expected, (Path("a"), Path("b")), (0, 4), 3.0, Path("bench-data.json"))


def test_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    demo = path_of("demo")
    main(["weights", "list"])
    assert re.fullmatch(
        rf"demo +64 x 64, generated figures +4\.2 M parameters +8\.4 MB +{demo}\n", capsys.readouterr().out
    )
    main(["weights", "path", "demo"])
    assert capsys.readouterr().out == f"{demo}\n"
    main(["weights", "verify", "demo"])
    facts = dict(re.split(" {2,}", line) for line in capsys.readouterr().out.splitlines())
    assert facts["file"] == str(demo)
    assert facts["image size"] == "64 x 64 (height x width)"
    assert facts["thin-plate splines"] == "10 of 5 points"
    assert (facts["AVD network"], facts["background predictor"]) == ("no", "no")
    poses = r"50% below \d\.\d\d, 95% below \d\.\d\d, 99% below \d\.\d\d"
    assert re.fullmatch(poses, facts["pose distances in training"])
    main(["weights", "verify", str(demo), "--sha256", facts["sha256"]])


def test_weights_of_others(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    function = create_autospec(get_weights, return_value=Path("a.safetensors"))
    monkeypatch.setattr("lami.weights.get_weights", function)
    main(["weights", "get", "someone/dancers", "--revision", "v2", "-o", "a.safetensors", "--overwrite"])
    function.assert_called_once_with("someone/dancers", Path("a.safetensors"), "v2", overwrite=True)
    assert capsys.readouterr().out == "a.safetensors\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["path", "dmo"], "no weight file at dmo; check the path, or take a name that 'lami weights list' shows"),
        (["path", "someone/dancers"], "someone/dancers is not in the cache; 'lami weights get someone/dancers'"),
        (
            ["get", "someone/dancers"],
            "someone/dancers is not in the cache, and the hub, https://huggingface.co, is switched",
        ),
        (["verify", "demo", "--sha256", "0" * 64], "is damaged or another file"),
        (["verify", "demo", "--revision", "v2"], "leave out the revision"),
    ],
)
def test_weights_that_are_not_there(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SystemExit) as stop:
        main(["weights", *arguments])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)
