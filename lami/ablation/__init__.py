"""Training and evaluating variants of a configuration side by side."""

from lami.ablation.measurement import Measurement
from lami.ablation.run import ablate
from lami.ablation.study import Row, Study, load_study

__all__ = ["Measurement", "Row", "Study", "ablate", "load_study"]
