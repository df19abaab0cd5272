"""A small world whose truth is known: a subject with planted neurons, text, a simulator and agents of few lines."""

import asyncio
import random
import re
from dataclasses import dataclass, field

import numpy as np
from langchain_core.embeddings import Embeddings

from neuronscope.config import ExplainConfig
from neuronscope.exemplars.sampling import draw_strata
from neuronscope.results import Cluster
from neuronscope.state import Instruments
from neuronscope.types import Exemplar, Neuron

COLOURS = ["red", "green", "blue"]
ANIMALS = ["cat", "dog", "horse"]
FILLER = ["the", "house", "stood", "near", "a", "long", "road", "and", "it", "was", "quiet"]

BOTH = Neuron(0, 0)  # fires at 6 on colours and at 4 on animals
DEAD = Neuron(0, 1)
NEGATIVE = Neuron(0, 2, sign=-1)  # -2 on "house"

COLOUR_MODE = 'This neuron activates on "red" or "green".'
ANIMAL_MODE = 'This neuron activates on "cat" or "dog".'
BETTER_COLOURS = 'This neuron activates on "red", "green" or "blue".'
BETTER_ANIMALS = 'This neuron activates on "cat", "dog" or "horse".'


class WordTokenizer:
    """One token per word, with the space in front of it."""

    bos_token_id = None

    def __init__(self):
        self.words = []

    def __call__(self, text, add_special_tokens=False, split_special_tokens=True):
        return {"input_ids": [self._id(word) for word in re.findall(r"\s*\S+", text)]}

    def _id(self, word):
        if word not in self.words:
            self.words.append(word)
        return self.words.index(word)

    def decode(self, ids, **_):
        return "".join(self.words[i] for i in ids)

    def convert_ids_to_tokens(self, ids):
        return [self.words[i] for i in ids]


class PlantedSubject:
    name = "planted"
    n_layers = 1

    def __init__(self):
        self.tokenizer = WordTokenizer()

    def width(self, layer):
        return 3

    def activations(self, token_ids, layers):
        return {layer: [np.array([self._row(i) for i in ids], np.float32) for ids in token_ids] for layer in layers}

    def _row(self, token_id):
        word = self.tokenizer.words[token_id].strip()
        return [6.0 * (word in COLOURS) + 4.0 * (word in ANIMALS), 0.0, -2.0 * (word == "house")]


@dataclass
class MemorySource:
    """Exemplars of a few documents, computed on the spot; remembers which sequences it was asked for."""

    subject: PlantedSubject
    documents: list[str]
    asked: list[list[int]] = field(default_factory=list)

    def by_id(self, neuron, sequence_ids):
        self.asked.append(list(sequence_ids))
        return [self._exemplar(neuron, number) for number in sequence_ids]

    def exemplars(self, neuron, split="train", n=20):
        found = [self._exemplar(neuron, number) for number in self.of_split(split)]
        return sorted(found, key=lambda exemplar: -exemplar.activations.max())[:n]

    def random_sequences(self, neuron, split="test", n=20, seed=0):
        rest = [number for number in self.of_split(split) if self._exemplar(neuron, number).activations.max() == 0]
        chosen = random.Random(seed).sample(rest, min(n, len(rest)))
        return [self._exemplar(neuron, number) for number in chosen]

    def of_split(self, split):
        place = ("train", "validation", "test").index("train" if split == "feedback" else split)
        return [number for number in range(len(self.documents)) if number % 3 == place]

    def _exemplar(self, neuron, number):
        ids = self.subject.tokenizer(self.documents[number])["input_ids"]
        raw = self.subject.activations([ids], [neuron.layer])[neuron.layer][0][:, neuron.index]
        tokens = self.subject.tokenizer.convert_ids_to_tokens(ids)
        return Exemplar(tokens, ids, np.maximum(neuron.sign * raw, 0), number, "memory")


@dataclass
class StratifiedMemory(MemorySource):
    """A source that can sample a whole split, and lists so many top sequences of it, active ones alone."""

    listed: int = 100

    def exemplars(self, neuron, split="train", n=20):
        found = super().exemplars(neuron, split, n)
        return [exemplar for exemplar in found if exemplar.activations.max() > 0]

    def strata(self, neuron, split="test", *, top=20, ranked=40, random=60, seed=0):
        everything = self.of_split(split)
        ids = [exemplar.sequence_id for exemplar in self.exemplars(neuron, split, self.listed)]
        n = {"top": top, "ranked": ranked, "random": random}
        return draw_strata(everything, ids, len(everything), neuron, split, **n, seed=seed)


class WordSimulator:
    """Predicts 10 on the words that an explanation quotes; counts its calls, and insists on seeing no truth."""

    def __init__(self):
        self.calls = []
        self.fail_on = None

    def simulate(self, explanations, exemplars):
        self.calls.append((list(explanations), [exemplar.sequence_id for exemplar in exemplars]))
        assert not any(exemplar.activations.any() for exemplar in exemplars)
        if self.fail_on is not None and any(self.fail_on in text for text in explanations):
            raise RuntimeError("out of memory")
        quoted = [re.findall(r'"(.+?)"', text) for text in explanations]
        return [
            np.array([[10.0 * (token.strip() in words) for token in exemplar.tokens] for words in quoted])
            for exemplar in exemplars
        ]


class NoEmbeddings(Embeddings):
    def embed_documents(self, texts):
        raise AssertionError("nobody should embed here")

    def embed_query(self, text):
        raise AssertionError("nobody should embed here")


def documents(n=90):
    """Sentences with a colour, with an animal, or with neither, each kind in every split."""
    rng = random.Random(0)
    kinds = [COLOURS, ANIMALS, [], []]
    written = []
    for number in range(n):
        words = rng.choices(FILLER, k=10)
        if kind := kinds[number // 3 % 4]:
            words[rng.randrange(10)] = rng.choice(kind)
        written.append(" ".join([*words, str(number)]))
    return written


def instruments(**changes):
    subject = PlantedSubject()
    settings = {
        "subject": subject,
        "store": MemorySource(subject, documents()),
        "simulator": WordSimulator(),
        "embeddings": NoEmbeddings(),
        "config": ExplainConfig(),
    }
    return Instruments(**(settings | changes))


async def hypothesis(state, runtime):
    return {"hypotheses": ["It activates on colours and on animals."]}


async def decomposition(state, runtime):
    return {"atoms": [COLOUR_MODE, ANIMAL_MODE]}


async def clustering(state, runtime):
    return {"clusters": [Cluster([text], text) for text in state["atoms"]]}


async def refinement(state, runtime):
    """Knows the answer: the better sentence of the mode's kind, among worse ones."""
    await asyncio.sleep(0)
    better = BETTER_COLOURS if "red" in state["mode"].explanation else BETTER_ANIMALS
    return proposed(state, ['This neuron activates on "road".', better])


def proposed(state, candidates):
    """What a refinement agent returns."""
    return {"proposals": {state["mode"].representative: candidates}}


AGENTS = {
    "hypothesis": hypothesis,
    "decomposition": decomposition,
    "clustering": clustering,
    "refinement": refinement,
}
