"""From explanations and exemplars to scores."""

from neuronscope.scoring.metrics import Correlation, assign_exemplars, largest_errors, pearson, pearson_rows
from neuronscope.scoring.racing import Standing, race
from neuronscope.scoring.scorer import Scorer

__all__ = [
    "Correlation",
    "Scorer",
    "Standing",
    "assign_exemplars",
    "largest_errors",
    "pearson",
    "pearson_rows",
    "race",
]
