"""Scores of a model on a test set, or of frames that any model has made."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lami.acceleration import Precision, pick_precision
from lami.animation.loading import identify, load_with_options
from lami.checkpoint import pick_device
from lami.configs.schema import Config, DataConfig, Fusion, Selector
from lami.data import find_clips, list_clips
from lami.data.clips import StripImage
from lami.data.sources import ClipSource
from lami.errors import ConfigError, DataError, WeightsUnavailableError
from lami.evaluation.estimators import make_identity_estimator, make_keypoint_estimator
from lami.evaluation.images import LPIPS
from lami.evaluation.reconstruction import read_strip, rebuild, strip_path
from lami.evaluation.results import ClipResult, Evaluation, remove_evaluation, write_evaluation
from lami.evaluation.scoring import Measures, read_errors, scoring_tasks
from lami.model import LAMI
from lami.processes import join_processes
from lami.progress import track
from lami.worklist import PATIENCE, digest, work_through

logger = logging.getLogger(__name__)


def evaluate(
    config: Config,
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
) -> Evaluation:
    """Compare generated test videos with the real ones, frame by frame.

    A model rebuilds each test video from its first frame and the motion of all its frames, as `reconstruct` does. L1 is
    that of its floating-point images; everything else is measured on 8-bit images that are kept without loss, in
    `png/`. What the figures mean stands at `Means`, how the protocols differ in docs/evaluation.md.

    Writes to the output folder `evaluation.json`, `evaluation.md` (a table), `frames.csv` (each frame's errors), and
    what `reconstruct` writes but its report. A clip that fails is logged and the others go on; what was done with the
    same inputs and options is not done again (`records/`, `scores/records/`). Under torchrun the processes share the
    clips; all must see the folder.

    Args:
        config: says where the test videos are (`config.data`); without a checkpoint also the image size
            (`config.model.image_size`).
        output: folder to write to.
        checkpoint: weight file of the model; or else
        generated: folder with a clip for each test video: videos, folders of frames, or strips of frames of the image
            size, named as the test videos up to the first dot.
        keypoints: estimator for AKD and MKR, one of `KEYPOINT_ESTIMATORS`; None leaves both out.
        identity: estimator for AED, one of `IDENTITY_ESTIMATORS`; None leaves it out.
        enlarge: factor by which estimators see frames enlarged; distances are in pixels of the original frames.
        lpips: `pretrained` or a file, see `LPIPS`; None leaves it out.
        reference_protocol: figures and rounding of the official evaluation, see `summarize`.
        limit: stop after this many clips.
        times, selector, weights_vit, fusion, device, precision, batch_size: see `reconstruct`.

    Raises:
        ConfigError: options that do not go together, or an estimator that is not known.
        DataError: there are no test videos, generated ones do not match them, nothing can be scored, an estimator finds
            nothing in any real frame, or the folder cannot be written.
        CheckpointError: a weight file cannot be used.
        WeightsUnavailableError: weights of the selector's transformer or of an estimator cannot be had.
    """
    if (checkpoint is None) == (generated is None):
        raise ConfigError("say what to evaluate: the checkpoint of a model, or a folder of generated videos")
    for name, value in (("limit", limit), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be 1 or more, got {value}")
    if generated is not None and any(option is not None for option in (times, selector, weights_vit, fusion)):
        raise ConfigError(
            "times, selector, the transformer's weights and fusion belong to a checkpoint; leave them out for "
            "generated videos"
        )
    folder = Path(output)
    with join_processes(device, PATIENCE) as processes:
        l1: dict[str, float] = {}
        failed: dict[str, str] = {}
        subject: dict[str, Any]
        if checkpoint is not None:
            precision = pick_precision(precision, processes.device)
            model = load_with_options(
                checkpoint, str(processes.device), times, selector, weights_vit, fusion, precision
            )
            size = model.config.image_size
            _check_fits(config, model, checkpoint)
            subject = {"checkpoint": str(checkpoint), **identify(checkpoint, times, selector, weights_vit, fusion)}
            subject |= {
                "precision": precision,
                "interpolation": model.interpolation.model_dump(),
                "vit": model.vit_config.model_dump(),
            }
        else:
            size = config.model.image_size
            subject = {"generated": str(generated)}
        # All that may be missing is asked for before hours of work.
        measures = make_measures(config.data, size, keypoints, identity, enlarge, lpips, processes.device)
        sources = find_clips(config.data, size).test[:limit]
        made = [] if generated is None else _match(sources, Path(generated), size)
        if processes.first:  # not before: a mistake in the options must not cost an earlier result
            remove_evaluation(folder)
        if checkpoint is not None:
            settings = {key: value for key, value in subject.items() if key != "checkpoint"}
            report = rebuild(
                model, settings, config.data, folder, processes, limit, times, batch_size, truncate=reference_protocol
            )
            l1, failed = {clip.name: clip.l1 for clip in report.clips}, dict(report.failed)
            sources = tuple(source for source in sources if source.name in l1)
            made = [_strip(folder, source.name, size) for source in sources]
        described = _describe(measures, lpips)
        outcomes = work_through(
            scoring_tasks(sources, made, size, measures, processes.device),
            folder / "scores",
            {"measures": described, "size": size, "data": _data_settings(config.data)},
            processes,
            partial(track, description="scoring"),
        )
        failed |= {outcome.name: outcome.error for outcome in outcomes if outcome.error is not None}
        clips = tuple(
            ClipResult(outcome.name, l1.get(outcome.name), read_errors(outcome.result))
            for outcome in outcomes
            if outcome.error is None
        )
        if not clips:
            raise DataError(f"none of {len(failed)} test videos can be scored: {next(iter(failed.values()))}")
        result = Evaluation(subject | {"image_size": size}, described, reference_protocol, clips, failed)
        _check_found(result, measures)
        if processes.first:
            write_evaluation(result, folder)
            print(result.table())
    return result


def _check_fits(config: Config, model: LAMI, checkpoint: str | Path) -> None:
    """Raises ConfigError if the configuration names another size or number of splines than the checkpoint has."""
    for key in config.model.model_fields_set & {"image_size", "num_splines", "points_per_spline"}:
        wanted, given = getattr(config.model, key), getattr(model.config, key)
        if wanted != given:
            raise ConfigError(
                f"{checkpoint} has model.{key} {given} and the configuration {wanted}; use the configuration that it "
                "was trained with"
            )


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


def _describe(measures: Measures, lpips: str | None) -> dict[str, Any]:
    """Which estimators measured, in which versions."""
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


def _match(sources: Sequence[ClipSource], folder: Path, size: tuple[int, int]) -> list[ClipSource]:
    """The generated clip of each test video, by the name up to the first dot."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder} of generated videos, check the path")
    generated, real = _by_name(list_clips(folder, size), folder), _by_name(sources, Path("the test set"))
    if missing := [name for name in real if name not in generated]:
        raise DataError(
            f"{folder} has nothing for {len(missing)} of {len(real)} test videos, the first is {missing[0]}; generate "
            "a clip for each, named as the test video up to the first dot"
        )
    return [generated[name] for name in real]


def _by_name(clips: Sequence[ClipSource], where: Path) -> dict[str, ClipSource]:
    named: dict[str, ClipSource] = {}
    for clip in clips:
        name = clip.name.partition(".")[0]
        if name in named:
            raise DataError(
                f"{named[name].name} and {clip.name} of {where} are the same up to the first dot, rename one"
            )
        named[name] = clip
    return named


def _check_found(result: Evaluation, measures: Measures) -> None:
    means = result.means
    if measures.keypoints is not None and means.real_without_keypoints == 1:
        raise DataError(
            f"{measures.keypoints.name} finds no keypoints in any of {means.frames} real frames; enlarge the frames, "
            "or choose an estimator for what they show"
        )
    if measures.identity is not None and means.without_identity == 1:
        raise DataError(
            f"{measures.identity.name} finds nobody in any of {means.frames} pairs of frames; enlarge the frames, "
            "or choose an estimator for what they show"
        )
