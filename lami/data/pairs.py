"""Lists of source and driving videos that belong together."""

from __future__ import annotations

import csv
from glob import glob, has_magic
from itertools import product
from pathlib import Path
from typing import NamedTuple

from lami.data.files import check_readable, natural_key
from lami.errors import DataError

_COLUMNS = ("source", "driving")


class Pair(NamedTuple):
    """A row of a list of pairs: source and driving file, and the name of the output where the list says it."""

    source: Path
    driving: Path
    output: str | None = None
    """Name that the list gives to the result, if it has a column for it."""


def read_pairs(path: str | Path, root: str | Path | None = None, strict: bool = True) -> tuple[Pair, ...]:
    """Read a CSV with columns `source` and `driving`, and perhaps `output`; others, as in FOMM's lists, are ignored.

    Relative names are looked up in `root`, by default the folder of the CSV. Files that do not exist are an error;
    where `strict` is False only if no pair has both.
    Raises `DataError` for a missing file, column or name, and no rows.
    """
    path = Path(path)
    check_readable(path)
    folder = path.parent if root is None else Path(root)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            for column in _COLUMNS:
                if column not in (table.fieldnames or ()):
                    raise DataError(
                        f"{path} has no column '{column}', name the columns source,driving in the first line"
                    )
            return _checked(path, table, folder, strict)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file ({error}), save it as comma-separated text in UTF-8") from error


def is_pattern(path: Path) -> bool:
    """Whether a path stands for all files that match it, as `clips/*.mp4` does."""
    return has_magic(str(path)) and not path.exists()


def match_pairs(source: Path, driving: Path) -> tuple[Pair, ...]:
    """Every file that the first path or pattern names with every one that the second does.

    Raises:
        DataError: a pattern that nothing matches.
    """
    return tuple(Pair(*files) for files in product(_matches(source), _matches(driving)))


def _matches(path: Path) -> list[Path]:
    if not is_pattern(path):
        return [path]
    names = sorted(glob(str(path)), key=natural_key)
    if not names:
        raise DataError(f"{path} matches no file, correct the pattern")
    return [Path(name) for name in names]


def _checked(path: Path, table: csv.DictReader[str], folder: Path, strict: bool) -> tuple[Pair, ...]:
    pairs: list[Pair] = []
    missing: list[str] = []
    for row in table:
        for column in _COLUMNS:
            if not row[column]:
                raise DataError(f"line {table.line_num} of {path} names no {column}, fill it in")
        pair = Pair(folder / row["source"], folder / row["driving"], row.get("output") or None)
        for column, file in zip(_COLUMNS, (pair.source, pair.driving), strict=True):
            if not file.exists():
                missing.append(f"line {table.line_num} of {path}: {column} {file} does not exist, correct the name")
                break
        pairs.append(pair)
    if not pairs:
        raise DataError(f"{path} lists no pairs, add lines with a source and a driving video")
    if missing and (strict or len(missing) == len(pairs)):
        raise DataError(missing[0])
    return tuple(pairs)
