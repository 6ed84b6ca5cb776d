"""Images between source and driving pose: candidates (Eq. 1 to 3), the time selector (Eq. 4), the second stage."""

from lami.interpolation.background import interpolate_background
from lami.interpolation.candidates import generate_candidates
from lami.interpolation.selector import Hysteresis, eq4_cost, pick
from lami.interpolation.transfer import transfer_from

__all__ = [
    "Hysteresis",
    "eq4_cost",
    "generate_candidates",
    "interpolate_background",
    "pick",
    "transfer_from",
]
