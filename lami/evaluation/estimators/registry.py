"""The estimators by the names that the command line knows them by."""

from __future__ import annotations

from pathlib import Path

from lami.configs.schema import DataConfig
from lami.errors import ConfigError
from lami.evaluation.estimators.base import IdentityEstimator, KeypointEstimator
from lami.evaluation.estimators.enlarging import EnlargedIdentity, EnlargedKeypoints

KEYPOINT_ESTIMATORS: tuple[str, ...] = (
    "dlib",
    "mediapipe",
    "face-alignment",
    "figures",
    "precomputed:REAL_FILE,GENERATED_FILE",
)
IDENTITY_ESTIMATORS: tuple[str, ...] = ("dlib", "dlib-whole-frame", "precomputed:REAL_FILE,GENERATED_FILE")
_SEARCHING = ("dlib", "mediapipe", "face-alignment")
"""Those that search frames for what they measure, and may not find what is small."""


def make_keypoint_estimator(
    spec: str,
    config: DataConfig | None = None,
    image_size: tuple[int, int] | None = None,
    enlarge: int = 1,
    device: str = "auto",
) -> KeypointEstimator:
    """An estimator of `KEYPOINT_ESTIMATORS`; packages that it needs are imported here, not before.

    Args:
        spec: its name; that of `precomputed` goes on with two files (see `precomputed.py`).
        config: where the clips come from, and image_size: (height, width) of the frames; for `figures` only.
        enlarge: enlarge frames by this factor before detection; those that do not search frames ignore it.
        device: `auto`, `cpu`, `cuda` or `cuda:N`, for `face-alignment`; the others work on CPUs.

    Raises:
        ConfigError: no such estimator, a package is missing, or arguments do not go together.
        DataError: a file of `precomputed` cannot be used.
        WeightsUnavailableError: weights can neither be found nor downloaded.
    """
    name, files = _split(spec)
    estimator: KeypointEstimator
    match name:
        case "dlib":
            from lami.evaluation.estimators.dlib_faces import DlibLandmarks

            estimator = DlibLandmarks()
        case "mediapipe":
            from lami.evaluation.estimators.mediapipe_pose import MediaPipePose

            estimator = MediaPipePose()
        case "face-alignment":
            from lami.evaluation.estimators.face_alignment_points import FaceAlignmentPoints

            estimator = FaceAlignmentPoints(device)
        case "figures":
            from lami.evaluation.estimators.figures import FigurePoints

            if config is None or image_size is None:
                raise ConfigError("the estimator figures needs a configuration with data.synthetic, name one")
            estimator = FigurePoints(config, image_size)
        case "precomputed":
            from lami.evaluation.estimators.precomputed import PrecomputedKeypoints

            estimator = PrecomputedKeypoints(*files)
        case _:
            raise _unknown("keypoints", spec, KEYPOINT_ESTIMATORS)
    return EnlargedKeypoints(estimator, enlarge) if enlarge != 1 and name in _SEARCHING else estimator


def make_identity_estimator(spec: str, enlarge: int = 1) -> IdentityEstimator:
    """An estimator of `IDENTITY_ESTIMATORS`; arguments and errors as in `make_keypoint_estimator`."""
    name, files = _split(spec)
    estimator: IdentityEstimator
    match name:
        case "dlib" | "dlib-whole-frame":
            from lami.evaluation.estimators.dlib_faces import DlibIdentity

            estimator = DlibIdentity(aligned=name == "dlib")
        case "precomputed":
            from lami.evaluation.estimators.precomputed import PrecomputedIdentity

            estimator = PrecomputedIdentity(*files)
        case _:
            raise _unknown("identity", spec, IDENTITY_ESTIMATORS)
    return EnlargedIdentity(estimator, enlarge) if enlarge != 1 and name in _SEARCHING else estimator


def _split(spec: str) -> tuple[str, tuple[Path, ...]]:
    """Name and files; there are two files for `precomputed` and none otherwise."""
    name, colon, rest = spec.partition(":")
    if name != "precomputed":
        return spec, ()
    files = rest.split(",")
    if not colon or len(files) != 2 or not all(files):
        raise ConfigError(f"{spec!r} does not name two files, write precomputed:REAL_FILE,GENERATED_FILE")
    return name, tuple(Path(file) for file in files)


def _unknown(what: str, spec: str, known: tuple[str, ...]) -> ConfigError:
    return ConfigError(f"there is no estimator of {what} called {spec!r}, take one of {', '.join(known)}")
