"""Lists of source and driving videos that belong together."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from lami.data.files import check_readable
from lami.errors import DataError


class Pair(NamedTuple):
    source: Path
    driving: Path


def read_pairs(path: str | Path, root: str | Path | None = None) -> tuple[Pair, ...]:
    """Read a CSV with columns `source` and `driving`; further columns, as in FOMM's lists, are ignored.

    Relative names are looked up in `root`, by default the folder of the CSV.
    Raises `DataError` for a missing file or column, no rows, and names that do not exist.
    """
    path = Path(path)
    check_readable(path)
    folder = path.parent if root is None else Path(root)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            for column in Pair._fields:
                if column not in (table.fieldnames or ()):
                    raise DataError(
                        f"{path} has no column '{column}', name the columns source,driving in the first line"
                    )
            return _checked(path, table, folder)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file ({error}), save it as comma-separated text in UTF-8") from error


def _checked(path: Path, table: csv.DictReader[str], folder: Path) -> tuple[Pair, ...]:
    pairs = []
    for row in table:
        pair = Pair(*(folder / (row[column] or "") for column in Pair._fields))
        for column, member in zip(Pair._fields, pair, strict=True):
            if not row[column] or not member.exists():
                raise DataError(f"line {table.line_num} of {path}: {column} {member} does not exist, correct the name")
        pairs.append(pair)
    if not pairs:
        raise DataError(f"{path} lists no pairs, add lines with a source and a driving video")
    return tuple(pairs)
