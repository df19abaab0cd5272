"""NeuronScope finds what a neuron of a language model responds to: every meaning, each with a held-out score."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any
from warnings import filterwarnings

if TYPE_CHECKING:
    from neuronscope.config import ExplainConfig
    from neuronscope.corpus.documents import Document, Turn
    from neuronscope.corpus.mixtures import mix
    from neuronscope.engine.ray import RayEngine
    from neuronscope.errors import (
        BudgetExceededError,
        ConfigurationError,
        CorpusError,
        LLMError,
        NeuronScopeError,
        ResultError,
        SimulatorError,
        StoreError,
        SubjectError,
    )
    from neuronscope.evaluation import aevaluate, evaluate
    from neuronscope.events import ProgressEvent
    from neuronscope.exemplars.collector import collect_exemplars
    from neuronscope.exemplars.store import ExemplarStore, open_store
    from neuronscope.explain import aexplain_neuron, aexplain_neurons, explain_neuron, explain_neurons
    from neuronscope.llm.budget import Budget
    from neuronscope.protocols import Simulator, Subject
    from neuronscope.result import Attempt, Cluster, Excerpt, Mode, NeuronExplanation
    from neuronscope.runs.equipment import make_instruments
    from neuronscope.runs.many import arun, run
    from neuronscope.runs.spec import RunSpec, Selection
    from neuronscope.scoring.evaluation.table import Evaluation, Measurement
    from neuronscope.subject.loading import load_subject
    from neuronscope.units import Exemplar, Neuron

_HOME = {
    "neuronscope.config": ["ExplainConfig"],
    "neuronscope.corpus.documents": ["Document", "Turn"],
    "neuronscope.corpus.mixtures": ["mix"],
    "neuronscope.engine.ray": ["RayEngine"],
    "neuronscope.errors": [
        "BudgetExceededError",
        "ConfigurationError",
        "CorpusError",
        "LLMError",
        "NeuronScopeError",
        "ResultError",
        "SimulatorError",
        "StoreError",
        "SubjectError",
    ],
    "neuronscope.evaluation": ["aevaluate", "evaluate"],
    "neuronscope.exemplars.collector": ["collect_exemplars"],
    "neuronscope.exemplars.store": ["ExemplarStore", "open_store"],
    "neuronscope.events": ["ProgressEvent"],
    "neuronscope.explain": [
        "aexplain_neuron",
        "aexplain_neurons",
        "explain_neuron",
        "explain_neurons",
        "make_instruments",
    ],
    "neuronscope.llm.budget": ["Budget"],
    "neuronscope.protocols": ["Simulator", "Subject"],
    "neuronscope.result": ["Attempt", "Cluster", "Excerpt", "Mode", "NeuronExplanation"],
    "neuronscope.runs.equipment": ["make_instruments"],
    "neuronscope.runs.many": ["arun", "run"],
    "neuronscope.runs.spec": ["RunSpec", "Selection"],
    "neuronscope.scoring.evaluation.table": ["Evaluation", "Measurement"],
    "neuronscope.subject.loading": ["load_subject"],
    "neuronscope.units": ["Exemplar", "Neuron"],
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Attempt",
    "Budget",
    "BudgetExceededError",
    "Cluster",
    "ConfigurationError",
    "CorpusError",
    "Document",
    "Evaluation",
    "Excerpt",
    "Exemplar",
    "ExemplarStore",
    "ExplainConfig",
    "LLMError",
    "Measurement",
    "Mode",
    "Neuron",
    "NeuronExplanation",
    "NeuronScopeError",
    "ProgressEvent",
    "RayEngine",
    "ResultError",
    "RunSpec",
    "Selection",
    "Simulator",
    "SimulatorError",
    "StoreError",
    "Subject",
    "SubjectError",
    "Turn",
    "aevaluate",
    "aexplain_neuron",
    "aexplain_neurons",
    "arun",
    "collect_exemplars",
    "evaluate",
    "explain_neuron",
    "explain_neurons",
    "load_subject",
    "make_instruments",
    "mix",
    "open_store",
    "run",
]

if "IPython" in sys.modules:  # of tqdm's widgets, which libraries below import and nothing here needs
    filterwarnings("ignore", message="IProgress not found")


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that importing the package stays fast."""
    if name == "__version__":
        from importlib.metadata import version

        return version("neuronscope")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'neuronscope' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
