"""One pass over a corpus: the top sequences of every unit of the asked layers, for both signs and all splits.

Text streams through the subject in chunks of sequences. Of a chunk, each layer keeps every neuron's largest activation
per sequence, merges it into its running lists, and forgets the rest; token ids stay only while a list or a random
sample refers to them. So memory depends on neurons x k, not on the corpus. Every minute or so what is gathered goes to
disk; a call that finds it goes on from there. The chunks may be run here, or on the machines of a Ray cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from neuronscope.arguments import integer, integers
from neuronscope.bars import Bar, token_bar
from neuronscope.cluster import RayEngine, ray_engine
from neuronscope.corpus.documents import Corpus, Document
from neuronscope.corpus.encoding import chat_format
from neuronscope.corpus.sources import open_corpus
from neuronscope.corpus.windows import Window, windows
from neuronscope.errors import ConfigurationError, CorpusError, SubjectError
from neuronscope.exemplars.checkpoints import Checkpoints
from neuronscope.exemplars.frequency import THRESHOLD
from neuronscope.exemplars.identity import folder_name, identify, require_unchanged
from neuronscope.exemplars.layout import FORMAT, INFO_FILE
from neuronscope.exemplars.sampling import TopK, by_split
from neuronscope.exemplars.statistics_pass import Collection, FinishedChunks, chunks
from neuronscope.exemplars.store import ExemplarStore, open_store
from neuronscope.exemplars.write import write_store
from neuronscope.interfaces import Site, Subject
from neuronscope.io import OTHER_PLACE, cache_folder, check_writable
from neuronscope.stopping import check_stopped
from neuronscope.subject.sites import SiteIdentity, identify_site, register_site, site_named, site_names, width_of
from neuronscope.subject.tokens import token_strings
from neuronscope.types import MLP, HookPoint


def collect_exemplars(
    subject: Subject,
    corpus: Any = "builtin",
    layers: Sequence[int] | None = None,
    seq_len: int = 64,
    top_k: TopK | None = None,
    n_tokens: int | None = None,
    signs: Sequence[int] = (1, -1),
    cache_dir: str | Path | None = None,
    batch_size: int = 32,
    progress: bool | None = None,
    *,
    site: str | Site = MLP,
    keep_activations: bool = False,
    engine: str | RayEngine = "local",
) -> ExemplarStore:
    """Collect exemplars for every neuron of some layers, or open the store that an equal call has made.

    For each neuron, sign and split the store has the exact `top_k` sequences by their largest activation (ties by the
    lower sequence id; a sequence without a positive value of `sign * activation` does not count), a random sample of
    each split, and over all splits each neuron's frequency (see `exemplars.frequency`), mean and maximum.

    Killed at any moment, an equal call goes on from the last checkpoint, which is at most about a minute of work old;
    the finished store is the same, bit for bit. The text before it is read and tokenized again, not run.

    Args:
        subject: the model; its fingerprint, if it has one, lets a later call find the store again, if the model still
            computes the same then.
        corpus: `"builtin"`, a file, a folder, a dataset such as `"hf:owner/name"`, a mixture, an iterable of strings;
            see `neuronscope.corpus.open_corpus`.
        layers: layer numbers, from 0; None is every layer.
        seq_len: tokens of a sequence, the model's BOS not counted.
        top_k: sequences per neuron, sign and split: a number for every split, or `{"train": 200}` for some of them;
            None, and what is not said, is 400 for train and 100 for each of the others.
        n_tokens: stop after the document that brings the total to this many tokens, or within a long one at most 512
            tokens later; None is the whole corpus.
        signs: 1 for large values, -1 for large negative values, which not every site has.
        cache_dir: the folder that holds stores; None is the user's cache folder.
        batch_size: full sequences of a forward pass; shorter ones are grouped to the same number of tokens.
        progress: whether to show a progress bar; None shows it in a terminal and in a notebook.
        site: where the units are: a registered site's name, or a site, which is registered. See `docs/sites.md`.
        keep_activations: whether to keep what each unit does at every token of its listed sequences, and of the random
            samples, in half precision: the sequences run once more, in this process, and explaining needs no model
            afterwards. `docs/stores.md` says how large that is.
        engine: `"local"` runs the subject in this process; `"ray"`, or a `RayEngine` with settings, in workers on a Ray
            cluster, each with a copy of the model. The store is the same, bit for bit, and either goes on from where
            the other was interrupted.

    Returns:
        The store, bound to the subject.

    Raises:
        CorpusError: the corpus cannot be read, or has no text long enough for a sequence.
        SubjectError: a layer or the site does not exist, or activations are not finite.
        ConfigurationError: a setting makes no sense, the store cannot be written there, or Ray is missing or cannot do
            the work.
        StoreError: the store that is there is damaged, or it cannot be written, for a full disk say.
    """
    cluster = ray_engine(engine)
    request = _Request.of(
        subject,
        corpus=corpus,
        layers=layers,
        seq_len=seq_len,
        top_k=top_k,
        n_tokens=n_tokens,
        cache_dir=cache_dir,
        site=site,
        signs=signs,
        keep_activations=keep_activations,
    )
    opened, where, identity, settings, folder = request
    seq_len, n_tokens = settings["seq_len"], settings["requested_tokens"]
    batch_size = integer(batch_size, "batch_size", least=1)
    partial_folder = folder.with_name(f"{folder.name}.partial")
    checkpoints = Checkpoints(partial_folder, _key(settings) | {"batch_size": batch_size})
    if not _is_store(folder):
        check_writable(folder.parent, f"{OTHER_PLACE}, with cache_dir= or the variable NEURONSCOPE_CACHE.")
        batch_tokens = batch_size * seq_len
        start = partial(
            Collection,
            layers=[int(layer) for layer in settings["widths"]],
            signs=settings["signs"],
            top_k=settings["top_k"],
            batch_tokens=batch_tokens,
            site=where.name if where.name == MLP or where.name not in site_names() else site_named(where.name),
        )
        with token_bar("Collecting exemplars", n_tokens, progress) as bar:
            stream = _read(opened, subject, seq_len, n_tokens, bar)
            collection = _gather(start, subject, stream, bar, checkpoints, cluster, save_at_end=keep_activations)
        require_unchanged(subject, identity, "while exemplars were collected")
        if not collection.source_tokens:
            raise CorpusError(
                f"The corpus {opened.name!r} has no document long enough for a sequence. Give it longer documents."
            )
        collection.pool.prune()
        info = settings | {
            "sources": sorted(collection.source_tokens),
            "source_tokens": dict(sorted(collection.source_tokens.items())),
            "frequency_threshold": THRESHOLD,
            "neuronscope": version("neuronscope"),
        }
        strings = partial(token_strings, subject.tokenizer)

        def write_more(folder: Path) -> None:
            if keep_activations:
                _write_activations(folder, collection, seq_len, batch_tokens, progress)
                require_unchanged(subject, identity, "while activations were stored")

        write_store(
            folder, partial_folder, info, collection.accumulators.values(), collection.pool, strings, write_more
        )
    checkpoints.clear()  # those of a call, too, that was killed when its store was just there
    return open_store(folder).bind(subject)


def is_collected(subject: Subject, **arguments: Any) -> bool:
    """Whether `collect_exemplars` with the same arguments finds its store, and has nothing to collect.

    Raises:
        NeuronScopeError: an argument makes no sense.
    """
    return _is_store(_Request.of(subject, **arguments).folder)


class _Request(NamedTuple):
    """What a collection is of, and where its store is, or will be."""

    corpus: Corpus
    where: SiteIdentity
    identity: dict[str, str]
    settings: dict[str, Any]
    folder: Path

    @classmethod
    def of(
        cls,
        subject: Subject,
        *,
        corpus: Any,
        layers: Sequence[int] | None,
        seq_len: int,
        top_k: TopK | None,
        n_tokens: int | None,
        cache_dir: str | Path | None,
        site: str | Site,
        signs: Sequence[int] = (1, -1),
        keep_activations: bool = False,
    ) -> _Request:
        if not isinstance(site, str):
            register_site(site)
        where = identify_site(subject, site if isinstance(site, str) else site.name)
        points = [HookPoint(layer, where.name) for layer in _checked_layers(subject, layers)]
        signs = _checked_signs(signs, where)
        seq_len, lists = integer(seq_len, "seq_len", least=1), by_split(top_k)
        n_tokens = None if n_tokens is None else integer(n_tokens, "n_tokens", least=1)
        opened = open_corpus(corpus)
        identity = identify(subject)
        settings = {
            "subject": identity,
            "site": where.name,
            "site_fingerprint": where.fingerprint,
            "corpus": {"name": opened.name, "key": opened.key()},
            "chat_format": chat_format(subject.tokenizer),
            "widths": {str(point.layer): width_of(subject, point) for point in points},
            "signs": signs,
            "seq_len": seq_len,
            "top_k": lists,
            "requested_tokens": n_tokens,
            "keep_activations": bool(keep_activations),
        }
        root = Path(cache_dir).expanduser() if cache_dir is not None else cache_folder("stores")
        return cls(opened, where, identity, settings, root / folder_name(_key(settings)))


def _write_activations(
    folder: Path, collection: Collection, seq_len: int, batch_tokens: int, progress: bool | None
) -> None:
    from neuronscope.exemplars.write_activations import write_activations

    n_tokens = sum(len(each.token_ids) for each in collection.pool.sequences.values())
    with token_bar("Storing activations", n_tokens, progress) as bar:
        layers = collection.accumulators.values()
        write_activations(folder, collection.subject, layers, collection.pool, seq_len, batch_tokens, bar.update)


def _is_store(folder: Path) -> bool:
    try:
        return (folder / INFO_FILE).is_file()
    except OSError:  # a name that is too long, say
        return False


def _read(corpus: Corpus, subject: Subject, seq_len: int, n_tokens: int | None, bar: Bar) -> Iterator[list[Window]]:
    """The corpus, or its first `n_tokens` tokens, in chunks; the bar learns how much is to come."""
    characters = tokens = 0

    def counted() -> Iterator[Document]:
        nonlocal characters
        for document in corpus:
            check_stopped()
            characters += len(document.text)
            yield document

    leading = getattr(subject, "leading_ids", None)
    for chunk in chunks(windows(counted(), subject.tokenizer, seq_len, n_tokens, leading)):
        tokens += sum(len(window.token_ids) for window in chunk)
        if corpus.n_characters and characters:
            expected = tokens * corpus.n_characters / characters
            bar.total = min(expected, n_tokens or expected)
        yield chunk
    bar.total = tokens


def _gather(
    start: Callable[[Subject], Collection],
    subject: Subject,
    stream: Iterator[list[Window]],
    bar: Bar,
    checkpoints: Checkpoints,
    cluster: RayEngine | None,
    *,
    save_at_end: bool,
) -> Collection:
    """Run the chunks through the subject, here or on a cluster, less those that a checkpoint has."""
    collection = start(subject)
    finished = FinishedChunks()
    if (found := checkpoints.load()) is not None:
        collection.restore(*found)
        finished = FinishedChunks.of(found[1])
    bar.update(collection.source_tokens.total())

    def save() -> None:
        arrays, counts = collection.state()
        checkpoints.save(arrays, counts | finished.counts())

    def done(numbers: Sequence[int]) -> None:
        finished.add(numbers)
        if checkpoints.due():
            save()

    rest = finished.rest(stream)
    if cluster is not None:
        from neuronscope.exemplars.sharding import gather_on_ray

        gather_on_ray(cluster, start, collection, rest, done, bar.update)
    else:
        for number, chunk in rest:
            collection.add_chunk(chunk, bar.update)
            done([number])
    if save_at_end:
        save()
    return collection


def _key(settings: dict[str, Any]) -> dict[str, Any]:
    """What decides the content of a store: names do not."""
    return settings | {
        "subject": settings["subject"]["fingerprint"],
        "corpus": settings["corpus"]["key"],
        "format": FORMAT,
    }


def _checked_layers(subject: Subject, layers: Sequence[int] | None) -> list[int]:
    chosen = sorted(set(range(subject.n_layers) if layers is None else integers(layers, "layers")))
    if not chosen:
        raise ConfigurationError("No layer to collect exemplars for. Name at least one, such as layers=[0].")
    for layer in chosen:
        if not 0 <= layer < subject.n_layers:
            raise SubjectError(
                f"The subject has layers 0 to {subject.n_layers - 1}; there is no layer {layer}. "
                "Choose layers in that range."
            )
    return chosen


def _checked_signs(signs: Sequence[int], site: SiteIdentity) -> list[int]:
    chosen = sorted(set(integers(signs, "signs")), reverse=True)
    if not chosen or not set(chosen) <= {1, -1}:
        raise ConfigurationError(f"Signs are 1, -1 or both, not {chosen}.")
    if not site.signed and 1 not in chosen:
        raise ConfigurationError(f"The site {site.name!r} has no negative values that mean something. Ask for sign 1.")
    return chosen if site.signed else [1]
