"""Estimators of keypoints and identity, with which generated frames are compared with real ones."""

from lami.evaluation.estimators.base import Frame, IdentityEstimator, KeypointEstimator, Keypoints
from lami.evaluation.estimators.enlarging import EnlargedKeypoints
from lami.evaluation.estimators.registry import (
    IDENTITY_ESTIMATORS,
    KEYPOINT_ESTIMATORS,
    make_identity_estimator,
    make_keypoint_estimator,
)

__all__ = [
    "IDENTITY_ESTIMATORS",
    "KEYPOINT_ESTIMATORS",
    "EnlargedKeypoints",
    "Frame",
    "IdentityEstimator",
    "KeypointEstimator",
    "Keypoints",
    "make_identity_estimator",
    "make_keypoint_estimator",
]
