"""The public names, each written once: where it lives. `neuronscope` loads it on first use."""

from .cluster import RayEngine as RayEngine
from .config import ExplainConfig as ExplainConfig
from .corpus.documents import Document as Document
from .corpus.documents import Turn as Turn
from .corpus.mixtures import mix as mix
from .errors import BudgetExceededError as BudgetExceededError
from .errors import ConfigurationError as ConfigurationError
from .errors import CorpusError as CorpusError
from .errors import LLMError as LLMError
from .errors import NeuronScopeError as NeuronScopeError
from .errors import ResultError as ResultError
from .errors import SimulatorError as SimulatorError
from .errors import StoreError as StoreError
from .errors import SubjectError as SubjectError
from .evaluation import aevaluate as aevaluate
from .evaluation import evaluate as evaluate
from .events import ProgressEvent as ProgressEvent
from .exemplars.collect import collect_exemplars as collect_exemplars
from .exemplars.store import ExemplarStore as ExemplarStore
from .exemplars.store import open_store as open_store
from .explain import aexplain_neuron as aexplain_neuron
from .explain import aexplain_neurons as aexplain_neurons
from .explain import explain_neuron as explain_neuron
from .explain import explain_neurons as explain_neurons
from .interfaces import Simulator as Simulator
from .interfaces import Subject as Subject
from .llm.budget import Budget as Budget
from .metrics.table import Evaluation as Evaluation
from .metrics.table import Measurement as Measurement
from .results import Attempt as Attempt
from .results import Cluster as Cluster
from .results import Excerpt as Excerpt
from .results import Mode as Mode
from .results import NeuronExplanation as NeuronExplanation
from .runs.run import arun as arun
from .runs.run import run as run
from .runs.spec import RunSpec as RunSpec
from .runs.spec import Selection as Selection
from .session import make_instruments as make_instruments
from .subject.loading import load_subject as load_subject
from .types import Exemplar as Exemplar
from .types import Neuron as Neuron

__version__: str
