"""Scores of a model on a test set, or of frames that any model has made."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lami.acceleration import Precision, pick_precision
from lami.animation.loading import identify, load_with_options
from lami.checkpoint import pick_device
from lami.configs.schema import Config, DataConfig, Fusion, Selector
from lami.data import find_clips
from lami.data.clips import StripImage
from lami.data.sources import ClipSource
from lami.errors import ConfigError, DataError, WeightsUnavailableError
from lami.evaluation.estimators import make_identity_estimator, make_keypoint_estimator
from lami.evaluation.images import LPIPS
from lami.evaluation.inputs import check_fits, check_moving, check_positive, common_size, compressed, match_generated
from lami.evaluation.metrics import FrameErrors
from lami.evaluation.reconstruction import read_record, read_strip, rebuild, strip_path
from lami.evaluation.results import ClipResult, Evaluation, check_replaceable, write_evaluation
from lami.evaluation.scoring import ERRORS, Measures, read_errors, scoring_tasks
from lami.model import LAMI
from lami.processes import join_processes
from lami.progress import track
from lami.worklist import PATIENCE, Outcome, digest, work_through

logger = logging.getLogger(__name__)


def evaluate(
    config: Config | DataConfig,
    output: str | Path,
    *,
    checkpoint: str | Path | None = None,
    generated: str | Path | None = None,
    keypoints: str | None = None,
    identity: str | None = None,
    enlarge: int = 1,
    lpips: str | None = None,
    reference_protocol: bool = False,
    limit: int | None = None,
    times: Sequence[float] | None = None,
    selector: Selector | None = None,
    weights_vit: str | None = None,
    fusion: Fusion | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    batch_size: int = 8,
    overwrite: bool = True,
) -> Evaluation:
    """Compare generated test videos with the real ones, frame by frame.

    A model rebuilds each test video from its first frame and the motion of all its frames, as `reconstruct` does. L1 is
    that of its floating-point images; everything else is measured on 8-bit images that are kept without loss, in
    `png/`. What the figures mean stands at `Means`, how the protocols differ in docs/evaluation.md.

    Writes to the output folder `evaluation.json`, `evaluation.md` (a table), `frames.csv` (each frame's errors), and
    what `reconstruct` writes but its report. The files of an earlier evaluation are there until the new ones are whole,
    so that a mistake does not cost them. A clip that fails is logged and the others go on; what was done with the same
    inputs and options is not done again (`records/`, `scores/records/`). Under torchrun the processes share the clips;
    all must see the folder.

    Args:
        config: says where the test videos are (`config.data`), and with which image size and splines a model must have
            been trained (`config.model`). A `DataConfig` alone leaves these open: images are as large as the
            checkpoint's, or else as the real frames.
        output: folder to write to.
        checkpoint: weight file of the model; or else
        generated: folder with a clip for each test video and of its length, and nothing else: videos, folders of
            frames, or strips of frames of the image size, named as the test videos up to the first dot.
        keypoints: estimator for AKD and MKR, one of `KEYPOINT_ESTIMATORS`; None leaves both out.
        identity: estimator for AED, one of `IDENTITY_ESTIMATORS`; None leaves it out.
        enlarge: factor by which estimators see frames enlarged; distances are in pixels of the original frames.
        lpips: `pretrained` or a file, see `LPIPS`; None leaves it out.
        reference_protocol: figures and rounding of the official evaluation, see `summarize`.
        limit: stop after this many clips; `generated` may hold the others.
        times, selector, weights_vit, fusion, device, precision, batch_size: see `reconstruct`.
        overwrite: whether the folder may hold an evaluation of something else, whose place this one takes.

    Raises:
        ConfigError: options that do not go together, a checkpoint of another size or with other splines than the
            configuration's, or an estimator that is not known.
        DataError: there are no test videos, one is a single frame, generated ones do not match them, nothing can be
            scored, an estimator finds nothing in any real frame, or the folder cannot be written or, without
            `overwrite`, holds an evaluation of something else.
        CheckpointError: a weight file cannot be used.
        WeightsUnavailableError: weights of the selector's transformer or of an estimator cannot be had.
    """
    if (checkpoint is None) == (generated is None):
        raise ConfigError("say what to evaluate: the checkpoint of a model, or a folder of generated videos")
    check_positive(limit=limit, batch_size=batch_size)
    if generated is not None and any(option is not None for option in (times, selector, weights_vit, fusion)):
        raise ConfigError(
            "times, selector, the transformer's weights and fusion belong to a checkpoint; leave them out for "
            "generated videos"
        )
    data, wanted = (config.data, config.model) if isinstance(config, Config) else (config, None)
    folder = Path(output)
    with join_processes(device, PATIENCE) as processes:
        model: LAMI | None = None
        size = None if wanted is None else wanted.image_size
        subject: dict[str, Any]
        if checkpoint is not None:
            precision = pick_precision(precision, processes.device)
            model = load_with_options(
                checkpoint, str(processes.device), times, selector, weights_vit, fusion, precision
            )
            if wanted is not None:
                check_fits(wanted, model.config, checkpoint)
            size = model.config.image_size
            subject = {"checkpoint": str(checkpoint), **identify(checkpoint, times, selector, weights_vit, fusion)}
            subject |= {
                "precision": precision,
                "interpolation": model.interpolation.model_dump(),
                "vit": model.vit_config.model_dump(),
            }
        else:
            subject = {"generated": str(generated)}
        # All that may be missing or wrong shows before hours of work, and before anything is written.
        tests, size = _find_tests(data, limit, size)
        measures = make_measures(data, size, keypoints, identity, enlarge, lpips, processes.device)
        described = describe_measures(measures, lpips)
        sources = tests[:limit]
        settings = {key: value for key, value in subject.items() if key != "checkpoint"}
        subject |= {"data": "figures" if data.root is None else os.path.abspath(data.root), "image_size": size}
        if not overwrite:
            check_replaceable(folder, subject, reference_protocol, len(sources))
        l1: dict[str, Sequence[float]] = {}
        failed: dict[str, str] = {}
        if model is not None:
            report = rebuild(
                model, settings, sources, data, folder, processes, times, batch_size, truncate=reference_protocol
            )
            l1, failed = {clip.name: clip.frame_l1 for clip in report.clips}, dict(report.failed)
            sources = tuple(source for source in sources if source.name in l1)
            made = [_strip(folder, source.name, size) for source in sources]
        else:
            assert generated is not None
            made = match_generated(tests, limit, Path(generated), size, resized=wanted is not None)
            if suffixes := compressed(made):
                subject |= {"compressed": suffixes}
        outcomes = work_through(
            scoring_tasks(sources, made, size, measures, processes.device),
            folder / "scores",
            {"measures": described, "size": size, "fields": list(ERRORS), "data": _data_settings(data)},
            processes,
            partial(track, description="scoring"),
        )
        failed |= {outcome.name: outcome.error for outcome in outcomes if outcome.error is not None}
        read = partial(_errors, l1=l1)
        clips = tuple(
            ClipResult(outcome.name, read_record(outcome, read, folder / "scores"))
            for outcome in outcomes
            if outcome.error is None
        )
        if not clips:
            raise DataError(f"none of {len(failed)} test videos can be scored: {next(iter(failed.values()))}")
        result = Evaluation(subject, described, reference_protocol, clips, failed)
        _check_found(result, measures)
        if processes.first:
            write_evaluation(result, folder)
            print(result.table())
    return result


def _find_tests(
    data: DataConfig, limit: int | None, size: tuple[int, int] | None
) -> tuple[Sequence[ClipSource], tuple[int, int]]:
    """All test clips, and the size at which they are compared: by default that of the real frames up to the limit."""
    if size is None and data.synthetic is not None:
        raise ConfigError("figures are drawn at any size; give a configuration with model.image_size")
    tests = find_clips(data, size or (1, 1)).test
    check_moving(tests[:limit])
    return tests, size or common_size(tests[:limit])


def _errors(outcome: Outcome, l1: Mapping[str, Sequence[float]]) -> list[FrameErrors]:
    """Of a clip; with L1 of the floating-point images where it is known."""
    frames = read_errors(outcome.result)
    if outcome.name not in l1:
        return frames
    return [replace(frame, l1=value) for frame, value in zip(frames, l1[outcome.name], strict=True)]


def make_measures(
    data: DataConfig,
    image_size: tuple[int, int],
    keypoints: str | None,
    identity: str | None,
    enlarge: int,
    lpips: str | None,
    device: str | torch.device,
) -> Measures:
    """What `evaluate` measures with; arguments and errors are its own."""
    chosen = pick_device(device)
    return Measures(
        None if keypoints is None else make_keypoint_estimator(keypoints, data, image_size, enlarge, str(chosen)),
        None if identity is None else make_identity_estimator(identity, enlarge),
        None if lpips is None else _lpips(lpips).to(chosen),
    )


def _lpips(weights: str) -> LPIPS:
    try:
        return LPIPS(weights)
    except WeightsUnavailableError as error:
        raise WeightsUnavailableError(
            "the AlexNet weights of LPIPS are not in the cache and cannot be downloaded; connect once, give the path "
            "of alexnet-owt-7be5be79.pth, or leave LPIPS out"
        ) from error


def describe_measures(measures: Measures, lpips: str | None) -> dict[str, Any]:
    """Which estimators measured, in which versions, as `evaluation.json` tells it.

    lpips: the weights that `make_measures` was given.
    """
    described: dict[str, Any] = {
        name: {"name": estimator.name, "version": estimator.version}
        for name, estimator in (("keypoints", measures.keypoints), ("identity", measures.identity))
        if estimator is not None
    }
    if lpips is not None:
        described["lpips"] = lpips if lpips == "pretrained" else digest(Path(lpips))
    return described


def _data_settings(data: DataConfig) -> Mapping[str, Any]:
    return data.model_dump(mode="json", include={"frame_shape", "synthetic"})


def _strip(folder: Path, name: str, size: tuple[int, int]) -> ClipSource:
    path = strip_path(folder, name)
    return ClipSource(name, partial(StripImage, path, size, read_strip), path)


def _check_found(result: Evaluation, measures: Measures) -> None:
    """Raises DataError if an estimator finds nothing in the real frames: generated ones it may fail in are a result."""
    means = result.means
    for estimator, what, without in (
        (measures.keypoints, "no keypoints", means.real_without_keypoints),
        (measures.identity, "nobody", means.real_without_identity),
    ):
        if estimator is not None and without == 1:
            raise DataError(
                f"{estimator.name} finds {what} in any of {means.frames} real frames; enlarge the frames, or choose an "
                "estimator for what they show"
            )
