"""Every setting of an explanation, once; the command line derives its options from here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neuronscope.validation import Settings

FEW_ATOMS = 6
"""Up to this many atoms HDBSCAN has too few points: on six it finds what belongs together less often than linkage."""


class ExplainConfig(Settings):
    """How a neuron is explained. `ExplainConfig.paper()` has what the paper says of the method."""

    n_tokens: int = Field(250_000, ge=1)
    """Corpus tokens to collect exemplars from, when no store is given."""
    seq_len: int = Field(64, ge=8)
    """Tokens of a sequence, the model's BOS not counted."""
    n_train_exemplars: int = Field(20, ge=1)
    """Top train sequences that the Hypothesis Agent sees."""
    n_hypotheses: int = Field(3, ge=1)
    """Independent drafts (the paper's appendix G has three)."""
    heldout_top: int = Field(20, ge=1)
    """Top sequences of a held-out set."""
    heldout_random: int = Field(20, ge=0)
    """Random sequences of a held-out set."""
    max_modes: int | None = Field(8, ge=1)
    """At most this many modes are refined, the largest clusters first; None refines as many as there are clusters."""
    noise: Literal["drop", "keep"] = "drop"
    """What becomes of atoms that HDBSCAN leaves without a cluster: dropped as in the paper, or each a mode."""
    draft_again: bool = True
    """Draft once more, from train exemplars that no mode explains; with `objective="joint"` only, which drops modes
    that add nothing."""
    prompts: Literal["extended", "paper"] = "extended"
    """What the agents are told: the rules of the paper's appendix F with a worked example, a list of the marked words
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
    racing: bool = True
    """Score candidates on a few sequences first and drop the hopeless, which about halves what is simulated."""
    experiments: bool = False
    """Let the Refinement Agent test explanations on texts that it writes: some should fire, some not."""
    min_improvement: float = Field(0.005, ge=0)
    """A smaller gain in validation score counts as none."""
    patience: int | None = Field(1, ge=1)
    """Iterations without improvement after which refinement stops; None never stops early."""
    min_samples: int | None = Field(1, ge=1)
    """HDBSCAN's min_samples; None is the library's default."""
    few_atoms: int = Field(FEW_ATOMS, ge=0)
    """Up to this many atoms are grouped by average linkage alone; 0 asks HDBSCAN first however few there are."""
    temperature: float = Field(0.7, ge=0)
    """Sampling temperature of the drafts and candidates."""
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

    @classmethod
    def paper(cls) -> ExplainConfig:
        """What the paper says of the method, as far as it can be said in settings.

        From the paper: HDBSCAN with a minimum cluster size of 2 and no other limit to how many clusters become modes
        (appendix B), the prompts (appendix F), the ranked history as the Refinement Agent's feedback (section 2.4),
        8 candidates in up to 5 iterations (appendix B), Pearson's r over a whole validation set (appendix C), and three
        drafts (as in the example of appendix G).

        The paper does not say these, so they are our choice: 20 top and 5 random sequences in a held-out set, 64 tokens
        in a sequence, 20 exemplars for a draft, the temperature, and that a refinement takes all its iterations. Its
        models and corpora are arguments of `explain_neuron`.
        """
        return cls(
            heldout_random=5,
            max_modes=None,
            draft_again=False,
            prompts="paper",
            feedback="history",
            objective="neuron",
            racing=False,
            patience=None,
            min_samples=None,
            few_atoms=0,
        )
