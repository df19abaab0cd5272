"""What a reader sees of a result, and that nothing in a result can take over the page or the terminal."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import neuronscope as ns
from neuronscope.display import TerminalReport, plot_clusters, plot_convergence, words
from neuronscope.display import page as view
from neuronscope.display.run import in_a_line
from neuronscope.display.run_table import RunTable
from neuronscope.results import (
    Attempt,
    Cluster,
    Excerpt,
    Failure,
    Mode,
    NeuronExplanation,
    Probe,
    ProbeText,
    Usage,
)
from neuronscope.types import Neuron

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><style>*{display:none}",
    "{{ 7 * 7 }}{% raw %}",
    "[bold red]not markup[/bold red] [/] [link=http://x]y[/link]",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b1m",
    "nul\x00byte \x08\x7f",
    "\u202ereversed\u2066\u2069\u200e\u200b\ufeff\u2028",
    "lone \ud83d surrogate",
]


def excerpt(text: str, strengths: dict[str, tuple[float, float]], number: int = 1, source: str = "news") -> Excerpt:
    """An excerpt of words and marks; `strengths` has (activation, prediction) of the tokens that are not silent."""
    tokens = re.findall(r"\s?\w+|\W", text)
    pairs = [strengths.get(token.strip() or token, (0.1, 0.3)) for token in tokens]
    return Excerpt(tokens, [actual for actual, _ in pairs], [guess for _, guess in pairs], number, source)


CAUSES = Mode(
    explanation='This neuron activates on "because" and "since" when they give the reason for what was just said.',
    score=0.58,
    val_score=0.61,
    subset_score=0.71,
    strength=8.3,
    unrefined_score=0.44,
    history=[
        Attempt(0, "This neuron activates when the text gives a reason.", 0.42),
        Attempt(1, 'This neuron activates on words such as "because" that give a reason.', 0.55),
        Attempt(2, "This neuron activates on causal conjunctions.", 0.51),
        Attempt(
            3,
            'This neuron activates on "because" and "since" when they give the reason for what was just said.',
            0.61,
        ),
    ],
    atoms=[
        'This neuron activates when the word "because" appears.',
        "This neuron activates when the text gives a reason.",
        'This neuron fires when "since" introduces a cause.',
    ],
    excerpts=[
        excerpt(
            "The ferry was cancelled on Sunday because the harbour had frozen over, and since no other boat was "
            "willing to leave the islanders stayed where they were until Tuesday.",
            {"because": (9.7, 8.6), "since": (7.9, 8.1), "the": (0.4, 1.2), "harbour": (2.2, 0.2)},
        ),
        excerpt(
            "Q: Why do cats purr?\nA: Mostly because they are content, but also since it calms them\nwhen hurt.",
            {"because": (8.8, 8.6), "since": (6.1, 7.9), "Why": (3.6, 0.1), "Mostly": (1.8, 0.4)},
            2,
            "dialogue",
        ),
        excerpt(
            "A generator is preferred here because it keeps only one line in memory at a time.",
            {"because": (8.1, 8.6), "it": (1.1, 0.6)},
            3,
            "technical",
        ),
        excerpt("He left because of the noise.", {"because": (6.4, 8.0), "of": (4.4, 1.0)}, 4, "news"),
        excerpt("She stayed because of the view.", {"because": (6.0, 8.0), "of": (4.1, 1.0)}, 5, "news"),
        excerpt("They came since they were asked.", {"since": (5.2, 7.7)}, 6, "encyclopedia"),
    ],
)
METALS = Mode(
    explanation="This neuron activates on the names of metals, most of all in chemistry and mining.",
    score=0.37,
    val_score=0.39,
    subset_score=0.49,
    unrefined_score=0.40,
    history=[
        Attempt(0, "This neuron activates on the names of metals, most of all in chemistry and mining.", 0.39),
        Attempt(1, "This neuron activates on chemical elements.", 0.31),
    ],
    atoms=["This neuron activates when a metal is named.", "This neuron activates when mining is discussed."],
    excerpts=[
        excerpt(
            "The district produced copper, tin and small amounts of silver from the eighteenth century onwards; "
            "zinc was found only after 1890.",
            {"copper": (9.1, 6.0), "tin": (8.2, 5.5), "silver": (7.0, 5.8), "zinc": (7.7, 6.1), "found": (0.2, 2.9)},
            7,
            "encyclopedia",
        )
    ],
)


def explained() -> NeuronExplanation:
    """A result such as a run leaves behind."""
    return NeuronExplanation(
        neuron=Neuron(9, 421),
        status="explained",
        modes=[CAUSES, METALS],
        score=0.475,
        joint_score=0.63,
        unrefined_score=0.42,
        hypotheses=["The neuron responds to words that give reasons, and to the names of metals."],
        atoms=[*CAUSES.atoms, *METALS.atoms, "This neuron activates on Sundays."],
        clusters=[
            Cluster(CAUSES.atoms, CAUSES.atoms[0], [(0.1, 0.2), (0.15, 0.25), (0.12, 0.18)]),
            Cluster(METALS.atoms, METALS.atoms[0], [(-0.4, 0.1), (-0.35, 0.12)]),
            Cluster(["This neuron activates on Sundays."], "This neuron activates on Sundays.", [(0.0, -0.5)], True),
        ],
        usage=Usage({"hypothesis": 3, "refinement": 5}, {"hypothesis": 5120}, {"hypothesis": 410}, 183_040, 12.4),
        provenance={
            "subject": {"name": "smollm2-135m", "dtype": "bfloat16"},
            "corpus": {"name": "builtin", "tokens": 150_000},
            "config": {"n_hypotheses": 3, "seed": 0},
            "versions": {"neuronscope": "0.1.0"},
        },
    )


def tried_out() -> NeuronExplanation:
    """A result whose first mode has been tried out, before and after it was refined."""
    before = [ProbeText("It rained since noon.", True, False, " since", 1.2)]
    after = [
        ProbeText("We stayed in because it rained.", True, True, " because", 9.3),
        ProbeText("We have known her since 1990.", False, True, " since", 4.4),
        ProbeText("They left since nobody came.", True, False, "", 0.0),
    ]
    probes = [
        Probe(1, CAUSES.history[0].explanation, before),
        Probe(2, CAUSES.explanation, error="The subject is out of memory."),
        Probe(4, CAUSES.explanation, after),
    ]
    return replace(explained(), modes=[replace(CAUSES, probes=probes), METALS])


def dead() -> NeuronExplanation:
    return NeuronExplanation(neuron=Neuron(3, 17, sign=-1), status="dead", provenance={"subject": "smollm2-135m"})


def hostile(text: str) -> NeuronExplanation:
    """A result in which every string that comes from a corpus or a language model is `text`."""
    mode = Mode(
        explanation=text,
        history=[Attempt(0, text, 0.1)],
        atoms=[text],
        excerpts=[Excerpt([text, text], [9.0, 0.0], [1.0, 0.0], 1, text)],
        probes=[Probe(1, text, [ProbeText(text, True, False, text, 1.0)]), Probe(2, text, error=text)],
    )
    return NeuronExplanation(
        neuron=Neuron(0, 0),
        status="partial",
        modes=[mode],
        hypotheses=[text],
        atoms=[text],
        clusters=[Cluster([text], text, [(0.0, 0.0)]), Cluster([text], text, [(0.0, 1.0)], True)],
        failures=[Failure(text, text)],
        usage=Usage({text: 1}),
        provenance={"subject": text, text: [text]},
    )


class Page(HTMLParser):
    """Reads a page back: its elements with their attributes, and the text of every excerpt."""

    VOID = frozenset({"meta", "link", "br", "img", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.excerpts: list[str] = []
        self.text = ""
        self._in_excerpt = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if ("class", "nsc-text") in attrs:
            self._in_excerpt = True
            self.excerpts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"
        if tag == "p":
            self._in_excerpt = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_excerpt:
            self.excerpts[-1] += data


def terminal(explanation: NeuronExplanation, width: int = 80, colour: bool = False) -> str:
    console = Console(
        file=StringIO(), width=width, force_terminal=colour, color_system="truecolor" if colour else None, no_color=None
    )
    console.print(TerminalReport(explanation))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


# --- words ------------------------------------------------------------------------------------------------------------


@given(st.text(st.characters()))
def test_visible_text_has_nothing_invisible_or_controlling_in_it(text: str) -> None:
    shown = words.visible(text)
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not [c for c in shown if unicodedata.category(c) in hidden and c not in "\u200c\u200d"]
    assert words.visible(shown) == shown


@given(st.text(st.characters(blacklist_categories=("Cc", "Cf", "Cs", "Zl", "Zp"))))
def test_ordinary_text_of_any_language_stays_as_it_is(text: str) -> None:
    assert words.visible(text) == text


def test_line_breaks_tabs_and_escapes_are_shown_as_symbols() -> None:
    assert words.visible("a\nb\tc\x1bd\u202ee") == "a↵b⇥c␛d‹U+202E›e"


def test_joiners_that_spelling_needs_are_kept() -> None:
    assert words.visible("می\u200cخواهم 👩\u200d🔬") == "می\u200cخواهم 👩\u200d🔬"


def test_numbers_that_are_not_numbers_are_shown_as_a_dash() -> None:
    shown = [words.number(value) for value in (0.426, -0.1, -0.001, float("nan"), float("inf"))]
    assert shown == ["0.43", "−0.10", "0.00", "–", "–"]
    assert words.level(float("nan")) == 0


@given(st.floats())
def test_a_shade_is_always_one_of_eleven_steps(activation: float) -> None:
    assert words.level(activation) in range(11)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_tells_scores_explanations_and_origin() -> None:
    text = Page(explained().to_html()).text
    for expected in ("Layer 9, neuron 421", "smollm2-135m", "0.63", "0.44 → 0.58", "+0.14", "0.71"):
        assert expected in text
    for mode in explained().modes:
        assert mode.explanation in text
        assert all(atom in text for atom in mode.atoms)
    assert "183,040" in text
    assert "corpus.tokens" in text


def test_an_excerpt_keeps_its_text_exactly() -> None:
    excerpts = [excerpt for mode in explained().modes for excerpt in mode.excerpts]
    assert Page(explained().to_html()).excerpts == [words.visible("".join(item.tokens)) for item in excerpts]


def test_tokens_carry_shade_underline_and_numbers() -> None:
    page = Page(explained().to_html())
    because = next(attrs for tag, attrs in page.elements if attrs.get("title") == "activation 9.7, predicted 8.6")
    assert because["style"] == f"{view.token_style(10, 0)};{view.token_style(0, 9)}"


def test_a_token_without_text_of_its_own_is_still_seen() -> None:
    mode = Mode("emoji", excerpts=[Excerpt(["", "🙂"], [9.0, 3.0], [0.0, 0.0], 1, "news")])
    assert Page(replace(explained(), modes=[mode]).to_html()).excerpts == [view.PART_OF_CHARACTER + "🙂"]


def test_what_was_not_predicted_is_no_silence() -> None:
    mode = Mode("by hand", excerpts=[Excerpt(["a", " b"], [9.0, 3.0], [], 1, "")])
    page = Page(replace(explained(), modes=[mode]).to_html())
    assert page.excerpts == ["a b"]
    assert {"activation 9.0, not predicted"} <= {attributes.get("title") for _, attributes in page.elements}
    with pytest.raises(ns.ConfigurationError, match="an activation for each token"):
        Excerpt(["a", " b"], [9.0], [1.0, 0.0], 1, "")


def test_the_page_asks_nobody_for_anything_and_runs_no_script() -> None:
    page = Page(explained().to_html())
    assert "script" not in {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        addresses = [attributes[name] for name in ("src", "href", "action") if name in attributes]
        assert all(address == "data:," for address in addresses)
    html = explained().to_html()
    assert "url(" not in html
    assert "@import" not in html
    assert "http" not in html.replace("http-equiv", "")


def test_a_result_without_numbers_to_show_still_has_a_whole_page() -> None:
    bare = NeuronExplanation(neuron=Neuron(0, 0), status="explained", modes=[Mode("Only a sentence.")])
    page = Page(bare.to_html())
    assert page.open == []
    assert "No test excerpt belongs to this meaning." in page.text


def test_a_dead_neuron_is_told_in_words() -> None:
    page = Page(dead().to_html())
    assert "no activation of this sign" in page.text
    assert "large negative values" in page.text
    assert page.open == []


def test_a_partial_result_tells_what_went_wrong() -> None:
    failed = replace(explained(), status="partial", failures=[Failure("refinement", "The model gave no JSON.")])
    text = Page(failed.to_html()).text
    assert "The result is partial" in text
    assert "What went wrong" in text
    assert "The model gave no JSON." in text


def test_explanations_that_predict_nothing_are_not_praised() -> None:
    useless = replace(explained(), modes=[replace(METALS, score=0.02)], joint_score=0.03)
    assert "better than chance" in Page(useless.to_html()).text
    assert "better than chance" not in Page(explained().to_html()).text


def test_a_constant_prediction_is_told() -> None:
    assert "predicts the same everywhere" in replace(explained(), modes=[replace(METALS, constant=True)]).to_html()


def test_the_page_tells_what_was_written_and_what_the_neuron_did_on_it() -> None:
    page = Page(tried_out().to_html())
    assert page.open == []
    for expected in (
        "Generation: texts written from it that activate it 50%",
        "(3 probes)",
        "After 0 iterations, written from: This neuron activates when the text gives a reason.",
        "should activate inactive at “since” (1.2) It rained since noon.",
        "Nothing was measured: The subject is out of memory.",
        "After 3 iterations",
        "should activate active at “because” (9.3) We stayed in because it rained.",
        "should not active at “since” (4.4) We have known her since 1990.",
        "should activate inactive (0.0) They left since nobody came.",
    ):
        assert "".join(expected.split()) in "".join(page.text.split())
    assert sum(attributes.get("class") == "nsc-surprise" for _, attributes in page.elements) == 3


def test_without_probes_no_report_speaks_of_generation() -> None:
    assert "Generation" not in Page(explained().to_html()).text
    assert "Generation" not in terminal(explained())


@pytest.mark.parametrize("render", [NeuronExplanation.to_html, NeuronExplanation._repr_html_], ids=["page", "fragment"])
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_does_nothing(text: str, render) -> None:
    harmless = Page(render(hostile("harmless")))
    html = render(hostile(text))
    page = Page(html)
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]
    assert [list(attributes) for _, attributes in page.elements] == [list(a) for _, a in harmless.elements]
    assert page.excerpts == [words.visible(text) * 2]
    assert not [c for c in html if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c != "\n"]
    html.encode()


@given(st.text(st.characters(), max_size=40))
def test_no_text_at_all_changes_the_structure_of_the_page(text: str) -> None:
    page, harmless = Page(hostile(text).to_html()), Page(hostile("harmless").to_html())
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]


def test_a_fragment_styles_nothing_outside_itself() -> None:
    html = explained()._repr_html_()
    style = html[html.index("<style>") + 7 : html.index("</style>")]
    plain = re.sub(r"@media[^{]*\{", "", style)
    selectors = [
        part.strip() for block in re.findall(r"([^{}]+)\{", plain) for part in re.split(r",(?![^(]*\))", block)
    ]
    assert len(selectors) > 40
    assert not [selector for selector in selectors if ".nsc" not in selector]


def test_a_fragment_is_not_a_document_and_repeats_no_id() -> None:
    tags = Page(explained()._repr_html_()).elements
    assert not {"html", "head", "body", "h1"} & {tag for tag, _ in tags}
    assert not [attributes for _, attributes in tags if "id" in attributes]


def test_to_html_returns_the_page_or_where_it_has_written_it(tmp_path) -> None:
    path = tmp_path / "new" / "n.html"
    assert explained().to_html(str(path)) == path
    assert path.read_text("utf-8") == explained().to_html()


# --- what was not measured --------------------------------------------------------------------------------------------


def unmeasured() -> NeuronExplanation:
    """A result of a corpus without held-out text."""
    mode = replace(
        CAUSES,
        score=None,
        val_score=None,
        subset_score=None,
        unrefined_score=None,
        history=[Attempt(0, "This neuron activates when the text gives a reason.", None)],
    )
    return NeuronExplanation(
        Neuron(9, 421), "partial", modes=[mode], failures=[Failure("conclude", "There are no test scores.")]
    )


def test_no_display_has_a_number_where_nothing_was_measured() -> None:
    x = unmeasured()
    page, shown = Sanitised(x.to_html()).text, terminal(x, width=120)
    for text in (page, shown, in_a_line(x), repr(x), repr(x.modes[0])):
        assert "not measured" in text
        assert not re.search(r"(?<![\d.])[01]\.\d\d(?!\d)", text.replace("seconds", "")), text
    assert "None of it was measured on test text." in " ".join(page.split())
    assert "better than chance" not in page
    assert json.loads(x.to_json())["modes"][0]["score"] is None
    assert [text.get_text() for text in plot_convergence(x).axes[0].texts] == [
        "There is nothing to draw: no score was measured."
    ]


def test_a_table_of_many_has_dashes_and_means_of_what_was_measured() -> None:
    console = Console(file=StringIO(), width=160)
    console.print(RunTable([explained(), unmeasured(), dead()], ["", "", ""]))
    assert isinstance(console.file, StringIO)
    shown = console.file.getvalue()
    (row,) = [line for line in shown.splitlines() if "(partial)" in line]
    assert row.count("–") == 1
    assert "joint score 0.63 (1 of them not measured)" in shown
    assert "–: not measured." in shown


def test_some_scores_of_a_mode_may_be_missing_and_the_others_stand() -> None:
    x = replace(explained(), modes=[CAUSES, replace(METALS, score=None, subset_score=None)])
    assert "0.40 → not measured" in " ".join(Page(x.to_html()).text.split())
    assert "0.40 → –" in terminal(x, width=120)
    assert "–: not measured." in terminal(x, width=120)
    history = [Attempt(0, "a", None), Attempt(1, "b", 0.25), Attempt(2, "c", 0.5)]
    drawing = view.sparkline(replace(METALS, history=history))
    assert drawing is not None
    assert [point.title for point in drawing.points] == ["Iteration 1: 0.25", "Iteration 2: 0.50"]


def with_intervals() -> NeuronExplanation:
    """A gain beyond its interval, and a loss within it."""
    return replace(
        explained(),
        modes=[
            replace(CAUSES, interval=(0.5, 0.66), supported=True),
            replace(METALS, interval=(0.3, 0.45), supported=False),
        ],
        interval=(0.55, 0.71),
        corpus_score=0.52,
        corpus_interval=(0.42, 0.61),
        number_interval=(1, 2),
        separation=0.58,
        separation_interval=(0.47, 0.69),
        null_score=0.02,
        null_best=0.11,
    )


def test_displays_show_four_figures_with_their_intervals_and_the_null() -> None:
    x = with_intervals()
    page, shown = Page(x.to_html()).text, terminal(x, width=120)
    for text in (" ".join(each.split()) for each in (page, shown, in_a_line(x))):
        assert "(0.55 to 0.71)" in text
        assert "(0.42 to 0.61)" in text
        assert "(0.47 to 0.69)" in text
        assert "(1 to 2 supported)" in text
    for text in (page, shown):
        assert "(0.50 to 0.66)" in text
        assert words.NOT_SUPPORTED in " ".join(text.split())
        assert "other neurons’ explanations: 0.02, the best of as many as were tried 0.11" in " ".join(text.split())
    assert words.NOT_SUPPORTED not in terminal(explained(), width=120)
    for name in ("Corpus score", "Separation", "other neurons"):
        assert name not in Page(explained().to_html()).text
    console = Console(file=StringIO(), width=120)
    console.print(RunTable([x, dead()], ["", ""]))
    assert isinstance(console.file, StringIO)
    assert re.search(r"2 \(1–2\) +0\.63 ±0\.08 +0\.52 ±0\.10 +0\.58 ±0\.11", console.file.getvalue())
    assert "corpus score 0.52, separation 0.58" in " ".join(console.file.getvalue().split())


def test_a_score_of_a_whole_split_is_exact() -> None:
    x = replace(with_intervals(), corpus_interval=(0.52, 0.52))
    assert "0.52 (exact)" in terminal(x, width=120)


def test_a_difference_within_its_interval_is_not_coloured() -> None:
    x = with_intervals()
    assert x.to_html().count('class="nsc-delta-up"') == 1, "the first mode's"
    assert 'class="nsc-delta-down"' not in x.to_html()
    assert 'class="nsc-delta-down"' in explained().to_html()
    unsure = replace(x, modes=[replace(CAUSES, interval=(0.3, 0.8)), x.modes[1]]).to_html()
    assert 'class="nsc-delta-up"' not in unsure
    assert "+0.14" in unsure
    assert 'fill="var(--nsc-gain)"/>' in x.to_html()
    assert 'fill="var(--nsc-gain)"/>' not in unsure


# --- in JupyterLab ----------------------------------------------------------------------------------------------------

KEPT_STYLES = re.compile(
    r"(background-color|color):(#[0-9a-f]{6}|rgba\(\d+,\d+,\d+,[\d.]+\))|border-bottom:\d+px (solid|dashed|dotted) "
    r"rgba\(\d+,\d+,\d+,[\d.]+\)|font-weight:(bold|\d00)|white-space:pre-wrap|float:none|width:(auto|\d+%)|"
    r"list-style:none|padding:0|line-height:[\d.]+|text-align:left"
)
"""Of JupyterLab 4's `allowedStyles`, those that are used here, as its patterns take them."""
KEPT_TAGS = set(
    "abbr article b blockquote br code dd details div dl dt em figure h1 h2 h3 h4 h5 h6 header i li ol p pre q section "
    "small span strong summary table tbody td th thead tr u ul".split()
)
KEPT_ATTRIBUTES = {"class", "dir", "style", "title", "open", "scope", "width", "height"}


class Sanitised(HTMLParser):
    """What JupyterLab leaves of an output in a notebook that is not trusted."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.styles: list[tuple[str, str]] = []
        self.text = ""
        self._dropped = 0
        self._style = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "style":
            self._dropped += 1
        rules = (dict(attrs).get("style") or "").split(";") if tag in KEPT_TAGS else []
        self._style = ";".join(rule for rule in rules if KEPT_STYLES.fullmatch(rule))

    def handle_endtag(self, tag: str) -> None:
        self._dropped -= tag == "style"
        self._style = ""

    def handle_data(self, data: str) -> None:
        if not self._dropped:
            self.text += data
            self.styles.append((data, self._style))


def test_a_notebook_that_is_not_trusted_still_shows_what_the_neuron_did() -> None:
    left = Sanitised(explained()._repr_html_())
    assert "--nsc" not in left.text
    painted = {text: style for text, style in reversed(left.styles) if "background-color" in style}
    assert "rgba(245,148,20,1)" in painted["because"]
    assert "border-bottom:3px solid" in painted["because"]
    assert "border-bottom" not in painted["harbour"]
    (best,) = [style for text, style in left.styles if style == "font-weight:bold" and text == CAUSES.atoms[0]]
    assert best
    assert re.search(r"1 This neuron activates", " ".join(left.text.split()))


def test_every_style_that_carries_meaning_is_one_that_jupyterlab_keeps() -> None:
    for html in (explained()._repr_html_(), tried_out()._repr_html_(), unmeasured()._repr_html_()):
        for tag, attributes in Page(html).elements:
            if tag in KEPT_TAGS:
                for rule in filter(None, (attributes.get("style") or "").split(";")):
                    assert KEPT_STYLES.fullmatch(rule), rule


def test_labels_and_lists_do_not_float_as_jupyterlab_lets_them() -> None:
    html = explained()._repr_html_()
    for tag, attributes in Page(html).elements:
        if tag in ("dt", "dd"):
            assert {"float:none", "width:auto"} <= set((attributes["style"] or "").split(";"))
    style = html[html.index("<style>") : html.index("</style>")]
    (reset,) = [rule for rule in re.findall(r"[^{}]+\{[^}]*\}", style) if "float: none" in rule]
    assert re.match(r"\s*:is\(\.nsc, #nsc\) :is\(dl, dt, dd, ul, ol\)", reset), "it outranks rules of several classes"
    assert {"width: auto", "display: block"} <= {part.strip() for part in reset[reset.index("{") + 1 :].split(";")}


@pytest.mark.parametrize("shade", range(11))
@pytest.mark.parametrize(("ground", "ink"), [((255, 254, 252), (31, 29, 26)), ((17, 17, 17), (236, 234, 230))])
def test_shaded_tokens_can_be_read_on_light_and_dark_grounds(shade: int, ground: Any, ink: Any) -> None:
    style = view.token_style(shade, 0)
    found = re.search(r"rgba\((\d+),(\d+),(\d+),([\d.]+)\)", style)
    *colour, opacity = map(float, found.groups()) if found else (*ground, 0.0)
    painted = [opacity * over + (1 - opacity) * under for over, under in zip(colour, ground, strict=True)]
    letters = (28, 18, 0) if "color:#1c1200" in style.replace("background-color", "") else ink
    lighter, darker = sorted((luminance(painted), luminance(letters)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def luminance(colour: Any) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [value / 255 for value in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# --- the terminal -----------------------------------------------------------------------------------------------------


def test_the_terminal_tells_scores_and_explanations() -> None:
    text = terminal(explained(), width=100)
    for expected in ("Layer 9, neuron 421", "smollm2-135m", "0.44 → 0.58", "0.71", "This neuron activates on"):
        assert expected in text


def test_a_strength_stands_beside_the_explanation_where_one_was_fitted() -> None:
    lines = terminal(explained(), width=120).splitlines()
    (head,) = [line for line in lines if "Strength" in line]
    assert head.index("Explanation") < head.index("Strength") < head.index("Test score")
    assert [line.split()[-5] for line in lines if "→" in line] == ["8.3", "–"]
    assert Sanitised(explained().to_html()).text.count("Strength where it applies, of 10") == 1


def test_the_terminal_tells_the_generation_score_and_the_texts_that_it_counts() -> None:
    lines = terminal(tried_out(), width=120).splitlines()
    (head,) = [line for line in lines if "Generation" in line]
    assert len(head) > head.index("Generation") > head.index("Subset")
    assert [line.split()[-1] for line in lines if "→" in line] == ["50%", "–"]
    assert any("should not, active at “since” (4.4)" in line and "known her since 1990" in line for line in lines)
    assert not any("noon" in line for line in lines), "written from an explanation that is no longer the mode's"


def test_without_colours_activating_tokens_stand_in_brackets() -> None:
    assert "on Sunday «because» the harbour" in terminal(explained(), width=100).replace("\n", " ")


def test_brackets_that_the_excerpt_uses_itself_are_not_used() -> None:
    quoted = Excerpt(["«Oui", "»", " because"], [0.0, 0.0, 9.0], [0.0] * 3, 1, "news")
    text = terminal(replace(explained(), modes=[replace(CAUSES, excerpts=[quoted])]))
    assert "«Oui» ⟦because⟧" in text


def test_consecutive_activating_tokens_share_one_pair_of_brackets() -> None:
    run = Excerpt(["the", " New", " York", "er"], [0.0, 8.0, 9.0, 7.0], [0.0] * 4, 1, "news")
    assert "the «New Yorker»" in terminal(replace(explained(), modes=[replace(CAUSES, excerpts=[run])]))


def test_a_long_excerpt_is_cut_around_its_strongest_token() -> None:
    long = Excerpt(["word "] * 60 + ["here "] + ["word "] * 60, [0.0] * 60 + [9.0] + [0.0] * 60, [], 1, "news")
    text = terminal(replace(explained(), modes=[replace(CAUSES, excerpts=[long])]))
    shown = text[text.index("…") : text.rindex("…")]
    before, after = shown.split("«here »")
    assert len(before) > len(after) > 20


def test_with_colours_there_are_no_brackets() -> None:
    text = terminal(explained(), colour=True)
    assert "«" not in text
    assert "\x1b[" in text


@pytest.mark.parametrize("width", [30, 60, 80, 140])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, terminal(explained(), width).splitlines())) <= width
    assert max(map(len, terminal(tried_out(), width).splitlines())) <= width


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_cannot_control_the_terminal(text: str) -> None:
    shown = terminal(hostile(text), width=120)
    assert not [c for c in shown if unicodedata.category(c) in {"Cc", "Cf", "Cs"} and c != "\n"]


def test_markup_in_untrusted_text_is_printed_as_it_is() -> None:
    assert "[bold red]x[/]" in terminal(replace(explained(), modes=[replace(CAUSES, explanation="[bold red]x[/]")]))


def test_the_terminal_tells_a_dead_neuron_and_a_failure_in_words() -> None:
    assert "no activation of this sign" in terminal(dead()).replace("\n", " ")
    failed = replace(explained(), status="partial", failures=[Failure("decomposition", "No answer.")])
    assert "decomposition: No answer." in terminal(failed)


# --- the plots --------------------------------------------------------------------------------------------------------


def test_convergence_has_a_line_per_mode_with_the_best_score_so_far() -> None:
    axes = plot_convergence(explained()).axes[0]
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines() if line.get_linestyle() == "-"}
    assert list(lines.values()) == [[0.42, 0.55, 0.55, 0.61], [0.39, 0.39]]


def test_clusters_are_drawn_with_the_noise_apart() -> None:
    axes = plot_clusters(explained()).axes[0]
    drawn = [(len(group.get_offsets()), group.get_label()) for group in axes.collections]
    assert [count for count, _ in drawn] == [3, 2, 1]
    assert drawn[-1][1] == "without a cluster"


def test_untrusted_labels_are_not_read_as_formulas() -> None:
    nasty = Cluster(["a $\\frac{x$ _hidden"], "_ $\\frac{x$ \x00", [(0.0, 0.0)])
    figure = plot_clusters(replace(explained(), clusters=[nasty]))
    figure.canvas.draw()
    assert figure.axes[0].get_legend() is not None


def test_plots_of_a_dead_neuron_say_that_there_is_nothing_to_draw() -> None:
    for figure in (plot_convergence(dead()), plot_clusters(dead())):
        assert "nothing to draw" in figure.axes[0].texts[0].get_text()


def test_figures_show_themselves_in_a_notebook_and_leave_pyplot_alone() -> None:
    figure = explained().plot_convergence()
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert explained().plot_clusters()._repr_png_().startswith(b"\x89PNG")


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ns.ConfigurationError, match=re.escape("pip install 'neuronscope[report]'")):
        plot_convergence(explained())
