"""Tables and plots of the latest run on each device: `python -m benchmarks.ops.report`.

The tables go into benchmarks/README.md between two marks, and into a file beside the run's, with all cases. With
`--check` nothing is written, and the exit code is 1 if something is not what it would write.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.ops import tables
from benchmarks.ops.results import FOLDER, ROOT, Run

README = ROOT / "benchmarks" / "README.md"
BEGIN, END = "<!-- begin: made by python -m benchmarks.ops.report -->", "<!-- end -->"


def latest(folder: Path) -> list[Path]:
    """The newest file of each device, of whatever version; names begin with the date."""
    newest: dict[str, Path] = {}
    for path in sorted(folder.glob("*/*/ops/*.json"), key=lambda path: path.name):
        newest[path.relative_to(folder).parts[0]] = path
    return [newest[device] for device in sorted(newest)]


def texts(readme: Path, folder: Path) -> dict[Path, str]:
    """What each file that is made from results has to hold."""
    sections, made = [], {}
    for path in latest(folder):
        run = Run.model_validate_json(path.read_text())
        source = path.relative_to(readme.parent).as_posix()
        everything = path.with_suffix(".md")
        link = f"All cases: [{everything.name}]({everything.relative_to(readme.parent).as_posix()})."
        sections.append(f"{tables.section(run, source)}\n\n{link}")
        made[everything] = tables.everything(run, path.name)
    head, rest = readme.read_text().split(BEGIN)
    tail = rest.split(END, maxsplit=1)[1]
    return made | {readme: f"{head}{BEGIN}\n\n" + "\n\n".join([*sections, END]) + tail}


def plots(path: Path) -> list[Path]:
    """The pictures of a run."""
    return [path.with_suffix(".png"), *(path.with_name(f"{path.stem}-{what}.png") for what in ("time", "memory"))]


def draw(path: Path) -> None:
    from benchmarks.ops import plots as drawn  # needs matplotlib, which checks do not

    run = Run.model_validate_json(path.read_text())
    ratios, time, memory = plots(path)
    drawn.ratios(run, ratios)
    drawn.growth(run, time, "Milliseconds", lambda each: each.time)
    drawn.growth(run, memory, "Peak bytes", lambda each: each.memory)


def check(readme: Path, folder: Path) -> list[str]:
    """Names of files that are not what they would be made; of pictures only whether they are there."""
    stale = [path for path, text in texts(readme, folder).items() if not path.is_file() or path.read_text() != text]
    stale += [picture for path in latest(folder) for picture in plots(path) if not picture.is_file()]
    return [path.relative_to(readme.parent).as_posix() for path in stale]


def main(arguments: Sequence[str] | None = None, readme: Path = README, folder: Path = FOLDER) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ops.report", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if files are not current")
    if parser.parse_args(arguments).check:
        if stale := check(readme, folder):
            print(
                f"not made from the latest results: {', '.join(stale)}; run python -m benchmarks.ops.report",
                file=sys.stderr,
            )
        return int(bool(stale))
    for path, text in texts(readme, folder).items():
        path.write_text(text)
    for path in latest(folder):
        try:
            draw(path)
        except ImportError:
            print("no plots: they need matplotlib (pip install 'lami[bench]')", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
