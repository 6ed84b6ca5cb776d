"""`lami weights`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from lami.cli.options import parse
from lami.cli.subcommands import dispatch

if TYPE_CHECKING:
    from lami.weights import WeightFile, WeightReport

_LIST = "list the weights in the package and in the cache of the hub"
_PATH = "print where a weight file is, for scripts; never downloads"
_GET = "download a model from the hub, verify it and print its path"
_VERIFY = "read all of a weight file, and say what is in it or what is wrong"

Name = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="NAME|HUB_ID|FILE")]]
Revision = Annotated[str | None, tyro.conf.arg(metavar="NAME")]

_SHARES = (0.5, 0.95, 0.99)
"""Of training pairs, for whose pose distances a report has a figure each."""


@dataclass
class ListOptions:
    pass


@dataclass
class PathOptions:
    name: Name
    """A file, a folder with a model.safetensors, a name of packaged weights, or OWNER/NAME on the hub."""
    revision: Revision = None
    """Branch, tag or commit on the hub; by default the main branch."""


@dataclass
class GetOptions:
    repo_id: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="HUB_ID")]]
    """OWNER/NAME on the hub; for private models log in with `hf auth login`."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=("-o",), metavar="FILE")] = None
    """Copy it to this file (.safetensors); by default it stays in the hub's cache."""
    revision: Revision = None
    """Branch, tag or commit; by default the main branch."""
    overwrite: bool = False
    """Replace an output that exists."""


@dataclass
class VerifyOptions:
    name: Name
    """A file, a folder with a model.safetensors, a name of packaged weights, or OWNER/NAME in the hub's cache."""
    sha256: Annotated[str | None, tyro.conf.arg(metavar="HEX")] = None
    """Digest that the file must have."""
    revision: Revision = None
    """Branch, tag or commit on the hub; by default the main branch."""


def main(arguments: list[str]) -> None:
    subcommands = {"list": (_LIST, _list), "path": (_PATH, _path), "get": (_GET, _get), "verify": (_VERIFY, _verify)}
    dispatch("weights", subcommands, arguments)


def _list(arguments: list[str]) -> None:
    parse(ListOptions, arguments, "weights list", f"{_LIST.capitalize()}.")

    from lami.weights import list_weights

    rows = [_row(file) for file in list_weights()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _row(file: WeightFile) -> tuple[str, ...]:
    return (
        file.name if file.revision is None else f"{file.name} --revision {file.revision}",
        " x ".join(map(str, file.image_size)) + ("" if file.purpose is None else f", {file.purpose}"),
        f"{file.parameters / 1e6:.1f} M parameters",
        _megabytes(file.bytes),
        str(file.path),
    )


def _path(arguments: list[str]) -> None:
    options = parse(PathOptions, arguments, "weights path", f"{_PATH.capitalize()}.")

    from lami.weights import find_weights

    print(find_weights(options.name, options.revision))


def _get(arguments: list[str]) -> None:
    options = parse(GetOptions, arguments, "weights get", f"{_GET.capitalize()}.")

    from lami.weights import get_weights

    print(get_weights(options.repo_id, options.output, options.revision, overwrite=options.overwrite))


def _verify(arguments: list[str]) -> None:
    options = parse(VerifyOptions, arguments, "weights verify", f"{_VERIFY.capitalize()}.")

    from lami.weights import find_weights, verify_weights

    facts = _facts(verify_weights(find_weights(options.name, options.revision), options.sha256))
    width = max(map(len, facts))
    for name, text in facts.items():
        print(f"{name:<{width}}  {text}")


def _facts(report: WeightReport) -> dict[str, str]:
    seen, poses = report.seen_poses, "not in the file"
    if seen is not None:
        poses = ", ".join(f"{share:.0%} below {seen.percentile(share):.2f}" for share in _SHARES)
    return {
        "file": str(report.path),
        "size": _megabytes(report.bytes),
        "sha256": report.sha256,
        "image size": "{} x {} (height x width)".format(*report.image_size),
        "thin-plate splines": f"{report.num_splines} of {report.points_per_spline} points",
        "parameters": f"{report.parameters:,}",
        "AVD network": "yes" if report.avd else "no",
        "background predictor": "yes" if report.background else "no",
        "pose distances in training": poses,
    }


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
