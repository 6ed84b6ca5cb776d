from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CHEAP, tiny_config

from lami import checkpoint
from lami.ablation import Measurement, ablate, load_study
from lami.configs import dump_config, load_config
from lami.errors import ConfigError, DataError

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
    # A run that was cut off resumes at its checkpoint.
    weights.unlink()
    monkeypatch.setattr("lami.training.loop.TrainingStep.__call__", lambda *_: pytest.fail("started anew"))
    assert ablate(config, rows, out) is not None
    assert weights.is_file()


def test_another_configuration_is_refused(config: Path, tmp_path: Path) -> None:
    out, rows = tmp_path / "out", load_study(study(tmp_path))
    ablate(config, rows, out, rows=["single"])
    with pytest.raises(ConfigError, match=r"single-seed0 was started with another training\.learning_rate"):
        ablate(config, rows, out, overrides={"training.learning_rate": 0.5})


def test_bad_input(config: Path, tmp_path: Path) -> None:
    rows = load_study(study(tmp_path))
    with pytest.raises(ConfigError, match="no row three; its rows are single, two"):
        ablate(config, rows, tmp_path / "out", rows=["three"])
    with pytest.raises(ConfigError, match="seeds"):
        ablate(config, rows, tmp_path / "out", seeds=(1, 1))
    wrong = load_study(study(tmp_path, odd={"label": "Odd", "overrides": {"losses.featur": 1}}))
    with pytest.raises(ConfigError, match=r"losses\.feature"):
        ablate(config, wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="no estimator of keypoints called 'dlbi'"):
        ablate(config, rows, tmp_path / "out", measurement=Measurement(keypoints="dlbi"))
    with pytest.raises(ConfigError, match="row 'a/b' should be named"):
        load_study(study(tmp_path, **{"a/b": {"label": "Odd"}}))
    assert not (tmp_path / "out").exists()
    (tmp_path / "study.yaml").write_text("baseline: x\nrows: {y: {label: z}}")
    with pytest.raises(ConfigError, match="baseline x is none of the rows y"):
        load_study(tmp_path / "study.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_study(tmp_path / "none.yaml")


def test_runs_measured_differently_are_not_mixed(config: Path, tmp_path: Path) -> None:
    out, rows = tmp_path / "out", load_study(study(tmp_path))
    ablate(config, rows, out, rows=["single"])
    file = out / "single-seed0" / "evaluation" / "evaluation.json"
    report = json.loads(file.read_text())
    report["measures"]["keypoints"] = "other"
    file.write_text(json.dumps(report))
    with pytest.raises(DataError, match="another measures"):
        ablate(config, rows, out, rows=["two"])
