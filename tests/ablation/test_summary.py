from __future__ import annotations

import csv
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from lami.ablation import load_study
from lami.ablation.frames import read_frames
from lami.ablation.settings import check_same_settings
from lami.ablation.summary import write_summary
from lami.configs import load_config
from lami.data.files import claimed
from lami.errors import ConfigError, DataError, LamiError

pytest.importorskip("matplotlib", reason="the plots of a study need matplotlib")

COLUMNS = ("clip", "frame", "displacement", "distance", "coordinate_distance", "points", "missing")
ROWS = load_study().rows
ONE_FRAME = [(1.0, 1.0, 4, 0)]


def finished_run(
    folder: Path,
    row: str,
    seed: int,
    akd: float,
    frames: list[tuple[float, float, int, int]],
    settings: dict[str, Any] | None = None,
    report: dict[str, Any] | None = None,
) -> Path:
    """Files that a run leaves: figures, and (displacement, distance, points, missing) of each frame."""
    run = folder / f"{row}-seed{seed}"
    (run / "evaluation").mkdir(parents=True)
    means = {name: None for name in ("l1", "mkr", "aed", "psnr", "ssim", "lpips")} | {"akd": akd, "frames": len(frames)}
    clips = [{"name": "a", "frames": len(frames)}]
    content = {"means": means, "clips": clips, "measures": {}, "reference_protocol": False} | (report or {})
    (run / "evaluation" / "evaluation.json").write_text(json.dumps(content))
    overrides = {"losses": {key.split(".")[1]: v for key, v in ROWS[row].overrides.items() if key.startswith("losses")}}
    training = {"output": str(run), "seed": seed, **(settings or {})}
    switches = {"enabled": row != "tpsmm", "fusion": "occlusion" if row == "v2" else "none"}
    config = {"training": training, "interpolation": switches, **overrides}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "log.jsonl").write_text("".join(json.dumps({"step": s, "pixel": 2.0 / s}) + "\n" for s in (1, 2)))
    with (run / "evaluation" / "frames.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(
            [("a", n, d, distance, 0.7 * distance, *more) for n, (d, distance, *more) in enumerate(frames)]
        )
    return run


def summary(folder: Path) -> dict[str, Any]:
    write_summary(load_study(), folder)
    return json.loads((folder / "summary.json").read_text())


def test_akd_by_displacement(tmp_path: Path) -> None:
    """Each point counts once, in the bin of its frame; bins are those of all rows together."""
    frames = [(float(d), 0.5 * d, 4, d % 2) for d in range(13)]
    finished_run(tmp_path, "tpsmm", 0, 2.0, frames)
    finished_run(tmp_path, "full", 0, 1.0, [(d, 0.25 * d, points, missing) for d, _, points, missing in frames])
    rows = summary(tmp_path)["rows"]
    bins = rows["tpsmm"]["displacement"]
    assert [(b["start"], b["stop"]) for b in bins] == [(d, d + 2) for d in range(0, 12, 2)]
    assert [b["frames"] for b in bins] == [2, 2, 2, 2, 2, 3]
    assert [b["displacement"] for b in bins] == [0.5, 2.5, 4.5, 6.5, 8.5, 11.0]
    assert bins[1]["akd"] == pytest.approx((4 * 1.0 + 3 * 1.5) / 7)
    assert [b["akd"] for b in rows["full"]["displacement"]] == pytest.approx([b["akd"] / 2 for b in bins])
    assert (tmp_path / "displacement.png").stat().st_size > 1000


def test_the_plot_shows_bins_at_their_mean_displacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Any] = {}
    monkeypatch.setattr("lami.ablation.summary.draw_displacement", lambda curves, path: drawn.update(curves))
    finished_run(tmp_path, "tpsmm", 0, 1.0, [(float(d), 1.0, 4, 0) for d in (*range(12), 100)])
    write_summary(load_study(), tmp_path)
    assert drawn["TPSMM"][-1][0] == pytest.approx((10 + 11 + 100) / 3)  # the middle is 55


def test_the_reference_protocol_holds_for_every_akd(tmp_path: Path) -> None:
    frames = [(1.0, 1.0, 4, 0), (1.0, 3.0, 4, 3)]  # points would count 4 to 1, frames count the same
    for row in ("tpsmm", "full"):
        finished_run(tmp_path, row, 0, 1.4, frames, report={"reference_protocol": True})
    row = summary(tmp_path)["rows"]["full"]
    assert row["akd_where_all_are_found"] == pytest.approx(0.7 * (1 + 3) / 2)
    assert [b["akd"] for b in row["displacement"]] == pytest.approx([0.7 * (1 + 3) / 2])


def test_tables(tmp_path: Path) -> None:
    for seed, (single, full) in enumerate([(4.0, 3.0), (6.0, 3.0)]):
        finished_run(tmp_path, "tpsmm", seed, single, ONE_FRAME)
        finished_run(tmp_path, "full", seed, full, ONE_FRAME)
    text = write_summary(load_study(), tmp_path).read_text()
    assert "| TPSMM | 2 | 5.000 ± 1.414 |" in text
    assert "| Full (+ appearance and structure) | 2 | 3.000 ± 0.000 |" in text
    assert "| Full (+ appearance and structure) | -37.5% ± 17.7% (paper -7.9%) |" in text
    assert "Lower is better for AKD" in text
    assert "commit" not in text


@pytest.mark.parametrize(
    ("row", "settings", "key"),
    [
        ("full", {"max_steps": 5}, "training.max_steps"),
        ("tpsmm", {"learning_rate": 0.5}, "training.learning_rate"),
        ("full", {"output": "elsewhere", "device": "cuda", "workers": 9, "log_every": 7, "wandb": "mine"}, None),
    ],
)
def test_runs_of_other_configurations_are_not_mixed(
    row: str, settings: dict[str, Any], key: str | None, tmp_path: Path
) -> None:
    first = finished_run(tmp_path, "tpsmm", 0, 2.0, ONE_FRAME)
    second = finished_run(tmp_path, row, 1, 1.0, ONE_FRAME, settings)
    if key is None:
        write_summary(load_study(), tmp_path)
        return
    with pytest.raises(ConfigError, match=f"^{second} was started with another {key} than {first}; [^.]*$"):
        write_summary(load_study(), tmp_path)
    assert not (tmp_path / "summary.md").exists()


def test_runs_of_a_row_share_its_overrides(tmp_path: Path) -> None:
    """Seeds of a row from before and after the study's file was changed."""
    finished_run(tmp_path, "tpsmm", 0, 2.0, ONE_FRAME)
    run = finished_run(tmp_path, "tpsmm", 1, 2.0, ONE_FRAME)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["losses"]["feature"] = 3.0
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=r"tpsmm-seed1 was started with another losses\.feature than .*tpsmm-seed0"):
        write_summary(load_study(), tmp_path)


def test_a_row_may_switch_on_a_section(tmp_path: Path) -> None:
    study = load_study()
    row = study.rows["full"].model_copy(update={"overrides": {"model.background": {}}})
    study = study.model_copy(update={"rows": study.rows | {"full": row}})
    without = load_config(None, {"model.background": None})
    check_same_settings(study, [("a", "tpsmm", without), ("b", "full", load_config(None, {"model.background": {}}))])


def test_evaluations_of_earlier_versions_are_not_mixed(tmp_path: Path) -> None:
    finished_run(tmp_path, "tpsmm", 0, 2.0, ONE_FRAME)
    file = finished_run(tmp_path, "full", 0, 1.0, ONE_FRAME) / "evaluation" / "frames.csv"
    file.write_text(file.read_text().replace("missing", "lost"))
    with pytest.raises(DataError, match=r"full-seed0 was evaluated with another version of lami than .*tpsmm-seed0"):
        write_summary(load_study(), tmp_path)


def test_other_clips_are_not_mixed(tmp_path: Path) -> None:
    finished_run(tmp_path, "tpsmm", 0, 2.0, ONE_FRAME)
    finished_run(tmp_path, "full", 0, 1.0, 2 * ONE_FRAME)
    with pytest.raises(DataError, match=r"full-seed0 was evaluated with other clips than .*tpsmm-seed0"):
        write_summary(load_study(), tmp_path)


def test_commits(tmp_path: Path) -> None:
    """Each run's are kept, and a summary of several says so."""
    for row, entries in (("tpsmm", [("a" * 40, False)]), ("full", [("a" * 40, False), ("b" * 40, True)])):
        run = finished_run(tmp_path, row, 0, 1.0, ONE_FRAME)
        lines = [json.dumps({"commit": commit, "dirty": dirty}) for commit, dirty in entries]
        (run / "environment.jsonl").write_text("\n".join(lines) + "\n")
    rows = summary(tmp_path)["rows"]
    assert rows["tpsmm"]["commits"] == {"0": ["a" * 40]}
    assert rows["full"]["commits"] == {"0": ["a" * 40, "b" * 40 + " with changes"]}
    assert (
        "aaaaaaaa (tpsmm-seed0, full-seed0); bbbbbbbb with changes (full-seed0)."
        in (tmp_path / "summary.md").read_text()
    )


def test_commands_write_one_after_the_other(tmp_path: Path) -> None:
    """Who waits sees what finished meanwhile."""
    finished_run(tmp_path, "tpsmm", 0, 2.0, ONE_FRAME)
    with claimed(tmp_path):
        waiting = threading.Thread(target=write_summary, args=(load_study(), tmp_path))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        finished_run(tmp_path, "full", 0, 1.0, ONE_FRAME)
    waiting.join(60)
    assert set(json.loads((tmp_path / "summary.json").read_text())["rows"]) == {"tpsmm", "full"}


@pytest.mark.parametrize("frames_are_there", [False, True])
def test_a_run_whose_evaluation_is_being_replaced_is_left_out(
    frames_are_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run(tmp_path, "tpsmm", 0, 2.0, ONE_FRAME)
    replaced = finished_run(tmp_path, "full", 0, 1.0, ONE_FRAME)

    def read(run: Path) -> Any:
        if run == replaced:
            (run / "evaluation" / "evaluation.json").unlink()
            if not frames_are_there:
                (run / "evaluation" / "frames.csv").unlink()
        return read_frames(run)

    monkeypatch.setattr("lami.ablation.runs.read_frames", read)
    assert set(summary(tmp_path)["rows"]) == {"tpsmm"}


def test_a_run_with_clips_that_failed_is_not_finished(tmp_path: Path) -> None:
    finished_run(tmp_path, "tpsmm", 0, 2.0, ONE_FRAME)
    finished_run(tmp_path, "full", 0, 2.0, ONE_FRAME, report={"failed": [{"name": "b", "error": "it is damaged"}]})
    assert set(summary(tmp_path)["rows"]) == {"tpsmm"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("evaluation/evaluation.json", '{"means": ', "is damaged; delete it"),
        ("evaluation/evaluation.json", "{}", "is damaged; delete it"),
        ("evaluation/evaluation.json", "[]", "is damaged; delete it"),
        ("evaluation/frames.csv", "", "is damaged; delete .*evaluation.json"),
        ("evaluation/frames.csv", None, r"cannot be read \(No such file"),
        ("config.yaml", "training: [", "is not valid YAML"),
        ("config.yaml", None, "is missing; restore it"),
        ("log.jsonl", '{"step": 1', "is damaged; restore it"),
        ("log.jsonl", None, r"cannot be read \(No such file"),
        ("environment.jsonl", "[]", "is damaged; restore or delete it"),
    ],
)
def test_damaged_files_are_named(name: str, content: str | None, message: str, tmp_path: Path) -> None:
    file = finished_run(tmp_path, "tpsmm", 0, 2.0, ONE_FRAME) / name
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    with pytest.raises(LamiError, match=f"^{file} {message}") as error:
        write_summary(load_study(), tmp_path)
    assert "\n" not in str(error.value)
