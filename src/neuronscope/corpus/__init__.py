"""Text: where documents come from, which split they belong to, and how they become sequences."""

from neuronscope.corpus.sources import Corpus, Document, open_corpus, split_of
from neuronscope.corpus.windows import MIN_TOKENS, Window, windows

__all__ = ["MIN_TOKENS", "Corpus", "Document", "Window", "open_corpus", "split_of", "windows"]
