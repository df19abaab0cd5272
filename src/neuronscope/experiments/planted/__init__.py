"""Neurons of which everything is known, and what methods find of them.

`neurons` is what a planted neuron does, `drawing` which ones are made, `units` those made of real ones, `worlds` either
with their exemplars, `meanings` the measures, `known` what methods are compared with, `comparison` the experiment.
"""

from neuronscope.experiments.planted.comparison import Found, compare, report
from neuronscope.experiments.planted.drawing import ConceptText, draw_planted
from neuronscope.experiments.planted.meanings import HeldOut, MeaningScores, match_meanings, score_meanings
from neuronscope.experiments.planted.neurons import Meaning, PlantedNeuron, PlantedSubject
from neuronscope.experiments.planted.units import PairSite, UnitPair, clear_units, pair_units
from neuronscope.experiments.planted.worlds import plant, plant_pairs

__all__ = [
    "ConceptText",
    "Found",
    "HeldOut",
    "Meaning",
    "MeaningScores",
    "PairSite",
    "PlantedNeuron",
    "PlantedSubject",
    "UnitPair",
    "clear_units",
    "compare",
    "draw_planted",
    "match_meanings",
    "pair_units",
    "plant",
    "plant_pairs",
    "report",
    "score_meanings",
]
