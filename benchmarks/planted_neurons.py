"""Neurons with planted meanings: real text, activations of one to five known concepts, and descriptions of them.

Of each neuron there are the true descriptions, the same merged into one sentence, with one left out, and with one split
in two. Concepts and documents come in two halves, `"choose"` and `"report"`: what is chosen on one is reported on the
other, which shares neither.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neuronscope.corpus.builtin import builtin_corpus
from neuronscope.corpus.windows import windows
from neuronscope.exemplars.sampling import draw_strata
from neuronscope.offline.text import Text, text_of
from neuronscope.subject.loading import load_model
from neuronscope.subject.tokens import token_strings
from neuronscope.types import Exemplar, Neuron, Stratum

READER = Path(__file__).parents[1] / "training" / "reader"
sys.path.insert(0, str(READER))
import planted  # noqa: E402  # beside what it was written for

Half = Literal["choose", "report"]
SPLIT = {"choose": "train", "report": "test"}
SEQUENCES = 1_200
MIN_SEQUENCES, MAX_SHARE = 15, 0.15
"""A concept must occur in so many sequences, and in no larger share of them."""
OF_A_MEANING = (10, 51)
"""Sequences in which a meaning occurs, from and up to: meanings are up to five times as frequent as others."""
FOR_TEST = 0.7
"""Of a meaning's sequences at most so many are for the test; others are there for fitting strengths."""
STRENGTH = (4.0, 10.0)
SPREAD, MISSED = 0.25, 0.1
"""Of the logarithm of activations of a meaning; share of its tokens that do not activate."""
BACKGROUND, BACKGROUND_SHARE = 2.0, 0.03
"""Tokens at random activate a little."""
LISTED, TOP, RANKED, RANDOM, TO_FIT = 100, 20, 40, 60, 30
JOINERS = ("; or {b}", "; also {b}", ", and {b}", " or {b}", "; {b} too")
WORDS_QUOTED = 10

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Concept:
    """One meaning: what it is about, in several wordings, and which tokens of a text are meant."""

    key: str
    sentences: list[str]
    hits: planted.Hits
    such_as: str = "{n}, such as {xs}"
    """How some of its words are named: `{n}` for the concept, `{xs}` for quoted words."""
    by_example: bool = True
    """Whether the true description has examples, too."""


@dataclass(frozen=True)
class PlantedNeuron:
    """A neuron of which everything is known."""

    number: int
    meanings: list[str]
    """The concepts' keys."""
    exemplars: list[Exemplar]
    """The test set with what stands for the rest of the split; activations up to 10."""
    strata: list[Stratum]
    """Positions in `exemplars`, part by part."""
    fit: list[Exemplar]
    """Others, for strengths."""
    truth: list[NDArray[np.int64]]
    """Per exemplar and token, the meaning that activates it, or -1."""
    descriptions: dict[str, list[str]]
    """By variant."""


class Corpus:
    """Sequences of one half of the documents."""

    def __init__(self, half: Half) -> None:
        _, tokenizer, _ = load_model("smollm2-135m", device="cpu", dtype="bfloat16")
        cut = [each for each in windows(builtin_corpus(), tokenizer, 64) if each.split == SPLIT[half]]
        order = np.random.default_rng(3).permutation(len(cut))[:SEQUENCES]
        self.half = half
        self.ids = [list(cut[index].token_ids) for index in order]
        self.tokens = [token_strings(tokenizer, ids) for ids in self.ids]
        self.texts: list[Text] = [text_of(tokens) for tokens in self.tokens]
        self.ends = np.cumsum([len(tokens) for tokens in self.tokens])
        self._hits: dict[str, NDArray[np.bool_]] = {}

    def hits(self, concept: Concept) -> NDArray[np.bool_]:
        """Which tokens of all sequences, one after the other, a concept means."""
        if concept.key not in self._hits:
            self._hits[concept.key] = np.concatenate([concept.hits(text) for text in self.texts]) > 0.5
        return self._hits[concept.key]

    def sequences_with(self, hits: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """In which sequences there is a hit."""
        return np.maximum.reduceat(hits, np.r_[0, self.ends[:-1]])


def concepts(corpus: Corpus) -> list[Callable[[np.random.Generator], Concept | None]]:
    """Kinds of concepts to draw from; a draw that does not belong to this half is None."""
    plain = {
        name: [(each["names"], each["members"]) for each in map(json.loads, (READER / f"{name}.jsonl").open())]
        for name in ("families", "categories")
    }
    classes = [(list(names), members.split()) for names, members in planted.CLASSES.items()]
    where = Counter(word for text in corpus.texts for word in {each for each in text.words if len(each) > 2})
    common = sorted(word for word, n in where.items() if n >= MIN_SEQUENCES and word.isalpha())
    pairs = Counter(
        pair
        for text in corpus.texts
        for pair in {
            (text.words[i - 1], text.words[i])
            for i in range(1, len(text.words))
            if text.words[i - 1].isalpha() and text.words[i].isalpha() and not text.continues[i]
        }
    )
    frequent = sorted(pair for pair, n in pairs.items() if n >= MIN_SEQUENCES)

    def of_group(groups: list[tuple[list[str], list[str]]]) -> Callable[[np.random.Generator], Concept | None]:
        def draw(rng: np.random.Generator) -> Concept | None:
            names, members = groups[rng.integers(len(groups))]
            return Concept(f"group {names[0]}", list(names[:2]), planted.among(set(members)))

        return draw

    def word(rng: np.random.Generator) -> Concept:
        chosen = str(rng.choice(common))
        forms = {chosen, chosen + "s", chosen + "ed", chosen + "ing"} & set(common)
        quoted = " or ".join(f'"{each}"' for each in sorted(forms))
        sentences = [f"The word {quoted}", f"{quoted}, wherever it stands"]
        return Concept(f"word {chosen}", sentences, planted.among(forms), "{xs}", False)

    def after(rng: np.random.Generator) -> Concept:
        before, chosen = frequent[rng.integers(len(frequent))]
        return Concept(
            f"after {before} {chosen}",
            [f'"{chosen}" right after "{before}"', f'"{chosen}" in the phrase "{before} {chosen}"'],
            planted.where(lambda t, i: t.words[i] == chosen and planted.previous(t, i) == before),
            by_example=False,
        )

    def any_after(rng: np.random.Generator) -> Concept:
        before = str(rng.choice(common))
        return Concept(
            f"any after {before}",
            [f'The word right after "{before}"', f'Any token that follows "{before}"'],
            planted.where(
                lambda t, i: bool(t.contents[i].strip()) and planted.previous(t, i) == before and not t.continues[i]
            ),
            f'{{xs}} right after "{before}"',
            False,
        )

    def affix(rng: np.random.Generator) -> Concept:
        suffix = str(rng.choice(planted.SUFFIXES))
        return Concept(
            f"affix {suffix}",
            [f'Words ending in "{suffix}"', f'Words with the ending "{suffix}"'],
            planted.where(lambda t, i: t.words[i].endswith(suffix) and len(t.words[i]) > len(suffix) + 1),
        )

    def form(rng: np.random.Generator) -> Concept:
        names, test = planted.FORMS[rng.integers(len(planted.FORMS))]
        return Concept(f"form {names[0]}", list(names[:2]), planted.where(test))

    kinds = [of_group(plain["families"]), of_group(plain["categories"]), of_group(classes)]
    return [kinds[0], *kinds, word, word, after, any_after, affix, form]


def half_of(key: str) -> Half:
    """To which half a concept belongs."""
    return "choose" if hashlib.blake2b(key.encode()).digest()[0] % 2 else "report"


def draw_neurons(corpus: Corpus, n: int, seed: int) -> Iterator[PlantedNeuron]:
    """Neurons with one to five meanings."""
    kinds, rng = concepts(corpus), np.random.default_rng([seed, 17])
    for number in range(n):
        meanings: list[Concept] = []
        while len(meanings) < 1 + number % 5:
            drawn = kinds[rng.integers(len(kinds))](rng)
            if drawn is not None and half_of(drawn.key) == corpus.half and _fits(drawn, meanings, corpus):
                meanings.append(drawn)
        yield _plant(number, meanings, corpus, rng)


def _fits(drawn: Concept, others: Sequence[Concept], corpus: Corpus) -> bool:
    """Whether a concept is neither too rare nor too frequent, and has little to do with others."""
    hits = corpus.hits(drawn)
    n = corpus.sequences_with(hits).sum()
    if not MIN_SEQUENCES <= n <= MAX_SHARE * len(corpus.tokens):
        return False
    shared = [(hits & known).sum() / min(hits.sum(), known.sum()) for known in map(corpus.hits, others)]
    return max(shared, default=0.0) <= 0.1


def _plant(number: int, meanings: Sequence[Concept], corpus: Corpus, rng: np.random.Generator) -> PlantedNeuron:
    hits = [corpus.hits(meaning) for meaning in meanings]
    inside = [corpus.sequences_with(each) for each in hits]
    allowed = ~np.any(inside, axis=0)
    for each in inside:
        n = min(int(rng.integers(*OF_A_MEANING)), int(FOR_TEST * each.sum()))
        allowed[rng.permutation(np.flatnonzero(each))[:n]] = True
    strengths = rng.uniform(*STRENGTH, len(meanings))
    values = np.stack([strength * each for strength, each in zip(strengths, hits, strict=True)])
    values = values * np.exp(rng.normal(0, SPREAD, values.shape)) * (rng.random(values.shape) > MISSED)
    whose = np.where(values.max(axis=0) > 0, values.argmax(axis=0), -1)
    noise = rng.uniform(0, BACKGROUND, len(whose)) * (rng.random(len(whose)) < BACKGROUND_SHARE)
    activations = np.maximum(values.max(axis=0), noise)
    rows, truth = np.split(activations, corpus.ends[:-1]), np.split(whose, corpus.ends[:-1])
    pool = np.flatnonzero(allowed)
    peaks = np.array([rows[index].max() for index in pool])
    listed = pool[np.argsort(-peaks, kind="stable")[:LISTED]].tolist()
    strata = draw_strata(
        pool.tolist(), listed, len(pool), Neuron(0, number), "test", top=TOP, ranked=RANKED, random=RANDOM, seed=0
    )
    chosen = [index for part in strata for index in part.ids]
    others = [index for each in inside for index in np.flatnonzero(each & ~allowed)[: TO_FIT // len(meanings)].tolist()]
    others += [index for index in rng.permutation(pool)[:200].tolist() if index not in set(chosen)]
    maximum = max(rows[index].max() for index in chosen)

    def exemplar(index: int) -> Exemplar:
        scaled = (np.minimum(rows[index] / maximum, 1) * 10).astype(np.float32)
        return Exemplar(corpus.tokens[index], corpus.ids[index], scaled, index, "")

    starts = np.cumsum([0, *(len(part.ids) for part in strata)])
    return PlantedNeuron(
        number,
        [meaning.key for meaning in meanings],
        [exemplar(index) for index in chosen],
        [Stratum(list(range(a, a + len(part.ids))), part.size) for a, part in zip(starts, strata, strict=False)],
        [exemplar(index) for index in list(dict.fromkeys(others))[: 2 * TO_FIT]],
        [truth[index] for index in chosen],
        _variants(meanings, corpus, [corpus.texts[index] for index in pool], rng),
    )


def _variants(
    meanings: Sequence[Concept], corpus: Corpus, texts: Sequence[Text], rng: np.random.Generator
) -> dict[str, list[str]]:
    words = [_words(meaning, texts) for meaning in meanings]
    true = [_described(meaning, quoted, rng) for meaning, quoted in zip(meanings, words, strict=True)]
    place = int(rng.integers(len(meanings)))
    found = {"true": true}
    if len(meanings) > 1:
        merged = true[0]
        for sentence in true[1:]:
            lowered = sentence[:1].lower() + sentence[1:]
            merged += str(rng.choice(JOINERS)).replace("{b}", lowered)
        found |= {"merged": [merged], "left out": true[:place] + true[place + 1 :]}
    split = _halves(meanings[place], words[place], rng)
    return found | {"split": true[:place] + split + true[place + 1 :]}


def _words(concept: Concept, texts: Sequence[Text]) -> list[str]:
    """What a concept's tokens are in these texts, the most frequent first."""
    found = Counter(
        text.words[i] or text.contents[i] for text in texts for i in np.flatnonzero(concept.hits(text) > 0.5)
    )
    return [word for word, _ in found.most_common() if word.strip() and '"' not in word][:WORDS_QUOTED]


def _described(concept: Concept, words: Sequence[str], rng: np.random.Generator) -> str:
    name = str(rng.choice(concept.sentences))
    if not concept.by_example or len(words) < 2:
        return name
    return concept.such_as.replace("{n}", name).replace("{xs}", _quoted(words))


def _halves(concept: Concept, words: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Two sentences, each about half of a concept's words; of a concept of one word, both about it."""
    if len(words) < 2:
        return concept.sentences[:2]
    pattern = concept.such_as if rng.random() < 0.5 or not concept.by_example else "{xs}"
    return [pattern.replace("{n}", concept.sentences[0]).replace("{xs}", _quoted(words[start::2])) for start in (0, 1)]


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)
