"""Animating images of any size with videos, from frames or from files."""

from lami.animation.animator import AnimatedFrame, Animator
from lami.animation.best_frame import find_best_frame
from lami.animation.crop import Box
from lami.animation.detail import SourceDetail
from lami.animation.files import animate_file
from lami.animation.letterbox import Letterbox
from lami.animation.live import animate_live
from lami.animation.modes import KeypointTransfer
from lami.animation.pairs import PairResult, animate_pairs
from lami.animation.panel import draw_panel
from lami.animation.pose import pose_distance
from lami.animation.prepared import Moved, PreparedSource
from lami.animation.smoothing import Smoothing

__all__ = [
    "AnimatedFrame",
    "Animator",
    "Box",
    "KeypointTransfer",
    "Letterbox",
    "Moved",
    "PairResult",
    "PreparedSource",
    "Smoothing",
    "SourceDetail",
    "animate_file",
    "animate_live",
    "animate_pairs",
    "draw_panel",
    "find_best_frame",
    "pose_distance",
]
