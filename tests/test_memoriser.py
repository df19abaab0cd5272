"""Held-out sets are used honestly: who learns by heart what it is shown gains on test what it gains on validation."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

import neuronscope as ns
from agent_helpers import answering, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.messages import BaseMessage

    from neuronscope.exemplars.store import ExemplarStore
    from neuronscope.subject import LoadedSubject

LAYER, NEURONS = 5, 24
MARKS = re.compile(r"the token that is meant stands between (\S+) and (\S+);")
CASE = re.compile(r"^(\d+\.\d) \| (\d+\.\d) \| (.*)$", re.MULTILINE)
BEST = re.compile(r"^HISTORY\. Score  Explanation\n *-?[\d.]+ +(This neuron activates on .*)$", re.MULTILINE)
MARKED = re.compile(r'^("[^"]+") \| \d+ of \d+ \|', re.MULTILINE)
HYPOTHESIS = re.compile(r"^This neuron activates on .*$", re.MULTILINE)
QUOTED = re.compile(r'"[^"]+"(?: after "[^"]+")?')


@pytest.fixture(scope="module")
def store(smollm2: LoadedSubject, tmp_path_factory: pytest.TempPathFactory) -> ExemplarStore:
    folder = tmp_path_factory.mktemp("stores")
    return ns.collect_exemplars(smollm2, layers=[LAYER], n_tokens=60_000, cache_dir=folder)


def sentence(words: list[str]) -> str:
    return f"This neuron activates on {', '.join(dict.fromkeys(words))}."


def memoriser(messages: list[BaseMessage]) -> str:
    """Quotes what it is shown: marked tokens as a hypothesis, and as candidates the best one with all its errors."""
    prompt = text_of(messages)
    if best := BEST.search(prompt):
        return json.dumps([sentence(words) for words in candidates(best[1], errors_in(prompt))][:8])
    if marked := MARKED.findall(prompt):
        return sentence([f'"{word[1:-1].strip()}"' for word in marked[:20]])
    return json.dumps([sentence(QUOTED.findall(HYPOTHESIS.findall(prompt)[-1]))])


def errors_in(prompt: str) -> list[tuple[str, str, float, float]]:
    """The cases on feedback text: token, what stands before it, predicted, actual."""
    marks = MARKS.search(prompt)
    assert marks, "the prompt says how a token is marked"
    marked = re.compile(f"(.*){re.escape(marks[1])}(.*?){re.escape(marks[2])}")
    cases = [(marked.search(context), predicted, actual) for predicted, actual, context in CASE.findall(prompt)]
    found = [(case, float(predicted), float(actual)) for case, predicted, actual in cases if case]
    return [
        (case[2].strip(), case[1].strip(), predicted, actual) for case, predicted, actual in found if case[2].strip()
    ]


def candidates(best: str, errors: list[tuple[str, str, float, float]]) -> Iterator[list[str]]:
    """The best explanation's words with all that it missed, without what it predicts too high; and in parts."""
    known = QUOTED.findall(best)
    missed = [f'"{token}"' for token, _, expected, actual in errors if actual > expected]
    after = [f'"{token}" after "{before.split()[-1]}"' for token, before, e, a in errors if a > e and before]
    wrong = [f'"{token}"' for token, _, expected, actual in errors if actual < expected]
    without = [word for word in known if word not in wrong]
    yield known + missed
    yield without + missed
    yield known + after
    yield without + after
    for word in [*missed, *after]:
        yield [*known, word]


@pytest.mark.slow
def test_who_learns_the_errors_by_heart_gains_no_more_on_validation_than_on_test(
    smollm2: LoadedSubject, store: ExemplarStore
) -> None:
    llm = answering(memoriser)
    config = ns.ExplainConfig(n_tokens=60_000, patience=None)
    setup = ns.Setup(subject=smollm2, store=store, llm=llm, embeddings="minilm", simulator="hybrid", config=config)
    gains = []
    with setup.open() as lab:
        neurons = [ns.Neuron(LAYER, int(i)) for i in np.random.default_rng(0).choice(1536, 2 * NEURONS, replace=False)]
        for x in lab.explain_many(neurons, progress=False):
            for mode in x.modes:
                if None in (mode.val_score, mode.history[0].val_score, mode.score, mode.unrefined_score):
                    continue
                on_validation = mode.val_score - mode.history[0].val_score
                gains.append((x.neuron.index, on_validation, mode.score - mode.unrefined_score, len(mode.history)))
            if len({index for index, *_ in gains}) == NEURONS:
                break
    assert any(CASE.search(prompt) for prompt in llm.prompts), "errors are shown"
    assert max(gain for _, gain, *_ in gains) > 0.1, "and learnt by heart"
    by_neuron = {
        index: np.mean([row[1:3] for row in gains if row[0] == index], axis=0) for index in {row[0] for row in gains}
    }
    assert len(by_neuron) >= 20
    on_validation, on_test = np.mean(list(by_neuron.values()), axis=0)
    print(f"validation {on_validation:+.3f}, test {on_test:+.3f}, neurons {len(by_neuron)}, modes {len(gains)}")
    assert on_validation - on_test <= 0.05
