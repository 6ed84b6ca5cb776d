from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from lami.ablation.frames import (
    Bin,
    Frame,
    akd_where_all_are_found,
    between,
    by_displacement,
    interval_of_change,
    read_frames,
)
from lami.evaluation.metrics import FrameErrors, KeypointErrors, summarize

NAN = math.nan


def frame(clip: str, number: int, points: int = 4, missing: int = 0, distance: float = 1.0, **more: float) -> Frame:
    errors = {"points": points, "missing": missing, "distance": distance if points > missing else NAN}
    return Frame(clip, number, {**errors, "coordinate_distance": 0.7 * distance, "l1": NAN, "identity": NAN, **more})


@pytest.mark.parametrize("reference_protocol", [False, True])
def test_shares_add_up_to_the_figures_of_an_evaluation(reference_protocol: bool) -> None:
    rng = np.random.default_rng(3)
    frames, errors = [], []
    for number in range(20):
        points = int(rng.integers(0, 5))
        missing = int(rng.integers(0, points + 1))
        distance, identity, l1 = rng.random(3)
        shared = distance if points > missing else NAN
        keypoints = KeypointErrors(points, missing, shared, 0.7 * shared)
        identity = identity if number % 3 else NAN
        errors.append(FrameErrors(l1=l1, psnr=NAN, ssim=NAN, lpips=NAN, keypoints=keypoints, identity=identity))
        frames.append(frame("a", number, points, missing, distance, l1=l1, identity=identity))
    expected = summarize(errors, reference_protocol)
    for figure in ("l1", "akd", "mkr", "aed"):
        numerator, denominator = np.sum([each.share(figure, reference_protocol) for each in frames], axis=0)
        assert numerator / denominator == pytest.approx(getattr(expected, figure)), figure


def test_interval_holds_the_change_and_narrows_where_clips_agree() -> None:
    rng = np.random.default_rng(0)
    clips = [f"clip{index}" for index in range(12)]
    before = [frame(clip, number, l1=1 + rng.random()) for clip in clips for number in range(5)]

    def after(spread: float) -> list[Frame]:
        factor = {clip: 0.9 + spread * rng.normal() for clip in clips}
        return [Frame(f.clip, f.number, {**f.errors, "l1": factor[f.clip] * f.errors["l1"]}) for f in before]

    exact = interval_of_change([before], [after(0.0)], "l1", False)
    wide = interval_of_change([before], [after(0.1)], "l1", False)
    assert exact is not None
    assert wide is not None
    assert exact == pytest.approx((-0.1, -0.1))
    assert wide[0] < -0.1 < wide[1]
    assert 0.05 < wide[1] - wide[0] < 0.2  # 2 * 1.96 * 0.1 / sqrt(12) is 0.11
    assert interval_of_change([before], [after(0.1)], "aed", False) is None  # was not measured
    assert interval_of_change([before[:20]], [before[:20]], "l1", False) is None  # four clips
    lost = [Frame(f.clip, f.number, {**f.errors, "l1": NAN}) for f in before[20:]]
    assert interval_of_change([before], [before[:20] + lost], "l1", False) is None  # four are left of one side


def test_a_clip_that_one_side_has_lost_counts_for_the_other() -> None:
    """Its mean has it, and so has the interval."""
    clips = [f"clip{index}" for index in range(6)]
    before = [frame(clip, 0, distance=9.0 if clip == "clip0" else 1.0) for clip in clips]
    after = [frame(clip, 0, missing=4 if clip == "clip0" else 0) for clip in clips]
    interval = interval_of_change([before], [after], "akd", False)
    assert interval is not None
    change = 1 / ((9 + 5) / 6) - 1
    assert interval[0] < change < interval[1]
    assert interval[1] == pytest.approx(0.0)  # of draws without that clip


def test_akd_where_all_are_found() -> None:
    """A row that loses the hard frame looks better over its own frames."""
    careful = [frame("a", 0, distance=1.0), frame("a", 1, distance=5.0)]
    losing = [frame("a", 0, distance=2.0), frame("a", 1, missing=4)]
    akd, count = akd_where_all_are_found({"careful": [careful], "losing": [losing]})
    assert (akd, count) == ({"careful": 1.0, "losing": 2.0}, 1)
    akd, count = akd_where_all_are_found({"careful": [careful], "losing": [losing]}, reference_protocol=True)
    assert (akd, count) == ({"careful": 0.7, "losing": 1.4}, 1)


def test_equal_displacements_share_a_bin() -> None:
    frames = [frame("a", number, distance=number + 1.0, displacement=3.0) for number in range(4)]
    assert by_displacement({"a": [frames]}) == {"a": [Bin(3.0, 3.0, True, 2.5, 4, 3.0)]}


def test_a_frame_at_an_edge_is_in_one_bin() -> None:
    frames = [frame("a", number, displacement=float(number)) for number in range(9)]
    lost = [frame("a", number, missing=4, displacement=float(number)) for number in range(3)] + frames[3:]
    rows = by_displacement({"a": [frames], "lost": [lost]}, bins=2)
    assert sum(each.frames for each in rows["a"]) == 9
    assert [each.start for each in rows["lost"]] == [each.start for each in rows["a"]]
    for each in rows["a"]:
        assert len(between(frames, each.start, each.stop, each.last)) == each.frames


def test_reading(tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    with (tmp_path / "evaluation" / "frames.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["clip", "frame", "l1", "points", "missing"], ["x", 3, 0.5, 4, ""]])
    (found,) = read_frames(tmp_path)
    assert (found.clip, found.number, found.errors["l1"]) == ("x", 3, 0.5)
    assert math.isnan(found.errors["missing"])
    assert found.found == 0
