from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import CHEAP, same, tiny_config

from lami import checkpoint
from lami.ablation import Measurement, ablate, load_study
from lami.ablation.measurement import expect
from lami.ablation.runs import find_runs, read_result
from lami.cli.main import main
from lami.configs import dump_config, load_config
from lami.data import write_image
from lami.data.files import claimed
from lami.data.sources import ClipSource
from lami.errors import ConfigError, DataError, LamiError, WeightsUnavailableError
from lami.evaluation import evaluate
from lami.training.step import TrainingStep

pytest.importorskip("matplotlib", reason="the plots of a study need matplotlib")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_config(tiny_config(CHEAP | {"training.max_steps": 4, "training.log_every": 1})))
    return path


def study(tmp_path: Path, **rows: dict[str, Any]) -> Path:
    path = tmp_path / "study.yaml"
    content = {
        "baseline": "single",
        "rows": {
            "single": {
                "label": "Single",
                "overrides": {"interpolation.enabled": False, "losses.bidirectional": False},
                "paper": {"l1": 0.04},
            },
            "two": {"label": "Two stages", "paper": {"l1": 0.05}},
            **rows,
        },
    }
    path.write_text(json.dumps(content))  # which is YAML
    return path


def test_table_2() -> None:
    """What each row switches on, and the changes that the paper prints."""
    table = load_study()
    rows = {name: load_config("taichi", row.overrides) for name, row in table.rows.items()}
    switches = {
        name: (
            row.interpolation.enabled,
            row.losses.bidirectional,
            row.losses.feature > 0,
            row.losses.appearance > 0,
            row.losses.structure > 0,
            row.interpolation.fusion,
        )
        for name, row in rows.items()
    }
    assert switches == {
        "tpsmm": (False, False, False, False, False, "none"),
        "model1": (True, False, False, False, False, "none"),
        "model2": (True, True, True, False, False, "none"),
        "full": (True, True, True, True, True, "none"),
        "v2": (True, True, True, True, True, "occlusion"),
    }
    assert rows["full"] == load_config("taichi")
    paper = {name: row.paper for name, row in table.rows.items()}
    assert paper["full"]["akd"] / paper["tpsmm"]["akd"] - 1 == pytest.approx(-0.0788, abs=1e-4)
    assert paper["full"]["mkr"] / paper["tpsmm"]["mkr"] - 1 == pytest.approx(-0.222, abs=1e-3)
    assert paper["v2"]["akd"] / paper["full"]["akd"] - 1 == pytest.approx(-0.128, abs=1e-3)


def test_a_study_from_start_to_end(config: Path, tmp_path: Path) -> None:
    out, rows = tmp_path / "out", load_study(study(tmp_path))
    summary = ablate(config, rows, out, seeds=(0, 1))
    assert summary is not None
    text = summary.read_text()
    content = json.loads((out / "summary.json").read_text())
    reports = {
        (name, seed): json.loads((out / f"{name}-seed{seed}" / "evaluation" / "evaluation.json").read_text())
        for name in ("single", "two")
        for seed in (0, 1)
    }
    for (name, seed), report in reports.items():
        assert content["rows"][name]["seeds"][str(seed)]["l1"] == report["means"]["l1"]
        assert report["interpolation"]["enabled"] == (name == "two")
    changes = [reports["two", s]["means"]["l1"] / reports["single", s]["means"]["l1"] - 1 for s in (0, 1)]
    change = content["rows"]["two"]["change"]["l1"]
    assert change["mean"] == pytest.approx(sum(changes) / 2)
    assert change["deviation"] == pytest.approx(abs(changes[0] - changes[1]) / 2**0.5)
    assert "(paper +25.0%)" in text
    assert (out / "curves.png").stat().st_size > 1000
    assert not (out / "displacement.png").exists()  # no keypoints were measured
    seeds = [checkpoint.load(out / f"two-seed{seed}" / "model.safetensors", "cpu").state_dict() for seed in (0, 1)]
    assert any(not torch.equal(a, seeds[1][name]) for name, a in seeds[0].items())


def test_the_same_command_goes_on(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, rows = tmp_path / "out", load_study(study(tmp_path))
    assert ablate(config, rows, out, rows=["single"]) is not None
    weights = out / "single-seed0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert ablate(config, rows, out) is not None
    assert weights.stat().st_mtime_ns == before
    assert set(json.loads((out / "summary.json").read_text())["rows"]) == {"single", "two"}


@pytest.fixture
def ended_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """SIGTERM arrives in that training step of all that are made from now on, which are counted."""

    def arrange(number: int) -> list[int]:
        steps, run_step = [0], TrainingStep.__call__

        def step(*arguments: Any) -> Any:
            steps[0] += 1
            if steps[0] == number:
                signal.raise_signal(signal.SIGTERM)
            return run_step(*arguments)

        monkeypatch.setattr(TrainingStep, "__call__", step)
        return steps

    return arrange


def test_a_run_that_was_cut_off_goes_on(
    config: Path, tmp_path: Path, ended_at: Callable[[int], list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    """In the middle of training, with the steps that are left, to the same weights."""
    whole, out, rows = tmp_path / "whole", tmp_path / "out", load_study(study(tmp_path))
    ablate(config, rows, whole, rows=["two"])
    steps = ended_at(3)
    with caplog.at_level("INFO"):
        assert ablate(config, rows, out, rows=["two"]) is None
    assert "stopped after step 3 of 4, which is saved; the same command goes on" in caplog.text
    assert not (out / "summary.md").exists()
    assert ablate(config, rows, out, rows=["two"], overrides={"training.log_every": 2}) is not None
    assert steps == [4]
    assert same(*(load_file(each / "two-seed0" / "model.safetensors") for each in (whole, out)))


def test_a_signal_in_the_last_step_of_a_run_ends_the_study(
    config: Path, tmp_path: Path, ended_at: Callable[[int], list[int]]
) -> None:
    """The run is whole; the next one does not begin."""
    out, rows, steps = tmp_path / "out", load_study(study(tmp_path)), ended_at(4)
    handler = signal.getsignal(signal.SIGTERM)
    assert ablate(config, rows, out) is None
    assert steps == [4]
    assert (out / "single-seed0" / "model.safetensors").is_file()
    assert not (out / "single-seed0" / "evaluation").exists()
    assert signal.getsignal(signal.SIGTERM) == handler


def test_what_is_finished_is_not_evaluated_again(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the study has moved; with other measures it is."""
    out, moved, rows = tmp_path / "out", tmp_path / "moved", load_study(study(tmp_path))
    ablate(config, rows, out)
    (out / "summary.md").unlink()
    shutil.move(out, moved)
    calls: list[Path] = []

    def count(config: Any, output: Path, **options: Any) -> Any:
        calls.append(output.parent)
        with pytest.raises(DataError, match="another run is writing"), claimed(output.parent):
            pass
        return evaluate(config, output, **options)

    monkeypatch.setattr("lami.ablation.run.evaluate", count)
    again = partial(ablate, config, rows, moved, overrides={"training.workers": 1, "training.device": "auto"})
    assert again() == moved / "summary.md"
    assert (moved / "summary.md").is_file()
    assert calls == []
    again(measurement=Measurement(reference_protocol=True))
    assert calls == [moved / "single-seed0", moved / "two-seed0"]


def test_a_run_that_another_command_evaluates_is_waited_for(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then has nothing left to do."""
    out, rows = tmp_path / "out", load_study(study(tmp_path))
    ablate(config, rows, out, rows=["single"])
    file = out / "single-seed0" / "evaluation" / "evaluation.json"
    away = file.rename(tmp_path / "away.json")
    monkeypatch.setattr("lami.ablation.run.evaluate", lambda *_, **__: pytest.fail("evaluated"))
    with ThreadPoolExecutor() as pool:
        with claimed(out / "single-seed0"):
            waiting = pool.submit(ablate, config, rows, out, rows=["single"])
            assert not wait([waiting], timeout=2).done
            away.rename(file)
        assert waiting.result(60) == out / "summary.md"


def test_an_evaluation_is_of_its_inputs(config: Path, tmp_path: Path) -> None:
    out, rows = tmp_path / "out", load_study(study(tmp_path))
    ablate(config, rows, out, rows=["single"])
    (run,) = find_runs(out, rows)
    result = read_result(run)
    assert result is not None
    expected = expect([run.config], Measurement())
    assert expected.holds(run, result)
    (clip,) = expected.clips
    frames = tmp_path / "clip"
    frames.mkdir()
    file = frames / "0.png"
    file.write_bytes(b"")
    after = replace(expected, clips=[ClipSource(clip.name, clip.open, frames)])
    for path in (frames, file):
        os.utime(path, ns=(result.date - 1, result.date - 1))
    assert after.holds(run, result)
    os.utime(file, ns=(result.date + 1, result.date + 1))
    assert not after.holds(run, result)
    (frames / "gone.png").symlink_to(tmp_path / "nowhere")
    os.utime(file, ns=(result.date - 1, result.date - 1))
    os.utime(frames, ns=(result.date - 1, result.date - 1))
    assert after.holds(run, result)
    assert not replace(expected, clips=[ClipSource(clip.name, clip.open, tmp_path / "gone")]).holds(run, result)
    assert not expected.holds(run, replace(result, version="0.0"))
    assert not expected.holds(run, replace(result, errors=result.errors - {"embeddings"}))
    assert not expected.holds(run, replace(result, options={"fusion": "mean"}))
    (run.path / "model.safetensors").write_bytes(b"others")
    assert not expected.holds(run, result)


def test_another_configuration_is_refused(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, rows = tmp_path / "out", load_study(study(tmp_path))
    ablate(config, rows, out, rows=["single"])
    monkeypatch.setattr("lami.ablation.run.train", lambda *_, **__: pytest.fail("trained"))
    for names in (["single"], ["two"]):
        with pytest.raises(
            ConfigError, match=r"single-seed0 was started with another training\.learning_rate than this command"
        ):
            ablate(config, rows, out, rows=names, overrides={"training.learning_rate": 0.5})


def test_bad_input(config: Path, tmp_path: Path) -> None:
    rows = load_study(study(tmp_path))
    with pytest.raises(ConfigError, match="no row three; its rows are single, two"):
        ablate(config, rows, tmp_path / "out", rows=["three"])
    with pytest.raises(ConfigError, match="give one or more different seeds"):
        ablate(config, rows, tmp_path / "out", seeds=(1, 1))
    with pytest.raises(ConfigError, match="give one or more different rows"):
        ablate(config, rows, tmp_path / "out", rows=[])
    with pytest.raises(ConfigError, match=r"training\.seed differs from run to run of a study; leave it out, --seeds"):
        ablate(config, rows, tmp_path / "out", overrides={"training": {"seed": 3}})
    with pytest.raises(ConfigError, match=r"training\.output .* -o sets it"):
        ablate(config, rows, tmp_path / "out", overrides={"training.output": "runs"})
    for measurement in (Measurement(keypoints="precomputed:r,g"), Measurement(identity="precomputed:r,g")):
        with pytest.raises(ConfigError, match="what was found in the images of one model"):
            ablate(config, rows, tmp_path / "out", measurement=measurement)
    wrong = load_study(study(tmp_path, odd={"label": "Odd", "overrides": {"losses.featur": 1}}))
    with pytest.raises(ConfigError, match=r"losses\.feature"):
        ablate(config, wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="no estimator of keypoints called 'dlbi'"):
        ablate(config, rows, tmp_path / "out", measurement=Measurement(keypoints="dlbi"))
    with pytest.raises(ConfigError, match="row 'a/b' should be named"):
        load_study(study(tmp_path, **{"a/b": {"label": "Odd"}}))
    assert not (tmp_path / "out").exists()
    (tmp_path / "study.yaml").write_text("baseline: x\nrows: {x: {label: z, overrides: {vit.args: 2020-13-45}}}")
    with pytest.raises(ConfigError, match="cannot be read: month must be in"):
        load_study(tmp_path / "study.yaml")
    (tmp_path / "study.yaml").write_text("baseline: x\nrows: {y: {label: z}}")
    with pytest.raises(ConfigError, match="baseline x is none of the rows y"):
        load_study(tmp_path / "study.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_study(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="rows two and three have the same label 'Two stages'"):
        load_study(study(tmp_path, three={"label": "Two stages"}))
    with pytest.raises(ConfigError, match="there is no figure akdd; the figures are l1, akd"):
        load_study(study(tmp_path, three={"label": "Three", "paper": {"akdd": 1.0}}))
    (tmp_path / "study.yaml").write_text("baseline: x\nrows: {x: {label: z, paper: {l1: .nan}}}")
    with pytest.raises(ConfigError, match=r"rows\.x\.paper\.l1: Input should be a finite number"):
        load_study(tmp_path / "study.yaml")


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called on."""
    return lambda: monkeypatch.setattr("lami.ablation.run.train", lambda *_, **__: pytest.fail("trained"))


def test_runs_measured_differently_are_not_mixed(config: Path, tmp_path: Path, no_training: Callable[[], None]) -> None:
    out, rows = tmp_path / "out", load_study(study(tmp_path))
    ablate(config, rows, out, rows=["single"])
    no_training()
    with pytest.raises(DataError, match="single-seed0 was evaluated with another protocol than now"):
        ablate(config, rows, out, rows=["two"], measurement=Measurement(reference_protocol=True))
    file = out / "single-seed0" / "evaluation" / "evaluation.json"
    report = json.loads(file.read_text())
    report["measures"]["keypoints"] = "other"
    file.write_text(json.dumps(report))
    with pytest.raises(DataError, match="single-seed0 was evaluated with other estimators than now"):
        ablate(config, rows, out, rows=["two"])
    file.write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        ablate(config, rows, out, rows=["two"])


def test_what_is_missing_shows_before_training(config: Path, tmp_path: Path, no_training: Callable[[], None]) -> None:
    no_training()
    out, rows = tmp_path / "out", load_study(study(tmp_path))
    vit = {"vit.weights": str(tmp_path / "none.pth"), "interpolation.selector": "eq4"}
    with pytest.raises(WeightsUnavailableError, match=r"not found at .*none\.pth"):  # the first row needs none
        ablate(config, rows, out, overrides=vit)
    write_image(tmp_path / "data" / "train" / "clip" / "0.png", np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(DataError, match="no test clips"):
        ablate(config, rows, out, overrides={"data.synthetic": None, "data.root": str(tmp_path / "data")})
    odd = load_study(study(tmp_path, odd={"label": "Odd", "overrides": {"data.synthetic.num_test_clips": 2}}))
    with pytest.raises(LamiError, match="the same test clips"):
        ablate(config, odd, out)
    assert not out.exists()


@pytest.mark.parametrize("option", ["--rows", "--seeds"])
def test_an_option_without_values(
    option: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["ablate", str(config), "-o", str(tmp_path / "out"), option])
    assert exit_.value.code == 2
    assert f"give one or more different {option[2:]}, got ()" in capsys.readouterr().err


def test_an_interrupted_study_does_not_look_finished(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lami.ablation.ablate", lambda *_, **__: None)
    with pytest.raises(SystemExit) as exit_:
        main(["ablate", str(config), "-o", str(tmp_path / "out")])
    assert exit_.value.code == 130
