"""Weight files: those in the package, those in the cache of the Hugging Face Hub, and whether a file is undamaged.

Listing and finding files import no torch.
"""

from lami.weights.download import get_weights
from lami.weights.inventory import WeightFile, find_weights, list_weights
from lami.weights.verification import WeightReport, verify_weights

__all__ = ["WeightFile", "WeightReport", "find_weights", "get_weights", "list_weights", "verify_weights"]
