"""The command line from outside: help, exit codes, and what reaches the library."""

from __future__ import annotations

import logging
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import lami
from lami.cli.main import COMMANDS, main
from lami.configs import load_config
from lami.errors import LamiError

Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    logger = logging.getLogger("lami")
    before = logger.handlers, logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate = before[0], before[1]
    logger.setLevel(before[2])


@pytest.fixture
def callee(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Calls]:
    """Puts a recorder in the place of a library function."""

    def install(module: str, function: str, raises: BaseException | None = None) -> Calls:
        calls: Calls = []

        def record(*arguments: Any, **options: Any) -> None:
            calls.append((arguments, options))
            if raises is not None:
                raise raises

        stand_in = types.ModuleType(module)
        setattr(stand_in, function, record)
        monkeypatch.setitem(sys.modules, module, stand_in)
        return calls

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
    assert not imported & {"torch", "numpy", "timm", "cv2", "av"}


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
    callee: Callable[..., Calls], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    callee("lami.demo", "run_demo", raises=LamiError("the sentence"))
    with pytest.raises(SystemExit) as stop:
        main(["demo", "-o", str(tmp_path)])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "lami: error: the sentence\n"


def test_faults_of_the_library_keep_their_traceback(callee: Callable[..., Calls]) -> None:
    callee("lami.demo", "run_demo", raises=RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        main(["demo"])


def test_interrupt(callee: Callable[..., Calls], capsys: pytest.CaptureFixture[str]) -> None:
    callee("lami.demo", "run_demo", raises=KeyboardInterrupt())
    with pytest.raises(SystemExit) as stop:
        main(["demo"])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "lami: interrupted\n"


def test_train(callee: Callable[..., Calls]) -> None:
    calls = callee("lami.training", "train")
    main(["train", "taichi", "--training.learning-rate", "1e-3", "--interpolation.times", "0.2", "0.4", "--resume"])
    expected = load_config("taichi", {"training.learning_rate": 1e-3, "interpolation.times": [0.2, 0.4]})
    assert calls == [((expected,), {"resume": True})]


def test_train_prints_the_configuration(callee: Callable[..., Calls], capsys: pytest.CaptureFixture[str]) -> None:
    calls = callee("lami.training", "train")
    main(["train", "nemo", "--training.seed=5", "--print-config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed == load_config("nemo", {"training.seed": 5}).model_dump(mode="json")
    assert calls == []


def test_train_avd(callee: Callable[..., Calls]) -> None:
    calls = callee("lami.training", "train_avd")
    main(["train-avd", "--checkpoint", "a.safetensors", "--data", "vox", "-o", "b", "--avd-training.epochs", "2"])
    expected = load_config("vox", {"avd_training.epochs": 2})
    assert calls == [((Path("a.safetensors"), expected, Path("b")), {})]


def test_reconstruct_of_a_configuration(callee: Callable[..., Calls]) -> None:
    calls = callee("lami.evaluation", "reconstruct")
    main(["reconstruct", "--checkpoint", "a", "--config", "actions", "-o", "b", "--limit", "3"])
    assert calls == [((Path("a"), load_config("actions").data, Path("b")), {"limit": 3, "device": "auto"})]


def test_reconstruct_of_a_folder(callee: Callable[..., Calls]) -> None:
    calls = callee("lami.evaluation", "reconstruct")
    main(["reconstruct", "--checkpoint", "a", "--data", "clips", "-o", "b", "--data.frame-shape", "64"])
    data = calls[0][0][1]
    assert (data.root, data.frame_shape, data.synthetic) == ("clips", (64, 64), None)


def test_reconstruct_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["reconstruct", "--checkpoint", "a", "-o", "b"])
    assert stop.value.code == 2
    assert "--config CONFIG or --data DIR" in capsys.readouterr().err


def test_animate(callee: Callable[..., Calls]) -> None:
    calls = callee("lami.animation", "animate_file")
    required = ["--checkpoint", "c", "--source", "s.png", "--driving", "d.mp4", "-o", "out.mp4"]
    main(["animate", *required])
    chosen = ["--times", "0.3", "0.5", "--selector", "fixed", "--granularity", "clip", "--best-frame"]
    main(["animate", *required, "--mode", "absolute", "--audio", "none", "--device", "cpu", *chosen])
    paths = {"checkpoint": Path("c"), "source": Path("s.png"), "driving": Path("d.mp4"), "output": Path("out.mp4")}
    defaults = {
        "mode": "relative",
        "times": None,
        "selector": None,
        "granularity": "frame",
        "best_frame": False,
        "audio": "driving",
        "device": "auto",
    }
    changed = {
        "mode": "absolute",
        "times": (0.3, 0.5),
        "selector": "fixed",
        "granularity": "clip",
        "best_frame": True,
        "audio": "none",
        "device": "cpu",
    }
    assert calls == [((), paths | defaults), ((), paths | changed)]


def test_convert(callee: Callable[..., Calls]) -> None:
    calls = callee("lami.convert", "convert_tpsmm")
    main(["convert", "vox.pth.tar", "vox.safetensors"])
    assert calls == [((Path("vox.pth.tar"), Path("vox.safetensors")), {})]


def test_demo(callee: Callable[..., Calls]) -> None:
    calls = callee("lami.demo", "run_demo")
    main(["demo", "--output", "here"])
    assert calls == [((Path("here"),), {})]


@pytest.mark.parametrize(("rank", "level"), [("0", logging.INFO), ("1", logging.WARNING)])
def test_only_the_first_process_reports(
    callee: Callable[..., Calls], monkeypatch: pytest.MonkeyPatch, rank: str, level: int
) -> None:
    callee("lami.demo", "run_demo")
    monkeypatch.setenv("RANK", rank)
    main(["demo"])
    assert logging.getLogger("lami.anything").getEffectiveLevel() == level
