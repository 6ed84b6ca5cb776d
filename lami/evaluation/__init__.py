"""Scores of a trained model."""

from lami.evaluation.reconstruction import ClipScore, Report, reconstruct

__all__ = ["ClipScore", "Report", "reconstruct"]
