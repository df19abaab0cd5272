"""What a run is made of, once: `Setup`, and its settings, `ExplainConfig`. All options are derived from here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, field_validator

from neuronscope.interfaces import ExemplarSource, Simulator, Subject
from neuronscope.validation import NameOf, Settings

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseChatModel

    from neuronscope.events import ProgressEvent
    from neuronscope.llm.budget import Budget
    from neuronscope.neurons import AnyNeuron
    from neuronscope.session import Session

FEW_ATOMS = 6
"""Up to this many atoms HDBSCAN has too few points: on six it finds what belongs together less often than linkage."""

ACTIVATION_THRESHOLD = 0.25
"""A token counts as one on which the neuron is active above this share of its largest activation."""


class ExplainConfig(Settings):
    """How a neuron is explained. `ExplainConfig.paper()` has what the paper says of the method."""

    n_tokens: int = Field(250_000, ge=1)
    """Corpus tokens to collect exemplars from, when no store is given."""
    seq_len: int = Field(64, ge=8)
    """Tokens of a sequence, the model's BOS not counted."""
    n_train_exemplars: int = Field(20, ge=1)
    """Top train sequences that the Hypothesis Agent sees."""
    n_hypotheses: int = Field(3, ge=1)
    """Independent hypotheses (the paper's appendix G has three)."""
    vocabulary: bool = True
    """Show agents that ask a language model what the neuron does on every single token of the subject's vocabulary: one
    pass over it a layer, cached. With `prompts="extended"`, and a subject that is a model in this process."""
    heldout_top: int = Field(20, ge=1)
    """Top sequences of a held-out set."""
    heldout_random: int = Field(20, ge=0)
    """Random sequences of a held-out set."""
    corpus_ranked: int = Field(40, ge=0)
    """Test sequences below the top ones, of those that a store lists, from which the corpus score is estimated; 0
    estimates none."""
    corpus_random: int = Field(60, ge=0)
    """Test sequences that no list has, from which the corpus score is estimated; 0 estimates none."""
    null_explanations: int = Field(5, ge=0)
    """Explanations of other neurons that are scored on the neuron's test set, as the null of its joint score; 0 scores
    none."""
    max_modes: int | None = Field(8, ge=1)
    """At most this many modes are refined, those of the first clusters: as hypotheses name them, or with
    `clustering="embeddings"` the largest; None refines as many as there are clusters."""
    noise: Literal["drop", "keep"] = "drop"
    """What becomes of atoms that HDBSCAN leaves without a cluster: dropped as in the paper, or each a mode."""
    second_hypothesis: bool = True
    """Make a second hypothesis, from train exemplars that no mode explains; with `objective="joint"` only, which drops
    modes that add nothing."""
    prompts: Literal["extended", "paper"] = "extended"
    """The agents' prompts: the rules of the paper's appendix F with a worked example, a list of the marked words
    and advice on what the simulators read; or these rules alone, with every candidate an independent answer."""
    feedback: Literal["errors", "history"] = "errors"
    """What the Refinement Agent sees: the ranked history alone (paper, appendix F), or also the prediction errors."""
    objective: Literal["joint", "neuron", "mode"] = "joint"
    """What refinement optimises: the validation score of all modes together, each mode's own on the neuron's whole set
    (paper, appendix C), or each mode's own on the exemplars that belong to it (paper, equation 1)."""
    max_iterations: int = Field(5, ge=0)
    """Refinement iterations at most (paper, section 3.3)."""
    n_candidates: int = Field(8, ge=1)
    """Candidates per iteration (paper, appendix B)."""
    halving: bool = True
    """Score candidates by successive halving: on a few sequences first, where the worse are pruned, which about halves
    what is simulated."""
    probe_texts: bool = False
    """Let the Refinement Agent test explanations on texts that it writes: on some the neuron should be active, on
    others inactive."""
    edit: bool = True
    """Have a language model write the refined modes once more, as a whole, in at most four sentences; they are kept
    where three fifths of the joint validation score are. With `objective="joint"` and `prompts="extended"` only, and
    without `probe_texts`, which tries out sentences one by one."""
    min_improvement: float = Field(0.005, ge=0)
    """A smaller gain in validation score counts as none; with `objective="joint"` a language model's candidate has to
    gain twice the standard deviation of its gain, too."""
    patience: int | None = Field(1, ge=1)
    """Iterations without improvement after which refinement stops; None never stops early."""
    clustering: Literal["evidence", "embeddings"] = "evidence"
    """What makes atoms one mode, and which of them represents it: what they predict on train exemplars beside what they
    say, and the best score there; or what they say alone, and what is nearest the centroid (paper, appendix B)."""
    min_samples: int | None = Field(1, ge=1)
    """HDBSCAN's min_samples; None is the library's default."""
    few_atoms: int = Field(FEW_ATOMS, ge=0)
    """Up to this many atoms are grouped by average linkage alone; 0 asks HDBSCAN first however few there are."""
    temperature: float = Field(0.7, ge=0)
    """Sampling temperature of the hypotheses and candidates."""
    seed: int = 0
    """Seeds everything that is drawn."""
    max_concurrency: int = Field(16, ge=1)
    """Requests to one LLM backend that may be under way at the same time."""
    requests_per_second: float | None = Field(None, gt=0)
    """Requests to one LLM backend that may start per second; None is any number."""
    request_timeout: float = Field(300.0, gt=0)
    """Seconds after which an LLM request counts as failed, and is repeated."""
    cache_answers: bool = True
    """Keep the LLM's answers in the user's cache folder, and do not ask the same again."""

    @property
    def tells_as_a_whole(self) -> bool:
        """Whether a language model's modes are written once more, where there are several."""
        return self.edit and self.objective == "joint" and self.prompts == "extended" and not self.probe_texts

    @classmethod
    def paper(cls) -> ExplainConfig:
        """What the paper says of the method, as far as it can be said in settings.

        From the paper: HDBSCAN with a minimum cluster size of 2 and no other limit to how many clusters become modes
        (appendix B), the prompts (appendix F), the ranked history as the Refinement Agent's feedback (section 2.4),
        8 candidates in up to 5 iterations (appendix B), Pearson's r over a whole validation set (appendix C), and three
        hypotheses (as in the example of appendix G).

        The paper does not say these, so they are our choice: 20 top and 5 random sequences in a held-out set, 64 tokens
        in a sequence, 20 exemplars for a hypothesis, the temperature, and that a refinement takes all its iterations.
        Its models and corpora are in `Setup.paper`.
        """
        return cls(
            heldout_random=5,
            corpus_ranked=0,
            corpus_random=0,
            null_explanations=0,
            max_modes=None,
            second_hypothesis=False,
            prompts="paper",
            feedback="history",
            objective="neuron",
            halving=False,
            edit=False,
            patience=None,
            clustering="embeddings",
            min_samples=None,
            few_atoms=0,
        )


def _name_or_agents(value: object) -> str:
    return "<agents>" if isinstance(value, dict) else "<name>"


Progress: TypeAlias = "bool | Callable[[ProgressEvent], object] | None"
"""A display or none; None is what fits where the program runs; or a function that gets every `ProgressEvent`."""

if TYPE_CHECKING:  # what the fields take; their libraries are imported where the objects are used
    AnySubject: TypeAlias = str | os.PathLike[str] | tuple[object, object] | Subject
    AnyCorpus: TypeAlias = str | os.PathLike[str] | Iterable[object]
    AnyStore: TypeAlias = str | os.PathLike[str] | ExemplarSource
    LLMs: TypeAlias = str | BaseChatModel | Mapping[str, str | BaseChatModel]
    AnyBudget: TypeAlias = str | Budget
    AnyEmbeddings: TypeAlias = str | Embeddings
    AnySimulator: TypeAlias = str | Simulator
else:
    Named: TypeAlias = Annotated[Any, NameOf(str)]
    AnySubject = AnyCorpus = AnyStore = AnyBudget = AnyEmbeddings = AnySimulator = Named
    ModelNames = Annotated[
        Annotated[str, Tag("<name>")] | Annotated[dict[str, str], Tag("<agents>")], Discriminator(_name_or_agents)
    ]
    LLMs = Annotated[Any, NameOf(ModelNames)]


class Setup(Settings):
    """What a run is made of: `Setup(subject="smollm2-135m", llm="offline").open(layers=[9])` is a `Session`.

    A field takes a name, as JSON and the command line have it, or the object itself. Nothing is looked up, loaded or
    reached before `open`.

    Raises:
        ConfigurationError: there is no such field, or a setting of `config` makes no sense.
    """

    subject: AnySubject | None
    """The model: an alias such as smollm2-135m, a Hugging Face id, a folder or a .gguf file. In Python also a (model,
    tokenizer) pair, a `Subject`, or None for the one that the store is bound to."""
    corpus: AnyCorpus = "builtin"
    """The text to look at, if no store is given: builtin, paper, a file (text, JSONL, Parquet) or folder, a dataset
    (hf:owner/name?split=train), or a mixture (mix:0.5*hf:owner/name,0.5*builtin). In Python also an iterable of
    texts."""
    store: AnyStore | None = None
    """The folder of exemplars that were collected before; without it they are collected, or found where an equal call
    has left them. In Python also an `ExemplarSource`, such as a store."""
    llm: LLMs = "auto"
    """A language model such as openai:gpt-4o or llamacpp:model.gguf; batch:openai:gpt-4o asks in batches, at half the
    price and within 24 hours; offline for none; auto is openai:gpt-4o if an OpenAI key is set, else offline. In Python
    also a chat model of LangChain's, or a mapping from agent to model."""
    base_url: str | None = None
    """Address of an OpenAI-compatible server that has the model, such as http://127.0.0.1:8080/v1."""
    budget: AnyBudget | None = None
    """What the language models may cost, all neurons together: 5$ or 200k tokens. In Python also a `Budget`."""
    embeddings: AnyEmbeddings = "auto"
    """For the clustering: minilm or openai:text-embedding-3-small; auto is OpenAI's with an OpenAI model, else minilm.
    In Python also embeddings of LangChain's."""
    simulator: AnySimulator = "auto"
    """What predicts activations from explanations: transluce, prompted:<model>, chat, reader, or hybrid, which needs no
    language model; auto is transluce on a GPU of 20 GB or more, else reader. In Python also a `Simulator`."""
    cache_dir: Path | None = None
    """Where collected exemplars are stored; else in the user's cache folder."""
    config: ExplainConfig = ExplainConfig()
    """Every other setting."""

    @field_validator("config", mode="before")
    @classmethod
    def _defaults(cls, config: object) -> object:
        return ExplainConfig() if config is None else config

    @classmethod
    def paper(cls, subject: AnySubject, **changes: Any) -> Setup:
        """Models, corpora, simulator and settings of the paper (section 3.1 and appendix B), for one of its subjects.

        These are Llama-3.1-8B (layers 5, 10, 20 and 31), Gemma-2-2B and Qwen3-4B (5, 9, 18 and 25), of each layer the
        200 neurons that are most often active: `store.top_neurons(layer)`. GPT-4o writes, text-embedding-3-small
        embeds, and Transluce's fine-tuned Llama-3.1-8B-Instruct simulates. The corpus is FineWeb and LMSYS-Chat-1M; how
        much of them the paper does not say: `config.n_tokens`.

        Args:
            subject: the model: as for `Setup`.
            changes: fields that count instead of the paper's.
        """
        paper = {
            "corpus": "paper",
            "llm": "openai:gpt-4o",
            "embeddings": "openai:text-embedding-3-small",
            "simulator": "transluce",
            "config": ExplainConfig.paper(),
        }
        return cls(subject=subject, **{**paper, **changes})

    def open(
        self,
        layers: Iterable[int] | int | None = None,
        *,
        neurons: Iterable[AnyNeuron] = (),
        progress: Progress = None,
    ) -> Session:
        """Look at every name, load the models, and find or collect the exemplars of some layers.

        Args:
            layers: which, from 0; None is those of the neurons, or else those of the store.
            neurons: neurons that will be asked for, so that one which does not exist is refused before the loading.
            progress: whether to show how far the collection is; None shows it in a notebook and in a terminal.

        Raises:
            NeuronScopeError: something makes no sense, or cannot be found, loaded or reached.
        """
        from neuronscope.session import Session

        return Session.open(self, layers, neurons=neurons, progress=progress)

    async def aopen(
        self,
        layers: Iterable[int] | int | None = None,
        *,
        neurons: Iterable[AnyNeuron] = (),
        progress: Progress = None,
    ) -> Session:
        """`open` where an event loop goes on meanwhile."""
        from neuronscope.session import Session

        return await Session.aopen(self, layers, neurons=neurons, progress=progress)
