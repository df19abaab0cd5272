"""Text: where documents come from, which split they belong to, and how they become sequences."""

from neuronscope.corpus.documents import Corpus, Document, Turn, split_of
from neuronscope.corpus.encoding import chat_format
from neuronscope.corpus.sources import mix, open_corpus
from neuronscope.corpus.windows import MIN_TOKENS, Window, windows

__all__ = [
    "MIN_TOKENS",
    "Corpus",
    "Document",
    "Turn",
    "Window",
    "chat_format",
    "mix",
    "open_corpus",
    "split_of",
    "windows",
]
