from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from lami.ablation import load_study
from lami.ablation.summary import write_summary

pytest.importorskip("matplotlib", reason="the plots of a study need matplotlib")

COLUMNS = ("clip", "frame", "displacement", "distance", "points", "missing")


def finished_run(folder: Path, row: str, seed: int, akd: float, frames: list[tuple[float, float, int, int]]) -> None:
    """Files that a run leaves: figures, and (displacement, distance, points, missing) of each frame."""
    run = folder / f"{row}-seed{seed}"
    (run / "evaluation").mkdir(parents=True)
    means = {name: None for name in ("l1", "mkr", "aed", "psnr", "ssim", "lpips")} | {"akd": akd, "frames": len(frames)}
    clips = [{"name": "a", "frames": len(frames)}]
    report = {"means": means, "clips": clips, "measures": {}, "reference_protocol": False}
    (run / "evaluation" / "evaluation.json").write_text(json.dumps(report))
    (run / "config.yaml").write_text(f"losses: {{bidirectional: {str(row != 'tpsmm').lower()}}}")
    (run / "log.jsonl").write_text("".join(json.dumps({"step": s, "pixel": 2.0 / s}) + "\n" for s in (1, 2)))
    with (run / "evaluation" / "frames.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([("a", n, *frame) for n, frame in enumerate(frames)])


def test_akd_by_displacement(tmp_path: Path) -> None:
    """Each point counts once, in the bin of its frame; bins are those of all rows together."""
    frames = [(float(d), 0.5 * d, 4, d % 2) for d in range(13)]
    finished_run(tmp_path, "tpsmm", 0, 2.0, frames)
    finished_run(tmp_path, "full", 0, 1.0, [(d, 0.25 * d, points, missing) for d, _, points, missing in frames])
    write_summary(load_study(), tmp_path)
    rows = json.loads((tmp_path / "summary.json").read_text())["rows"]
    bins = rows["tpsmm"]["displacement"]
    assert [(b["start"], b["stop"]) for b in bins] == [(d, d + 2) for d in range(0, 12, 2)]
    assert [b["frames"] for b in bins] == [2, 2, 2, 2, 2, 3]
    assert bins[1]["akd"] == pytest.approx((4 * 1.0 + 3 * 1.5) / 7)
    assert [b["akd"] for b in rows["full"]["displacement"]] == pytest.approx([b["akd"] / 2 for b in bins])
    assert (tmp_path / "displacement.png").stat().st_size > 1000


def test_tables(tmp_path: Path) -> None:
    for seed, (single, full) in enumerate([(4.0, 3.0), (6.0, 3.0)]):
        finished_run(tmp_path, "tpsmm", seed, single, [(1.0, 1.0, 4, 0)])
        finished_run(tmp_path, "full", seed, full, [(1.0, 1.0, 4, 0)])
    text = write_summary(load_study(), tmp_path).read_text()
    assert "| TPSMM | 2 | 5.000 ± 1.414 |" in text
    assert "| Full (+ appearance and structure) | 2 | 3.000 ± 0.000 |" in text
    assert "| Full (+ appearance and structure) | -37.5% ± 17.7% (paper -7.9%) |" in text
    assert "Lower is better for AKD" in text
