"""A simulator that asks a chat model: no log-probabilities, only the tokens that it expects to activate the neuron."""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from langchain_core.runnables.config import ContextThreadPoolExecutor
from numpy.typing import NDArray

from neuronscope.errors import ConfigurationError, LLMError, SimulatorError
from neuronscope.llm import ask_blocking, model_name, resolve_llm
from neuronscope.locks import Lock
from neuronscope.simulators.chat_answers import ParsedAnswer, read_answer
from neuronscope.simulators.chat_prompts import chat_messages, chat_schema
from neuronscope.stopping import check_stopped

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from neuronscope.llm.usage import UsageTracker
    from neuronscope.types import Exemplar

Row = NDArray[np.float32]
Tokens = tuple[str, ...]

ROLE = "simulator"
"""Under which name the requests are counted."""

CACHED = 20_000
"""How many pairs of explanation and excerpt a simulator caches: with 64 tokens each, some 5 MB."""


class _Request(NamedTuple):
    """One explanation on several excerpts."""

    explanation: str
    excerpts: list[Tokens]


@dataclass(slots=True)
class _Call:
    """What the threads of one call share."""

    found: dict[tuple[str, Tokens], Row] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Explanations that cannot be predicted, with the reason."""
    broken: LLMError | None = None
    """Why the model cannot be asked at all."""

    def is_over(self, explanation: str) -> bool:
        """Whether further requests about an explanation would be wasted."""
        return self.broken is not None or explanation in self.failures


class ChatSimulator:
    """Predicts activations by asking a chat model which tokens activate the neuron, and how strongly.

    The model sees excerpts as numbered tokens and names, by number and text, those that it expects to activate the
    neuron; the others are 0. Where number and text disagree, the nearest token with this text counts; an entry that
    fits no token is dropped. An excerpt that an answer leaves out or cuts short is asked for once more, alone. If that
    fails as well, so does the call: zeros where an answer is missing would make a score of nothing. Answers are
    cached, so what has been answered is not paid for again when the call is repeated.

    One request holds one explanation, so an explanation's score does not depend on its rivals.

    Args:
        llm: a chat model, used as it is, or a string for `neuronscope.llm.resolve_llm`, which is then asked at
            temperature 0.
        exemplars_per_request: how many excerpts a request holds. More are cheaper; weak models lose track of many.
        max_concurrency: how many requests of one call are under way at the same time.
        usage: counts the requests, if given.

    Raises:
        ConfigurationError: no chat model, or a number below 1.
        LLMError: the model's package or key is missing.
    """

    def __init__(
        self,
        llm: BaseChatModel | str,
        *,
        exemplars_per_request: int = 5,
        max_concurrency: int = 8,
        usage: UsageTracker | None = None,
    ) -> None:
        resolved = resolve_llm(llm, temperature=0.0)
        if isinstance(resolved, str):
            raise ConfigurationError(
                'The chat simulator needs a language model: give it one, such as llm="openai:gpt-4o-mini", or use '
                'simulator="hybrid", which needs none.'
            )
        if exemplars_per_request < 1 or max_concurrency < 1:
            raise ConfigurationError(
                "exemplars_per_request and max_concurrency are 1 or more, not "
                f"{exemplars_per_request} and {max_concurrency}."
            )
        self._llm = resolved
        self._exemplars_per_request = exemplars_per_request
        self._max_concurrency = max_concurrency
        self._usage = usage
        self._cache: OrderedDict[tuple[str, Tokens], Row] = OrderedDict()
        self._tally = {"named": 0, "repaired": 0, "dropped": 0, "asked_again": 0}
        self._lock = Lock()

    @property
    def name(self) -> str:
        """What a result's provenance calls this simulator."""
        return f"chat: {model_name(self._llm)}"

    @property
    def tally(self) -> dict[str, int]:
        """How well the model's answers could be used so far.

        Tokens `named`, `repaired` (text and number disagreed) and `dropped` (no such token, or no strength), and
        excerpts `asked_again`.
        """
        with self._lock:
            return dict(self._tally)

    def counted_by(self, usage: UsageTracker) -> ChatSimulator:
        """The same simulator, with the same cache, whose requests this tracker counts."""
        counted = copy.copy(self)
        counted._usage = usage
        return counted

    def simulate(self, explanations: Sequence[str], exemplars: Sequence[Exemplar]) -> list[Row]:
        """Predict every explanation on every exemplar: one `(n_explanations, seq_len)` array each, 0-10.

        Raises:
            SimulatorError: the model cannot be asked, or some of its answers cannot be used, even when asked again.
        """
        texts = [tuple(exemplar.tokens) for exemplar in exemplars]
        call = _Call(self._known(explanations, texts))
        requests = list(self._requests(explanations, texts, call))
        with ContextThreadPoolExecutor(max_workers=self._max_concurrency) as pool:
            list(pool.map(partial(self._answer, call), requests))
        self._check(call, len(set(explanations)))
        return [
            np.stack([call.found[explanation, tokens] for explanation in explanations])
            if explanations
            else np.zeros((0, len(tokens)), dtype=np.float32)
            for tokens in texts
        ]

    def _known(self, explanations: Sequence[str], texts: Sequence[Tokens]) -> dict[tuple[str, Tokens], Row]:
        """The rows that are cached, or need no model because there are no tokens."""
        pairs = [(explanation, tokens) for explanation in explanations for tokens in texts]
        known = {pair: np.zeros(0, dtype=np.float32) for pair in pairs if not pair[1]}
        with self._lock:
            for pair in pairs:
                if pair in self._cache:
                    self._cache.move_to_end(pair)
                    known[pair] = self._cache[pair]
        return known

    def _requests(self, explanations: Sequence[str], texts: Sequence[Tokens], call: _Call) -> Iterator[_Request]:
        """Batches of excerpts, each with every explanation in turn.

        The excerpts' order is drawn from their texts: callers list the neuron's top sequences first, and neither that
        order nor a request full of them should tell the model anything.
        """
        needed: dict[tuple[str, ...], list[Tokens]] = {}
        for tokens in sorted(set(texts), key=_digest):
            missing = dict.fromkeys(text for text in explanations if (text, tokens) not in call.found)
            needed.setdefault(tuple(missing), []).append(tokens)
        size = self._exemplars_per_request
        for asking, excerpts in needed.items():
            for start in range(0, len(excerpts), size):
                for explanation in asking:
                    yield _Request(explanation, excerpts[start : start + size])

    def _answer(self, call: _Call, request: _Request) -> None:
        """Answer one request; what its answer leaves out is asked for once more, one excerpt at a time."""
        if call.is_over(request.explanation):
            return
        try:
            complaint = self._ask(call, request).complaint
            for tokens in request.excerpts:
                if (request.explanation, tokens) in call.found or call.is_over(request.explanation):
                    continue
                self._count(asked_again=1)
                again = self._ask(call, _Request(request.explanation, [tokens]), complaint)
                if again.complaint:
                    call.failures[request.explanation] = f"{again.complaint}: {again.details}"
        except LLMError as error:
            call.broken = error

    def _ask(self, call: _Call, request: _Request, complaint: str = "") -> ParsedAnswer:
        """Ask once, and keep what can be used."""
        check_stopped()
        messages = chat_messages(request.explanation, request.excerpts, complaint)
        schema = chat_schema(len(request.excerpts))
        message = ask_blocking(self._llm, messages, ROLE, schema=schema, usage=self._usage)
        parsed = read_answer(message, request.excerpts)
        rows = {(request.explanation, request.excerpts[index]): row for index, row in parsed.strengths.items()}
        call.found.update(rows)
        with self._lock:
            self._cache.update(rows)
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        self._count(named=parsed.named, repaired=parsed.repaired, dropped=parsed.dropped)
        return parsed

    def _count(self, **counts: int) -> None:
        with self._lock:
            for name, count in counts.items():
                self._tally[name] += count

    def _check(self, call: _Call, n_explanations: int) -> None:
        """Raise if anything is missing."""
        if call.broken is not None:
            raise SimulatorError(
                f"The simulator {self.name} stopped after {len(call.found)} predictions: {call.broken}"
            ) from call.broken
        if call.failures:
            reason = next(iter(call.failures.values()))
            raise SimulatorError(
                f"The simulator {self.name} has no usable answer about {len(call.failures)} of {n_explanations} "
                f"explanations, even when asked again: {reason} Use a stronger model, or another "
                "simulator."
            )


def _digest(tokens: Tokens) -> bytes:
    return hashlib.sha256(repr(tokens).encode()).digest()
