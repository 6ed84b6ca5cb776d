"""`lami animate`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from lami.cli.options import Checkpoint, Output, check_complete, parse
from lami.errors import ConfigError


@dataclass
class AnimateOptions:
    checkpoint: Checkpoint
    """Trained model."""
    output: Output
    """Video to write (.mp4, .gif, ...), or an image where `driving` is one; with `pairs` or patterns a folder."""
    source: Annotated[Path | None, tyro.conf.arg(metavar="IMAGE")] = None
    """Image whose object shall move, or a quoted pattern such as 'people/*.jpg' for several."""
    driving: Annotated[Path | None, tyro.conf.arg(metavar="VIDEO")] = None
    """Video (or folder of frames, or image) that shows the motion, a quoted pattern such as 'clips/*.mp4', or webcam,
    or webcam:N for another camera."""
    pairs: Annotated[Path | None, tyro.conf.arg(metavar="CSV")] = None
    """Instead of source and driving, a list of them: a table with the columns source,driving and perhaps output."""
    mode: Literal["relative", "absolute", "avd"] = "relative"
    """relative: the change since the first driving frame; absolute: its pose; avd: its pose in the source's shape."""
    strength: float = 1.0
    """How far the source moves: 0 not at all, 1 as driven, 1.5 exaggerates."""
    smooth: bool = False
    """Take the trembling out of the driving keypoints (1 euro filter)."""
    times: Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="T ...")] = None
    """Candidate times, 0 at the source's pose and 1 at the driving one; by default the checkpoint's."""
    selector: Annotated[Literal["eq4", "fixed", "random"] | None, tyro.conf.arg(metavar="{eq4,fixed,random}")] = None
    """How one of the candidates is chosen; by default as in the checkpoint."""
    granularity: Literal["frame", "clip", "hysteresis"] = "frame"
    """Choose for each frame, once for the clip, or for each frame with a reluctance to change, which flickers less."""
    best_frame: bool = False
    """Mode relative: measure motion from the driving frame nearest to the source's pose, instead of the first."""
    audio: Literal["driving", "none"] = "driving"
    """Keep the sound of the driving video, or none."""
    fps: Annotated[str, tyro.conf.arg(metavar="keep|N")] = "keep"
    """Frames a second of the result, as 25 or 30000/1001; keep takes all driving frames when they come."""
    size: Literal["model", "source", "source-detail"] = "model"
    """Frames as large as the model makes them, enlarged to the source's size, or so with the source's own detail."""
    batch_size: int = 8
    """Frames computed at once."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the networks; auto is bf16 where the processor or GPU is made for it. Coordinates stay in fp32."""
    weights_vit: Annotated[str | None, tyro.conf.arg(metavar="pretrained|FILE|random")] = None
    """Weights of the selector's transformer; by default as in the checkpoint."""
    fusion: Annotated[Literal["none", "occlusion", "mean"] | None, tyro.conf.arg(metavar="{none,occlusion,mean}")] = (
        None
    )
    """Reach the driving pose from the interpolated image (none), or from it and the source; as in the checkpoint."""
    save_panel: Annotated[Path | None, tyro.conf.arg(metavar="IMAGE")] = None
    """Also write a picture of what is generated between source and driving pose, of a few frames."""
    save_chain: Annotated[Path | None, tyro.conf.arg(metavar="IMAGE|VIDEO")] = None
    """The same of the frame that is moved farthest (.png), or of all frames (.mp4)."""
    seconds: Annotated[float | None, tyro.conf.arg(metavar="N")] = None
    """With a webcam: end after this time; by default Ctrl-C does."""
    show: bool = False
    """With a webcam: also show the result in a window; Escape ends it."""
    overwrite: bool = False
    """Replace an output that exists; lists need no such leave for what they made themselves."""


_NOT_LIVE = ("best_frame", "audio", "fps", "batch_size", "save_panel", "save_chain")


def main(arguments: list[str]) -> None:
    options = parse(AnimateOptions, arguments, "animate", "Move the object of an image as a driving video does.")

    chosen = asdict(options)
    pairs = chosen.pop("pairs")
    given = [path is not None for path in (options.source, options.driving)]
    if any(given) if pairs is not None else not all(given):
        raise ConfigError("say what to animate: --source IMAGE and --driving VIDEO, or --pairs CSV")

    from lami.animation import Smoothing, animate_file, animate_live, animate_pairs
    from lami.data import Webcam, camera_number, is_pattern, match_pairs

    chosen["smoothing"] = Smoothing() if chosen.pop("smooth") else None
    if options.driving is not None and (number := camera_number(options.driving)) is not None:
        _leave_out(chosen, "a webcam is animated as it records", _NOT_LIVE)
        animate_live(camera=Webcam(number), **{name: chosen[name] for name in chosen if name != "driving"})
        return
    _leave_out(chosen, "a file has its own end and needs no window", ("seconds", "show"))
    if options.source is not None and options.driving is not None:
        if not (is_pattern(options.source) or is_pattern(options.driving)):
            animate_file(**chosen)
            return
        pairs = match_pairs(options.source, options.driving)
    _leave_out(chosen, "one picture cannot show several pairs", ("save_panel", "save_chain"))
    if options.overwrite:
        raise ConfigError("a list makes anew what is stale and keeps the rest; leave out --overwrite")
    for name in ("source", "driving", "overwrite"):
        del chosen[name]
    rows = animate_pairs(pairs=pairs, **chosen)
    failed = {row.output: row.error for row in rows if row.error is not None}
    check_complete(failed, len(rows), options.output / "report.json")


def _leave_out(chosen: dict[str, Any], why: str, names: Iterable[str]) -> None:
    """Take options away that have no meaning here; raises ConfigError where one is given."""
    for name in names:
        if chosen.pop(name) != getattr(AnimateOptions, name):
            raise ConfigError(f"{why}; leave out --{name.replace('_', '-')}")
