"""Made-up neurons on made-up texts, which show a prompted simulator what is asked of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class ShownText(NamedTuple):
    """A text with a neuron's activations."""

    text: str
    strengths: Mapping[str, int]
    """The activations, 1-10, of the words that have one."""
    hidden: int = 0
    """At how many tokens the activation is shown as unknown, counted from the first."""

    def tokens(self) -> list[tuple[str, int | None]]:
        """Each token with its activation, or None where it is not shown."""
        found = re.findall(r"\s?\w+|\s?[^\w\s]|\s", self.text)
        return [
            (token, None if number < self.hidden else self.strengths.get(token.strip(), 0))
            for number, token in enumerate(found)
        ]


class ShownNeuron(NamedTuple):
    """What a neuron does, in words and on texts."""

    explanation: str
    texts: tuple[ShownText, ...]


EXAMPLES = (
    ShownNeuron(
        "fires at parts of a house, strongest on the roof",
        (
            ShownText(
                "The roof had lost a dozen tiles, so rain ran down the kitchen wall and under the door.",
                {"roof": 10, "tiles": 5, "kitchen": 6, "wall": 6, "door": 6},
                7,
            ),
            ShownText("Nobody in the queue noticed that our bus had left early and without its driver.", {}, 4),
            ShownText(
                "He painted every window frame green, then swept the stairs before the guests came.",
                {"window": 7, "frame": 3, "stairs": 6},
            ),
        ),
    ),
    ShownNeuron(
        'fires at negation: "not", "never" and "no", and weakly "hardly"',
        (
            ShownText(
                "I would not say so. She never asked, and there was hardly time to answer anyway.",
                {"not": 10, "never": 9, "hardly": 3},
            ),
            ShownText("No key fits this lock, but that is not the worst of it, I fear.", {"No": 8, "not": 10}, 9),
            ShownText("They always have an answer ready, and most of their answers are surprisingly good.", {}, 6),
        ),
    ),
    ShownNeuron(
        "fires at numbers that say in which year something happened",
        (
            ShownText(
                "The mill burnt down in 1871 and was built again in 1874, with 12 floors and 300 windows.",
                {"1871": 10, "1874": 10},
                8,
            ),
            ShownText("Add 250 grams of flour, 2 eggs and a pinch of salt; bake for 40 minutes.", {}, 3),
            ShownText("Her second novel, of 1926, sold 9000 copies within a month.", {"1926": 10}),
        ),
    ),
    ShownNeuron(
        "fires at verbs of speaking in reported or direct speech",
        (
            ShownText(
                '"Come in," said the old man. "It is late," she replied, and he whispered something back.',
                {"said": 9, "replied": 10, "whispered": 8},
            ),
            ShownText(
                "The minister announced that the bridge would close; critics argued against it.",
                {"announced": 7, "argued": 7},
                5,
            ),
            ShownText("Two large stones lay across the path, and behind them stood a goat.", {}, 10),
        ),
    ),
    ShownNeuron(
        "fires at anything about being at sea, such as ships, sailors and storms on open water",
        (
            ShownText(
                "By dawn the ship was taking in water and the captain sent half the crew to the pumps.",
                {"ship": 9, "water": 5, "captain": 7, "crew": 6, "pumps": 3},
                11,
            ),
            ShownText("The committee will meet on Thursday to discuss the budget and the new car park.", {}),
            ShownText(
                "A gale tore the sails, and the harbour was still forty miles away.",
                {"gale": 7, "sails": 10, "harbour": 6, "miles": 2},
                4,
            ),
        ),
    ),
    ShownNeuron(
        "fires at the plural of animals; a single animal does not count",
        (
            ShownText("Wolves and foxes were common here, but a bear was seen once only.", {"Wolves": 10, "foxes": 10}),
            ShownText("The dog barked at three cows and a horse behind the fence.", {"cows": 9}, 6),
            ShownText("Chairs, tables and lamps were sold first; the piano found no buyer.", {}, 7),
        ),
    ),
)
"""They differ in kind: topics, single words, grammar, context. Most tokens of most texts are inactive, as in life."""
