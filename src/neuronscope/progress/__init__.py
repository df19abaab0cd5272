"""What a person sees while a neuron is being explained: displays that read `ProgressEvent`s and nothing else."""

from neuronscope.bars import in_notebook
from neuronscope.progress.choice import Listener, Progress, watching
from neuronscope.progress.notebook import NotebookProgress
from neuronscope.progress.terminal import GraphProgress

__all__ = [
    "GraphProgress",
    "Listener",
    "NotebookProgress",
    "Progress",
    "in_notebook",
    "watching",
]
