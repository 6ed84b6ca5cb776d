"""The command line from outside: help, exit codes, and what reaches the library."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import MagicMock, Mock, call, create_autospec

import pytest
import torch
import yaml

import lami
from lami.animation import PairResult, Smoothing
from lami.cli.main import COMMANDS, main
from lami.configs import load_config
from lami.configs.schema import DataConfig
from lami.demo import WEIGHTS
from lami.errors import LamiError
from lami.evaluation import Report
from lami.web.limits import Limits


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    logger = logging.getLogger("lami")
    before = logger.handlers, logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate = before[0], before[1]
    logger.setLevel(before[2])


@pytest.fixture
def callee(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Mock]:
    """Puts a mock of the same signature in the place of a library function."""

    def install(module: str, function: str, raises: BaseException | None = None) -> Mock:
        mock: Mock = create_autospec(getattr(importlib.import_module(module), function), side_effect=raises)
        monkeypatch.setattr(f"{module}.{function}", mock)
        return mock

    return install


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_help_names_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    with_flag = capsys.readouterr().out
    main([])
    assert capsys.readouterr().out == with_flag
    for command, purpose in COMMANDS.items():
        assert command in with_flag
        assert purpose in with_flag


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"lami {lami.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_is_light(arguments: list[str]) -> None:
    answer = python("-X", "importtime", "-m", "lami", *arguments)
    assert answer.returncode == 0
    assert answer.stdout.startswith(f"usage: lami {'' if arguments == ['--help'] else arguments[0]}")
    imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert "lami.cli.main" in imported
    assert not imported & {"torch", "numpy", "timm", "cv2", "av", "gradio"}


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["trian"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "lami: error: unknown command trian, did you mean train?\n"


def test_unknown_option_names_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "taichi", "--resum"])
    assert stop.value.code == 2
    assert "--resume" in capsys.readouterr().err


def test_unknown_key_names_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "taichi", "--training.learnin-rate", "1"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "did you mean training.learning_rate?" in error
    assert error.count("\n") == 1


def test_errors_of_the_library_are_one_line(
    callee: Callable[..., Mock], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    callee("lami.convert", "convert_tpsmm", raises=LamiError("the sentence"))
    with pytest.raises(SystemExit) as stop:
        main(["convert", "a", "b"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "lami: error: the sentence\n"


def test_faults_of_the_library_keep_their_traceback(callee: Callable[..., Mock]) -> None:
    callee("lami.convert", "convert_tpsmm", raises=RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        main(["convert", "a", "b"])


def test_interrupt(callee: Callable[..., Mock], capsys: pytest.CaptureFixture[str]) -> None:
    callee("lami.convert", "convert_tpsmm", raises=KeyboardInterrupt())
    with pytest.raises(SystemExit) as stop:
        main(["convert", "a", "b"])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "lami: interrupted\n"


def test_train(callee: Callable[..., Mock]) -> None:
    function = callee("lami.training", "train")
    main(["train", "taichi", "--training.learning-rate", "1e-3", "--interpolation.times", "0.2", "0.4", "--resume"])
    expected = load_config("taichi", {"training.learning_rate": 1e-3, "interpolation.times": [0.2, 0.4]})
    function.assert_called_once_with(expected, resume=True)


def test_train_prints_the_configuration(callee: Callable[..., Mock], capsys: pytest.CaptureFixture[str]) -> None:
    function = callee("lami.training", "train")
    main(["train", "nemo", "--training.seed=5", "--print-config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed == load_config("nemo", {"training.seed": 5}).model_dump(mode="json")
    function.assert_not_called()


def test_train_avd(callee: Callable[..., Mock]) -> None:
    function = callee("lami.training", "train_avd")
    main(["train-avd", "--checkpoint", "a.safetensors", "--data", "vox", "-o", "b", "--avd-training.epochs", "2"])
    expected = load_config("vox", {"avd_training.epochs": 2})
    function.assert_called_once_with(Path("a.safetensors"), expected, Path("b"), False)


def test_reconstruct_of_a_configuration(callee: Callable[..., Mock]) -> None:
    function = callee("lami.evaluation", "reconstruct")
    function.return_value = Report(())
    main(["reconstruct", "--checkpoint", "a", "--config", "actions", "-o", "b", "--limit", "3"])
    expected = load_config("actions")
    unset = dict.fromkeys(("times", "selector", "weights_vit", "fusion"))
    options = {"limit": 3, "device": "auto", "precision": "fp32", "batch_size": 8, **unset}
    function.assert_called_once_with(Path("a"), expected, Path("b"), **options)


def test_reconstruct_refuses_what_it_would_ignore(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["reconstruct", "--checkpoint", "a", "--config", "actions", "-o", "b", "--vit.weights", "random"])
    assert stop.value.code == 2
    assert "leave out --vit.weights" in capsys.readouterr().err


def test_reconstruct_of_a_folder(callee: Callable[..., Mock]) -> None:
    function = callee("lami.evaluation", "reconstruct")
    function.return_value = Report(())
    main(["reconstruct", "--checkpoint", "a", "--data", "clips", "-o", "b", "--data.frame-shape", "64"])
    data = function.call_args.args[1].data
    assert (data.root, data.frame_shape, data.synthetic) == ("clips", (64, 64), None)


def test_reconstruct_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["reconstruct", "--checkpoint", "a", "-o", "b"])
    assert stop.value.code == 2
    assert "--config CONFIG or --data DIR" in capsys.readouterr().err


def test_evaluate(callee: Callable[..., Mock]) -> None:
    function = callee("lami.evaluation", "evaluate")
    function.return_value = Mock(failed={}, clips=())
    main(["evaluate", "--checkpoint", "a", "--data", "clips", "-o", "b", "--keypoints", "dlib", "--enlarge", "4"])
    data = function.call_args.args[0]
    assert isinstance(data, DataConfig)  # the folder alone: the checkpoint decides about size and splines
    assert (data.root, data.synthetic) == ("clips", None)
    assert function.call_args.args[1] == Path("b")
    chosen = {name: value for name, value in function.call_args.kwargs.items() if value is not None}
    assert chosen == {
        "checkpoint": Path("a"),
        "keypoints": "dlib",
        "enlarge": 4,
        "reference_protocol": False,
        "batch_size": 8,
        "device": "auto",
        "precision": "fp32",
        "overwrite": True,
    }
    main(["evaluate", "--generated", "made", "--config", "vox", "-o", "b", "--model.image-size", "64"])
    assert function.call_args.kwargs["generated"] == Path("made")
    assert function.call_args.args[0].model.image_size == (64, 64)
    main(["evaluate", "--generated", "made", "--data", "clips", "-o", "b", "--model.image-size", "64"])
    assert function.call_args.args[0].model.image_size == (64, 64)
    main(["evaluate", "--checkpoint", "a", "--config", "taichi", "--data", "clips", "-o", "b"])
    config = function.call_args.args[0]
    assert (config.data.root, config.model.image_size) == ("clips", (256, 256))


def test_evaluate_without_a_folder(callee: Callable[..., Mock], tmp_path: Path) -> None:
    """Beside what is evaluated, one for each pair of it and of test videos; beside a link, not what it leads to."""
    function = callee("lami.evaluation", "evaluate")
    function.return_value = Mock(failed={}, clips=())
    (tmp_path / "made.2").mkdir()
    run = str(tmp_path / "run" / "model.safetensors")
    blob, link = tmp_path / "blobs" / "5ac3", tmp_path / "snapshot" / "model.safetensors"
    for path in (blob, link):
        path.parent.mkdir()
    blob.touch()
    link.symlink_to(blob)
    for arguments, place in (
        (["--checkpoint", run, "--data", "my/videos"], "run/model-on-videos"),
        (["--checkpoint", run, "--config", "taichi"], "run/model-on-taichi-png"),
        (["--checkpoint", run, "--config", "demo"], "run/model-on-figures"),
        (["--checkpoint", str(link), "--data", "my/videos"], "snapshot/model-on-videos"),
        (["--generated", str(tmp_path / "made.2"), "--data", "my/videos"], "made.2-on-videos"),
        (["--generated", "/", "--data", "/"], "/-on-"),
    ):
        main(["evaluate", *arguments])
        assert function.call_args.args[1] == tmp_path / place
        assert not function.call_args.kwargs["overwrite"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--config CONFIG or --data DIR"),
        (["--data", "d"], "say what to evaluate"),
        (["--checkpoint", "c", "--data", "d", "--vit.weights", "random"], "leave out --vit.weights"),
        (["--checkpoint", "c", "--data", "d", "--model.image-size", "64"], "the image size is the checkpoint's"),
        (["--checkpoint", "no-such-file", "--data", "d"], "no weight file at no-such-file"),
    ],
)
def test_evaluate_of_what_cannot_work(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "-o", str(tmp_path / "out"), *arguments])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_evaluate_of_nothing_without_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--data", "d"])
    assert stop.value.code == 2
    assert "say what to evaluate" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [b"model: [\x00", b"\xff\xfe", b"model: {? [a]: 1}", b"data: 2020-13-45", b"- 1", b"model: {image_size: x}"],
)
def test_evaluate_with_a_damaged_configuration(text: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text)
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--checkpoint", "c", "--config", str(path), "-o", str(tmp_path / "out")])
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert str(path) in line


def test_ablate(callee: Callable[..., Mock]) -> None:
    function = callee("lami.ablation", "ablate")
    main(["ablate", "taichi", "-o", "b", "--rows", "tpsmm", "full", "--seeds", "1", "2", "--training.epochs", "3"])
    assert function.call_args.args[0] == "taichi"
    assert set(function.call_args.args[1].rows) == {"tpsmm", "model1", "model2", "full", "v2"}
    chosen = function.call_args.kwargs
    assert (chosen["rows"], chosen["seeds"], chosen["overrides"]) == (("tpsmm", "full"), (1, 2), {"training.epochs": 3})


def test_animate(callee: Callable[..., Mock]) -> None:
    function = callee("lami.animation", "animate_file")
    required = ["--checkpoint", "c", "--source", "s.png", "--driving", "d.mp4", "-o", "out.mp4"]
    main(["animate", *required])
    chosen = ["--times", "0.3", "0.5", "--selector", "fixed", "--granularity", "clip", "--best-frame"]
    more = ["--size", "source-detail", "--batch-size", "2", "--weights-vit", "random", "--save-panel", "panel.png"]
    more += ["--fusion", "occlusion", "--precision", "fp32", "--strength", "1.5", "--smooth", "--label"]
    more += ["--save-chain", "chain.mp4", "--fps", "30000/1001", "--overwrite"]
    more += ["--crop", "0,0,20,30", "--crop-driving", "keypoints"]
    main(["animate", *required, "--mode", "absolute", "--audio", "none", "--device", "cpu", *chosen, *more])
    paths = {"checkpoint": Path("c"), "source": Path("s.png"), "driving": Path("d.mp4"), "output": Path("out.mp4")}
    defaults = {
        "mode": "relative",
        "strength": 1.0,
        "smoothing": None,
        "times": None,
        "selector": None,
        "granularity": "frame",
        "best_frame": False,
        "audio": "driving",
        "fps": "keep",
        "size": "model",
        "crop": "none",
        "crop_driving": "none",
        "label": False,
        "batch_size": 8,
        "device": "auto",
        "precision": "auto",
        "weights_vit": None,
        "fusion": None,
        "save_panel": None,
        "save_chain": None,
        "overwrite": False,
    }
    changed = {
        "mode": "absolute",
        "strength": 1.5,
        "smoothing": Smoothing(),
        "times": (0.3, 0.5),
        "selector": "fixed",
        "granularity": "clip",
        "best_frame": True,
        "audio": "none",
        "fps": "30000/1001",
        "size": "source-detail",
        "crop": "0,0,20,30",
        "crop_driving": "keypoints",
        "label": True,
        "batch_size": 2,
        "device": "cpu",
        "precision": "fp32",
        "weights_vit": "random",
        "fusion": "occlusion",
        "save_panel": Path("panel.png"),
        "save_chain": Path("chain.mp4"),
        "overwrite": True,
    }
    assert function.call_args_list == [call(**paths, **defaults), call(**paths, **changed)]


def test_animate_live(callee: Callable[..., Mock], capsys: pytest.CaptureFixture[str]) -> None:
    camera, function = callee("lami.data", "Webcam"), callee("lami.animation", "animate_live")
    required = ["--checkpoint", "c", "--source", "s.png", "--driving", "webcam:2", "-o", "out.mp4"]
    main(["animate", *required, "--seconds", "3", "--strength", "2"])
    camera.assert_called_once_with(2)
    function.assert_called_once_with(
        camera=camera.return_value,
        checkpoint=Path("c"),
        source=Path("s.png"),
        output=Path("out.mp4"),
        seconds=3.0,
        show=False,
        mode="relative",
        strength=2.0,
        smoothing=None,
        times=None,
        selector=None,
        granularity="frame",
        size="model",
        crop="none",
        crop_driving="none",
        device="auto",
        precision="auto",
        weights_vit=None,
        fusion=None,
        label=False,
        overwrite=False,
    )
    for driving, option in (("webcam", "--best-frame"), ("webcam", "--fps=5"), ("a.mp4", "--show")):
        with pytest.raises(SystemExit) as stop:
            main(["animate", "--checkpoint", "c", "--source", "s", "--driving", driving, "-o", "out.mp4", option])
        assert stop.value.code == 2
        assert f"leave out {option.partition('=')[0]}" in capsys.readouterr().err


def test_animate_pairs(callee: Callable[..., Mock]) -> None:
    function = callee("lami.animation", "animate_pairs")
    function.return_value = ()
    main(["animate", "--checkpoint", "m", "--pairs", "p.csv", "-o", "out", "--mode", "absolute", "--batch-size", "2"])
    function.assert_called_once_with(
        checkpoint=Path("m"),
        pairs=Path("p.csv"),
        output=Path("out"),
        mode="absolute",
        strength=1.0,
        smoothing=None,
        times=None,
        selector=None,
        granularity="frame",
        best_frame=False,
        audio="driving",
        fps="keep",
        size="model",
        crop="none",
        crop_driving="none",
        label=False,
        batch_size=2,
        device="auto",
        precision="auto",
        weights_vit=None,
        fusion=None,
    )


def test_some_of_many_failed(
    callee: Callable[..., Mock], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the processes of torchrun only the first one says so, and fails."""
    function = callee("lami.animation", "animate_pairs")
    function.return_value = (
        PairResult("a", "b", "a-b.mp4", "failed", 0, None, "the reason"),
        PairResult("c", "b", "c-b.mp4", "made", 0, 3, None),
    )
    with pytest.raises(SystemExit) as stop:
        main(["animate", "--checkpoint", "m", "--pairs", "p.csv", "-o", "out"])
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        "lami: error: 1 of 2 failed, the first is a-b.mp4 (the reason); out/report.json tells of all, and the same "
        "command tries them again\n"
    )
    monkeypatch.setenv("RANK", "1")
    main(["animate", "--checkpoint", "m", "--pairs", "p.csv", "-o", "out"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("option", ["--save-panel", "--save-chain"])
def test_one_picture_cannot_show_several_pairs(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["animate", "--checkpoint", "m", "--pairs", "p.csv", "-o", "out", option, "p.png"])
    assert stop.value.code == 2
    assert f"leave out {option}" in capsys.readouterr().err


@pytest.mark.parametrize("given", [[], ["--source", "a"], ["--pairs", "p", "--driving", "b"]])
def test_animate_wants_files_or_pairs(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["animate", "--checkpoint", "m", "-o", "out.mp4", *given])
    assert stop.value.code == 2
    assert "or --pairs CSV" in capsys.readouterr().err


def test_convert(callee: Callable[..., Mock]) -> None:
    function = callee("lami.convert", "convert_tpsmm")
    main(["convert", "vox.pth.tar", "vox.safetensors", "--image-size", "384"])
    function.assert_called_once_with(Path("vox.pth.tar"), Path("vox.safetensors"), 384, None, overwrite=False)


def test_convert_anew(callee: Callable[..., Mock]) -> None:
    function = callee("lami.convert", "copy_weights")
    main(["convert", "--half", "--overwrite", "a.safetensors", "b.safetensors"])
    function.assert_called_once_with(Path("a.safetensors"), Path("b.safetensors"), torch.float16, overwrite=True)


def test_demo(callee: Callable[..., Mock]) -> None:
    function = callee("lami.demo", "run_demo")
    main(["demo", "--output", "here"])
    function.assert_called_once_with(Path("here"), overwrite=False)


@pytest.mark.parametrize(("rank", "level"), [("0", logging.INFO), ("1", logging.WARNING)])
def test_only_the_first_process_reports(
    callee: Callable[..., Mock], monkeypatch: pytest.MonkeyPatch, rank: str, level: int
) -> None:
    callee("lami.convert", "convert_tpsmm")
    monkeypatch.setenv("RANK", rank)
    main(["convert", "a", "b"])
    assert logging.getLogger("lami.anything").getEffectiveLevel() == level


def test_web(callee: Callable[..., Mock], capsys: pytest.CaptureFixture[str]) -> None:
    load = callee("lami.animation.loading", "load_with_options")
    running, serve = callee("lami.web.server", "running"), callee("lami.web.server", "serve")
    running.return_value = MagicMock()
    running.return_value.__enter__.return_value = "http://127.0.0.1:7860/"
    main(["web"])
    load.assert_called_once_with(WEIGHTS, "auto", None, None, None, precision="auto")
    running.assert_called_once_with(load.return_value, Limits(), "127.0.0.1", None, "auto", True)
    serve.assert_called_once_with("http://127.0.0.1:7860/", "127.0.0.1")
    main(["web", "--checkpoint", "a", "--host", "0.0.0.0", "--port", "80", "--precision", "fp32", "--max-waiting", "2"])
    running.assert_called_with(load.return_value, Limits(waiting=2), "0.0.0.0", 80, "fp32", False)
    with pytest.raises(SystemExit) as stop:
        main(["web", "--max-seconds", "0"])
    assert stop.value.code == 2
    assert "the limit of seconds must be a number above 0" in capsys.readouterr().err
