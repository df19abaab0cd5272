"""What `run.json` and `store.json` hold; later versions may add keys to either."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict  # pydantic makes a JSON schema of it before Python 3.12, too

from neuronscope.config import ExplainConfig


class SubjectOrigin(TypedDict):
    """The model that was explained."""

    name: str
    fingerprint: NotRequired[str]
    """Of what it computes; a subject of one's own may have none."""


class StoreOrigin(TypedDict):
    """Where the exemplars come from."""

    kind: str
    """The class."""
    info: NotRequired[dict[str, Any]]
    """That of a store's `store.json`."""


class RunFile(TypedDict):
    """`run.json`: what all results of a run's folder are made with."""

    neuronscope: str
    """The version that began the run."""
    subject: SubjectOrigin
    store: StoreOrigin
    simulator: str
    embeddings: str
    llm: str | dict[str, str]
    """One name, or one per agent."""
    config: ExplainConfig


class StoreSubject(TypedDict):
    """The model that was read, with the parts of its fingerprint where it tells them."""

    name: str
    fingerprint: str


class StoreCorpus(TypedDict):
    """The text that was read."""

    name: str
    key: str
    """Equal for equal content."""


class BySplit(TypedDict):
    """A number for each split."""

    train: int
    feedback: int
    validation: int
    test: int


class StoreInfo(TypedDict):
    """What a store was made of: `ExemplarStore.info`."""

    subject: StoreSubject
    site: str
    site_fingerprint: str
    corpus: StoreCorpus
    chat_format: str
    """How conversations were written."""
    widths: dict[str, int]
    """How many neurons each collected layer has, by its number."""
    signs: list[int]
    seq_len: int
    top_k: BySplit
    requested_tokens: int | None
    keep_activations: bool
    sources: list[str]
    source_tokens: dict[str, int]
    frequency_threshold: float
    neuronscope: str
    """The version that made it."""
    n_tokens: BySplit
    n_sequences: BySplit


class StoreFile(TypedDict):
    """A file of a store, as it was written."""

    size: int
    xxh3: str


class StoreDescription(TypedDict):
    """`store.json`: what a store was made of, and what its files are."""

    info: StoreInfo
    files: dict[str, StoreFile]
    digest: str
    """Of `info` and `files`."""
