"""Planning a run before anything is collected for it: the models are loaded, and tried on a little text."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from neuronscope import blocking
from neuronscope.config import Progress, Setup
from neuronscope.corpus.documents import Corpus
from neuronscope.exemplars.collect import collect_exemplars, is_collected
from neuronscope.exemplars.store import ExemplarStore
from neuronscope.interfaces import ExemplarSource, Subject
from neuronscope.planning.footprint import collection_bytes, store_bytes
from neuronscope.planning.make import Before, make_plan
from neuronscope.planning.plan import Plan
from neuronscope.resources import Resources, as_subject, collection_arguments, open_resources, resolve_names
from neuronscope.stopping import stopping_threads
from neuronscope.subject.sites import common_site
from neuronscope.types import Neuron

TRIED, MOST_TRIED, SECONDS = 2_000, 12_000, 10.0
"""Tokens that are collected from to see how fast that is; then again from so many, or from as many as take so long."""
CHARACTERS_PER_TOKEN = 4.0


class _Opened(NamedTuple):
    resources: Resources
    before: Before


async def plan_ahead(
    setup: Setup,
    layers: Sequence[int],
    named: Sequence[Neuron],
    chosen: Callable[[ExemplarSource], Sequence[Neuron]],
    *,
    out: str | Path | None,
    parallel: int | None,
    sample: int,
    progress: Progress,
) -> Plan:
    """Plan a run of a setup; see `neuronscope.aplan`.

    Args:
        setup: what the run is made of.
        layers: whose neurons.
        named: neurons that are known without a store.
        chosen: all neurons, given a store.
        out: the run's folder.
        parallel: neurons under way at once.
        sample: how many neurons are explained for the plan, with the exemplars that the run will have.
        progress: whether to show the collection, where there is a sample.
    """
    with stopping_threads(), TemporaryDirectory(prefix="neuronscope-plan-") as folder:
        resources, before = await blocking.in_callers_thread(_open, setup, layers, named, sample > 0, progress, folder)
        neurons = chosen(resources.store)
        return await make_plan(resources, neurons, out=out, parallel=parallel, sample=sample, before=before)


def _open(
    setup: Setup, layers: Sequence[int], named: Sequence[Neuron], is_sampled: bool, progress: Progress, folder: str
) -> _Opened:
    """What the run would open, with a small store in a folder where nothing is collected yet and none is asked for."""
    resolved = resolve_names(setup, layers, named)
    began = time.perf_counter()
    changes: dict[str, object] = {}
    before = Before()
    if setup.subject is not None:
        changes["subject"] = subject = as_subject(setup.subject)
        loading = time.perf_counter() - began
        if resolved.corpus is not None:
            arguments = collection_arguments(setup, resolved.corpus, common_site(named))
            if is_sampled or is_collected(subject, layers=layers, **arguments):
                shown = progress if isinstance(progress, bool) else None
                changes["store"] = collect_exemplars(subject, layers=layers, progress=shown, **arguments)
            else:
                changes["store"], before = _try_out(subject, layers, arguments, folder)
        began = time.perf_counter() - loading
    resources = open_resources(setup.model_copy(update=changes), layers, named)
    steps = {"opening": time.perf_counter() - began, **before.steps}
    return _Opened(
        resources,
        Before(
            steps=steps,
            files=before.files,
            memory=before.memory,
            assumptions=before.assumptions,
            is_provisional=before.is_provisional,
        ),
    )


def _try_out(
    subject: Subject, layers: Sequence[int], arguments: dict[str, object], folder: str
) -> tuple[ExemplarStore, Before]:
    """Collect from a little text, and say from that what all of it will take."""
    given, corpus = dict(arguments), arguments["corpus"]
    n_tokens = float(str(given.pop("n_tokens")))
    given |= {"cache_dir": folder, "progress": False}
    seconds, _ = _timed(subject, layers, given, TRIED)
    more = int(min(MOST_TRIED, max(TRIED, SECONDS * TRIED / seconds))) + 1  # another number is another store
    seconds, store = _timed(subject, layers, given, more)
    collected = sum(store.info["n_tokens"].values())
    if isinstance(corpus, Corpus) and corpus.n_characters is not None:
        n_tokens = min(n_tokens, max(corpus.n_characters / CHARACTERS_PER_TOKEN, collected))
    info = store.info
    sizes = [*info["widths"].values()], n_tokens, float(info["seq_len"]), info["top_k"], len(info["signs"])
    speed = collected / seconds
    return store, Before(
        steps={"collecting exemplars": n_tokens / speed},
        files={"exemplars": store_bytes(*sizes)},
        memory=collection_bytes(*sizes),
        assumptions=(
            f"Exemplars are collected from {n_tokens:,.0f} tokens at {speed:,.0f} tokens a second, measured on "
            f"{collected:,} of them; once for all runs with these layers and this text.",
        ),
        is_provisional=True,
    )


def _timed(
    subject: Subject, layers: Sequence[int], given: dict[str, object], n_tokens: int
) -> tuple[float, ExemplarStore]:
    began = time.perf_counter()
    store = collect_exemplars(subject, layers=layers, n_tokens=n_tokens, **given)  # type: ignore[arg-type]  # as there
    return time.perf_counter() - began, store
