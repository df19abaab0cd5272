"""Text that experiments read in a model's tokens, without running the model."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from neuronscope.corpus.sources import open_corpus
from neuronscope.corpus.windows import windows
from neuronscope.subject.tokens import leading_ids, token_strings
from neuronscope.types import Exemplar, Split


@lru_cache(maxsize=4)
def load_tokenizer_of(subject: str) -> Any:
    """A model's tokenizer; its weights are not loaded.

    Raises:
        SubjectError: there is no such model.
    """
    from neuronscope.subject.loading import load_tokenizer
    from neuronscope.subject.sources import locate

    return load_tokenizer(locate(subject)[0])


def read_split(tokenizer: Any, corpus: Any, split: Split, seq_len: int = 64) -> list[Exemplar]:
    """All sequences of one split of a corpus, without activations.

    Args:
        tokenizer: the model's.
        corpus: as for `open_corpus`.
        split: the split.
        seq_len: tokens of a sequence.

    Raises:
        CorpusError: the corpus cannot be read.
    """
    return [
        Exemplar(
            token_strings(tokenizer, window.token_ids),
            window.token_ids,
            np.zeros(len(window.token_ids), dtype=np.float32),
            window.sequence_id,
            window.source,
        )
        for window in windows(open_corpus(corpus), tokenizer, seq_len, None, leading_ids(tokenizer))
        if window.split == split
    ]
