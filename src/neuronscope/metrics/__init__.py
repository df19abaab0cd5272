"""How good an explanation is: predictions, scores with their intervals, and the table of them."""

from neuronscope.metrics.bootstrap import Estimate, Resampling
from neuronscope.metrics.correlation import Correlation, assign_exemplars, largest_errors, pearson, pearson_rows
from neuronscope.metrics.data import EvaluationData, Sequences
from neuronscope.metrics.halving import RungResult, successive_halving
from neuronscope.metrics.judge import Judge
from neuronscope.metrics.registry import metric
from neuronscope.metrics.scorer import Scorer
from neuronscope.metrics.table import Evaluation, Measurement

__all__ = [
    "Correlation",
    "Estimate",
    "Evaluation",
    "EvaluationData",
    "Judge",
    "Measurement",
    "Resampling",
    "RungResult",
    "Scorer",
    "Sequences",
    "assign_exemplars",
    "largest_errors",
    "metric",
    "pearson",
    "pearson_rows",
    "successive_halving",
]
