"""Tables and plots of the latest results on each device: `python -m benchmarks.report`.

Tables go into benchmarks/README.md between marks that name them; those of the ops with all cases also into a file
beside the run's. With `--check` nothing is written, and the exit code is 1 if something is not what it would write.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import system
from benchmarks.ops import tables
from benchmarks.ops.results import FOLDER, ROOT, Run

README = ROOT / "benchmarks" / "README.md"
BEGIN, END = "<!-- begin {}: made by python -m benchmarks.report -->", "<!-- end {} -->"


def latest(folder: Path) -> list[Path]:
    """The newest run of the ops on each device, of whatever version; names begin with the date."""
    newest: dict[str, Path] = {}
    for path in sorted(folder.glob("*/*/ops/*.json"), key=lambda path: path.name):
        newest[path.relative_to(folder).parts[0]] = path
    return [newest[device] for device in sorted(newest)]


def ops(folder: Path, readme: Path) -> str:
    """The latest run of each device, with a link to all its cases."""
    sections = []
    for path in latest(folder):
        run = Run.model_validate_json(path.read_text())
        everything = path.with_suffix(".md").relative_to(readme.parent)
        link = f"All cases: [{everything.name}]({everything.as_posix()})."
        sections.append(f"{tables.section(run, path.relative_to(readme.parent).as_posix())}\n\n{link}")
    return "\n\n".join(sections) or "Not measured yet."


SECTIONS: Mapping[str, Callable[[Path, Path], str]] = {
    "ops": ops,
    "ablation": system.ablation,
    "training": system.training,
    "animation": system.animation,
    "data": system.data,
}
"""What is between the marks of a name."""


def texts(readme: Path, folder: Path) -> dict[Path, str]:
    """What each file that is made from results has to hold."""
    text = readme.read_text()
    for name, tell in SECTIONS.items():
        begin, end = BEGIN.format(name), END.format(name)
        section = f"{begin}\n\n{tell(folder, readme)}\n\n{end}"
        marks = f"{re.escape(begin)}.*?{re.escape(end)}"
        text, count = re.subn(marks, lambda _, made=section: made, text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{readme} must have the marks {begin} and {end} once; put them where the tables belong")
    everything = {
        path.with_suffix(".md"): tables.everything(Run.model_validate_json(path.read_text()), path.name)
        for path in latest(folder)
    }
    return everything | {readme: text}


def plots(path: Path) -> list[Path]:
    """The pictures of a run of the ops."""
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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if files are not current")
    if parser.parse_args(arguments).check:
        if stale := check(readme, folder):
            print(
                f"not made from the latest results: {', '.join(stale)}; run python -m benchmarks.report",
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
