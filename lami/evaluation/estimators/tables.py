"""Files of keypoints and embeddings, one entry a frame.

`.csv` files start with a header:

- keypoints: `clip,frame,point,x,y` or `clip,frame,point,x,y,present`. Points are numbered from 0, and a frame has all
  of them or none. x and y are pixels of the frame, pixel centres at integers; present is 1 or 0, and where it is 0, x
  and y may be empty.
- embeddings: `clip,frame` and a column a component, of any name. A row of empty components: nobody was found.

`.npz` files hold arrays with one row a frame, no pickles:

- keypoints: `clip` (F,) strings, `frame` (F,) integers, `points` (F, P, 2), and if wanted `present` (F, P) bool and
  `labels` (P,) strings. A point of NaN is absent.
- embeddings: `clip`, `frame`, and `embeddings` (F, D). A row of NaN: nobody was found.

Frames are numbered from 0. A frame that is not in the file is one in which nothing was found. A clip has at least one
entry, and the name that it has in the data set, with or without suffix.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lami.data.files import check_readable
from lami.data.images import IMAGE_SUFFIXES
from lami.data.video import VIDEO_SUFFIXES
from lami.errors import DataError

_KEYPOINT_COLUMNS = ["clip", "frame", "point", "x", "y"]


@dataclass(frozen=True)
class FrameTable:
    """Values of frames; what is absent is NaN.

    Raises:
        DataError: a frame comes twice, or a value is infinite.
    """

    path: Path
    frames: Sequence[tuple[str, int]]
    """Clip and number of each of F frames."""
    values: np.ndarray
    """(F, P, 2) points or (F, D) embeddings, float64."""
    labels: tuple[str, ...] = ()
    _index: dict[tuple[str, int], int] = field(init=False)
    _clips: set[str] = field(init=False)

    def __post_init__(self) -> None:
        index = {frame: n for n, frame in enumerate(self.frames)}
        if len(index) < len(self.frames):
            clip, number = next(frame for n, frame in enumerate(self.frames) if index[frame] != n)
            raise DataError(f"{self.path} has frame {number} of {clip} twice, remove one of them")
        # Either all components of a point or an embedding are numbers, or none is.
        known = np.isfinite(self.values)
        partly = (known.any(axis=-1) & ~known.all(axis=-1)) | np.isinf(self.values).any(axis=-1)
        if partly.any():
            clip, number = self.frames[int(np.argwhere(partly)[0][0])]
            raise DataError(f"{self.path} has values in frame {number} of {clip} that are not finite, correct them")
        object.__setattr__(self, "_index", index)
        object.__setattr__(self, "_clips", {clip for clip, _ in index})

    def row(self, clip: str, number: int) -> np.ndarray | None:
        """Values of a frame, None if the file lacks it.

        Raises:
            DataError: the file lacks the whole clip.
        """
        path = Path(clip)
        names = (clip, path.stem) if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES else (clip,)
        known = next((name for name in names if name in self._clips), None)
        if known is None:
            raise DataError(
                f"{self.path} has no entry for the clip {clip}, add at least one, if only to say that nothing was found"
            )
        n = self._index.get((known, number))
        return None if n is None else self.values[n]


def read_keypoints(path: Path) -> FrameTable:
    """Points of a `.csv` or `.npz` file. Raises `DataError` if it is not as described at the top of this module."""
    if not _is_csv(path):
        arrays = _read_npz(path, "points")
        points = arrays["points"]
        if points.ndim != 3 or points.shape[2] != 2:
            raise DataError(f"the array points of {path} must be (frames, points, 2), not {points.shape}, correct it")
        present = arrays.get("present", np.ones(points.shape[:2], dtype=bool))
        labels = tuple(str(label) for label in arrays.get("labels", ()))
        if (
            present.dtype.kind not in "biu"
            or present.shape != points.shape[:2]
            or len(labels) not in (0, points.shape[1])
        ):
            raise DataError(f"the arrays present and labels of {path} do not fit its points {points.shape}")
        return FrameTable(path, _frames(path, arrays, "points"), np.where(present[..., None], points, np.nan), labels)
    return _read_keypoint_lines(path)


def _read_keypoint_lines(path: Path) -> FrameTable:
    frames: dict[tuple[str, int], dict[int, tuple[float, float]]] = {}
    for line, row in _read_csv(path, (_KEYPOINT_COLUMNS, [*_KEYPOINT_COLUMNS, "present"])):
        clip, frame, point, x, y, present = [*row, "1"][:6]
        if present not in ("0", "1"):
            raise DataError(f"line {line} of {path} has {present!r} for present, write 1 or 0")
        points = frames.setdefault((clip, _count(path, line, "frame", frame)), {})
        number = _count(path, line, "point", point)
        if number in points:
            raise DataError(f"line {line} of {path} gives point {number} of frame {frame} of {clip} again, remove it")
        absent = present == "0"
        points[number] = (np.nan, np.nan) if absent else (_number(path, line, x), _number(path, line, y))
    count = 1 + max(max(points) for points in frames.values())
    for (clip, n), points in frames.items():
        if len(points) != count:
            raise DataError(
                f"{path} has {len(points)} of {count} points in frame {n} of {clip}, give all points of a frame and "
                "mark the missing ones with present 0"
            )
    return FrameTable(path, list(frames), np.array([[p[n] for n in range(count)] for p in frames.values()]))


def read_embeddings(path: Path) -> FrameTable:
    """Embeddings of a `.csv` or `.npz` file. Raises `DataError` if it is not as described at the top of this module."""
    if not _is_csv(path):
        arrays = _read_npz(path, "embeddings")
        if arrays["embeddings"].ndim != 2:
            shape = arrays["embeddings"].shape
            raise DataError(f"the array embeddings of {path} must be (frames, components), not {shape}, correct it")
        return FrameTable(path, _frames(path, arrays, "embeddings"), arrays["embeddings"])
    frames, vectors = [], []
    for line, (clip, frame, *components) in _read_csv(path, None):
        frames.append((clip, _count(path, line, "frame", frame)))
        found = any(components)
        vectors.append([_number(path, line, value) if found else np.nan for value in components])
    return FrameTable(path, frames, np.array(vectors))


def _is_csv(path: Path) -> bool:
    check_readable(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".npz"):
        raise DataError(f"{path} is neither .csv nor .npz, write one of these")
    return suffix == ".csv"


def _read_csv(path: Path, headers: Sequence[list[str]] | None) -> Iterator[tuple[int, list[str]]]:
    """Lines below the header with their numbers; without `headers` it is clip,frame and one column or more."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.reader(file)
            header = next(table, [])
            known = header[:2] == ["clip", "frame"] and len(header) > 2 if headers is None else header in headers
            if not known:
                wanted = " or ".join(map(",".join, headers or [["clip", "frame", "0", "1", "..."]]))
                raise DataError(f"{path} starts with {','.join(header)!r}, its first line must be {wanted}")
            lines = 0
            for row in table:
                if len(row) != len(header):
                    raise DataError(
                        f"line {table.line_num} of {path} has {len(row)} columns instead of {len(header)}, correct it"
                    )
                lines += 1
                yield table.line_num, row
            if not lines:
                raise DataError(f"{path} has a header only, add lines for the frames")
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file ({error}), save it as comma-separated text in UTF-8") from error


def _count(path: Path, line: int, column: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise DataError(f"line {line} of {path} has {text!r} for {column}, write a number from 0")
    return int(text)


def _number(path: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise DataError(f"line {line} of {path} has {text!r} where a finite number belongs, correct it")
    return value


def _read_npz(path: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays, with `clip`, `frame` and `name` among them, the latter as float64."""
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:  # of many kinds: zipfile, zlib and numpy each have their own for damaged bytes
        raise DataError(f"{path} is not a .npz file without pickles ({error}), write it with numpy.savez") from error
    missing = [key for key in ("clip", "frame", name) if key not in arrays]
    if missing:
        raise DataError(f"{path} has no array {missing[0]!r}, it needs clip, frame and {name}")
    if arrays[name].dtype.kind not in "fiu":
        raise DataError(f"the array {name} of {path} must hold numbers, not {arrays[name].dtype}, correct it")
    if not arrays[name].size:
        raise DataError(f"the array {name} of {path} is empty, add the frames")
    return arrays | {name: arrays[name].astype(np.float64)}


def _frames(path: Path, arrays: Mapping[str, np.ndarray], name: str) -> list[tuple[str, int]]:
    clip, frame = arrays["clip"], arrays["frame"]
    if clip.dtype.kind != "U" or frame.dtype.kind not in "iu":
        raise DataError(f"in {path} clip must hold strings and frame integers, not {clip.dtype} and {frame.dtype}")
    if not clip.shape == frame.shape == arrays[name].shape[:1]:
        raise DataError(
            f"the arrays clip, frame and {name} of {path} must have one row a frame, make them equally long"
        )
    return list(zip(clip.tolist(), frame.tolist(), strict=True))
