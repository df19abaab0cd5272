"""One pass over a corpus: the top sequences of every neuron of the asked layers, for both signs and all splits.

Text streams through the subject in chunks of sequences. Of a chunk, each layer keeps every neuron's largest activation
per sequence, merges it into its running lists, and forgets the rest; token ids stay only while a list or a random
sample refers to them. So memory depends on neurons x k, not on the corpus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from neuronscope.corpus.documents import Corpus, Document
from neuronscope.corpus.encoding import chat_format
from neuronscope.corpus.sources import open_corpus
from neuronscope.corpus.windows import Window, windows
from neuronscope.errors import ConfigurationError, CorpusError, SubjectError
from neuronscope.exemplars.accumulator import LayerAccumulator
from neuronscope.exemplars.activations import batches
from neuronscope.exemplars.identity import folder_name, identify
from neuronscope.exemplars.layout import FORMAT, INFO_FILE
from neuronscope.exemplars.pool import SequencePool
from neuronscope.exemplars.progress import TokenProgress
from neuronscope.exemplars.store import ExemplarStore, open_store
from neuronscope.exemplars.writing import write_store
from neuronscope.files import cache_folder
from neuronscope.protocols import Subject
from neuronscope.subject.capture import capture
from neuronscope.subject.tokens import token_strings

CHUNK_SEQUENCES = 512
"""Sequences between two merges into the running lists; within them, sequences of similar length share a batch."""


def collect_exemplars(
    subject: Subject,
    corpus: Any = "builtin",
    layers: Sequence[int] | None = None,
    seq_len: int = 64,
    top_k: int = 100,
    n_tokens: int | None = None,
    signs: Sequence[int] = (1, -1),
    cache_dir: str | Path | None = None,
    batch_size: int = 32,
    progress: bool | None = None,
) -> ExemplarStore:
    """Collect exemplars for every neuron of some layers, or open the store that an equal call has made.

    For each neuron, sign and split the store has the exact `top_k` sequences by their largest activation (ties by the
    lower sequence id; a sequence without a positive value of `sign * activation` does not count), a random sample of
    each split, and over all splits each neuron's frequency, mean and maximum.

    Args:
        subject: the model; its fingerprint, if it has one, lets a later call find the store again.
        corpus: `"builtin"`, a file, a folder, a dataset such as `"hf:owner/name"`, a mixture, an iterable of strings;
            see `neuronscope.corpus.open_corpus`.
        layers: layer numbers, from 0; None is every layer.
        seq_len: tokens of a sequence, the model's BOS not counted.
        top_k: sequences per neuron, sign and split.
        n_tokens: stop after the document that brings the total to this many tokens; None is the whole corpus.
        signs: 1 for large values, -1 for large negative values.
        cache_dir: the folder that holds stores; None is the user's cache folder.
        batch_size: full sequences of a forward pass; shorter ones are grouped to the same number of tokens.
        progress: whether to show a progress bar; None shows it in a terminal.

    Returns:
        The store, bound to the subject.

    Raises:
        CorpusError: the corpus cannot be read, or has no text long enough for a sequence.
        SubjectError: a layer does not exist, or its activations are not finite.
        ConfigurationError: a setting makes no sense.
    """
    layers = _checked_layers(subject, layers)
    signs = _checked_settings(signs, seq_len=seq_len, top_k=top_k, batch_size=batch_size, n_tokens=n_tokens)
    opened = open_corpus(corpus)
    settings = {
        "subject": identify(subject),
        "corpus": {"name": opened.name, "key": opened.key()},
        "chat_format": chat_format(subject.tokenizer),
        "widths": {str(layer): subject.width(layer) for layer in layers},
        "signs": signs,
        "seq_len": seq_len,
        "top_k": top_k,
        "requested_tokens": n_tokens,
    }
    root = Path(cache_dir).expanduser() if cache_dir is not None else cache_folder("stores")
    folder = root / folder_name(_key(settings))
    if not (folder / INFO_FILE).is_file():
        collection = _Collection(subject, layers, signs, top_k, batch_size * seq_len)
        with TokenProgress("Collecting exemplars", n_tokens, opened.n_characters, progress) as bar:
            collection.read(opened, seq_len, n_tokens, bar)
        collection.pool.prune()
        info = settings | {
            "sources": sorted(collection.source_tokens),
            "source_tokens": dict(sorted(collection.source_tokens.items())),
            "neuronscope": version("neuronscope"),
        }
        strings = partial(token_strings, subject.tokenizer)
        write_store(folder, info, collection.accumulators, collection.pool, strings)
    return open_store(folder).bind(subject)


class _Collection:
    """A pass over a corpus."""

    def __init__(
        self, subject: Subject, layers: Sequence[int], signs: Sequence[int], top_k: int, batch_tokens: int
    ) -> None:
        self.subject = subject
        self.accumulators = [LayerAccumulator(layer, subject.width(layer), signs, top_k) for layer in layers]
        self.pool = SequencePool(lambda: set().union(*(layer.referenced() for layer in self.accumulators)))
        self.source_tokens: Counter[str] = Counter()
        self._batch_tokens = batch_tokens
        self._characters = 0

    def read(self, corpus: Corpus, seq_len: int, n_tokens: int | None, bar: TokenProgress) -> None:
        """Run the whole corpus, or its first `n_tokens` tokens, through the subject."""
        stream = windows(self._counted(corpus), self.subject.tokenizer, seq_len, n_tokens)
        while chunk := list(islice(stream, CHUNK_SEQUENCES)):
            for window in chunk:
                self.pool.add(window)
                self.source_tokens[window.source] += len(window.token_ids)
            bar.estimate(self.source_tokens.total(), self._characters)
            self._run(chunk, bar)
            self.pool.prune_if_large()
        if not self.source_tokens:
            raise CorpusError(
                f"The corpus {corpus.name!r} has no document long enough for a sequence. Give it longer documents."
            )

    def _run(self, chunk: Sequence[Window], bar: TokenProgress) -> None:
        by_id = {window.sequence_id: window for window in chunk}
        order: list[int] = []
        for batch in batches({i: window.token_ids for i, window in by_id.items()}, self._batch_tokens):
            token_ids = [by_id[i].token_ids for i in batch]
            activations, mask = capture(self.subject, token_ids, [layer.layer for layer in self.accumulators])
            padded = len(token_ids[0]) != len(token_ids[-1])  # a batch is ordered by length
            for layer in self.accumulators:
                layer.add_batch(activations.pop(layer.layer), mask if padded else None)
            order += batch
            bar.advance(sum(map(len, token_ids)))
        for layer in self.accumulators:
            layer.close_chunk(order, [by_id[i].split for i in order])

    def _counted(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            self._characters += len(document.text)
            yield document


def _key(settings: dict[str, Any]) -> dict[str, Any]:
    """What decides the content of a store: names do not."""
    return settings | {
        "subject": settings["subject"]["fingerprint"],
        "corpus": settings["corpus"]["key"],
        "format": FORMAT,
    }


def _checked_layers(subject: Subject, layers: Sequence[int] | None) -> list[int]:
    chosen = sorted(set(range(subject.n_layers) if layers is None else layers))
    if not chosen:
        raise ConfigurationError("No layer to collect exemplars for. Name at least one, such as layers=[0].")
    for layer in chosen:
        if not 0 <= layer < subject.n_layers:
            raise SubjectError(
                f"The subject has layers 0 to {subject.n_layers - 1}; there is no layer {layer}. "
                "Choose layers in that range."
            )
    return chosen


def _checked_settings(signs: Sequence[int], **counts: int | None) -> list[int]:
    chosen = sorted(set(signs), reverse=True)
    if not chosen or not set(chosen) <= {1, -1}:
        raise ConfigurationError(f"Signs are 1, -1 or both, not {list(signs)!r}.")
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ConfigurationError(f"{name} must be at least 1, not {count}.")
    return chosen
