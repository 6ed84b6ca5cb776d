"""Scores of trained models, and of frames that any model has made."""

from lami.evaluation.metrics import FrameErrors, KeypointErrors, Means, compare_keypoints, summarize
from lami.evaluation.reconstruction import ClipScore, Report, reconstruct
from lami.evaluation.results import ClipResult, Evaluation
from lami.evaluation.run import evaluate

__all__ = [
    "ClipResult",
    "ClipScore",
    "Evaluation",
    "FrameErrors",
    "KeypointErrors",
    "Means",
    "Report",
    "compare_keypoints",
    "evaluate",
    "reconstruct",
    "summarize",
]
