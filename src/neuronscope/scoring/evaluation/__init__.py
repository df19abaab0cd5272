"""How good an explanation is by more than one number: metrics, their intervals, and the table of them."""

from neuronscope.scoring.evaluation.judged import Judge
from neuronscope.scoring.evaluation.material import Material, Sequences
from neuronscope.scoring.evaluation.resampling import Estimate, Resampling
from neuronscope.scoring.evaluation.table import Evaluation, Measurement

__all__ = ["Estimate", "Evaluation", "Judge", "Material", "Measurement", "Resampling", "Sequences"]
