"""Training a simulator of one's own: from explanations and exemplars to what `FinetunedSimulator` loads."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuronscope.simulators.training.material import ExplainedNeuron, read_jsonl, read_results
    from neuronscope.simulators.training.report import HeldOutNeuron, TrainingReport
    from neuronscope.simulators.training.settings import TrainingSettings
    from neuronscope.simulators.training.train import train_simulator

_HOME = {
    "material": ["ExplainedNeuron", "read_jsonl", "read_results"],
    "report": ["HeldOutNeuron", "TrainingReport"],
    "settings": ["TrainingSettings"],
    "train": ["train_simulator"],
}
_MODULE_OF = {name: f"{__name__}.{module}" for module, names in _HOME.items() for name in names}

__all__ = [
    "ExplainedNeuron",
    "HeldOutNeuron",
    "TrainingReport",
    "TrainingSettings",
    "read_jsonl",
    "read_results",
    "train_simulator",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)
