"""What is gathered of a neuron: that it is true where the truth is known, and gathered once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import neuronscope as ns
from agent_helpers import WATER, answering, exemplar, runtime
from neuronscope.agents import HypothesisAgent, RefinementAgent
from neuronscope.config import ExplainConfig
from neuronscope.errors import SubjectError
from neuronscope.evidence import EvidenceSource, evidence_of
from neuronscope.evidence.look_back import look_back
from neuronscope.evidence.outputs import output_tokens
from neuronscope.evidence.texts import choose_excerpts, random_texts, token_table
from neuronscope.evidence.vocabulary import Vocabulary
from neuronscope.metrics.feedback import feedback_of
from neuronscope.metrics.scorer import Scorer
from neuronscope.results import Mode
from neuronscope.types import ExemplarIds, HookPoint
from planted import BOTH, MemorySource, PlantedSubject, WordSimulator, documents

NEURON = ns.Neuron(1, 3)


# Texts


def test_a_table_counts_every_occurrence_of_a_token_and_never_a_run() -> None:
    texts = [exemplar("a{ New:10}{ York:8} cab"), exemplar("some{ New:4} thing and New ideas")]
    rows = token_table(texts, 10.0)
    assert [(row.token, row.active, row.occurrences, row.mean, row.largest) for row in rows] == [
        (" New", 2, 3, pytest.approx(4.67), 10.0),
        (" York", 1, 1, 8.0, 8.0),
    ]
    assert [one.before for one in rows[0].strongest] == ["a"]
    assert [one.before for one in rows[0].weakest] == ["some New thing and", "some"]


def test_a_table_names_inactive_tokens_that_look_alike() -> None:
    texts = [exemplar("the{ defined:9} word"), exemplar("a definition, a Defined term, and a define")]
    (row,) = token_table(texts, 9.0)
    assert set(row.look_alikes) == {" definition,", " Defined", " define"}


def test_a_part_of_a_word_is_shown_with_its_rest_and_with_nothing_after_the_word() -> None:
    one = exemplar("the anim{ators:9} drew")
    (row,) = token_table([one], 9.0)
    assert (row.strongest[0].before, row.strongest[0].after) == ("the anim", "")
    split = ns.Exemplar([" rot", "osc", "oping", " it"], [0, 1, 2, 3], np.array([0, 5, 0, 0], np.float32), 0, "test")
    assert token_table([split], 5.0)[0].strongest[0].after == "oping"


def test_ordinary_text_says_how_often_and_on_what() -> None:
    found = random_texts(WATER[:2], 9.8)
    assert (found.texts, found.active) == (2, 4)
    assert [one.token for one in found.strongest] == [" water", " liquid"]


def test_a_dominant_meaning_leaves_half_of_the_excerpts_to_others() -> None:
    top = [exemplar(f"cold{{ water:9}} number {n}", n) for n in range(30)]
    lower = [exemplar(f"the{{ word{n % 3}:3}} number {n}", 100 + n) for n in range(30)]
    chosen = choose_excerpts(top, [*lower, exemplar("nothing", 999)], 9.0, n=10)
    peaks = [one.tokens[int(np.argmax(one.activations))] for one in chosen]
    assert peaks.count(" water") == 5
    assert {" word0", " word1", " word2"} <= set(peaks)
    assert 999 not in [one.sequence_id for one in chosen]


# How far it looks back


class ContextSubject(PlantedSubject):
    """Neuron 0 activates on "control" within three words after "under", neuron 1 on "control" anywhere."""

    def activations(self, token_ids: Any, layers: Any) -> Any:
        found = [[self.tokenizer.words[i].strip() for i in ids] for ids in token_ids]
        return {0: [np.array([self._at(row, n) for n in range(len(row))], np.float32) for row in found]}

    def _at(self, words: list[str], n: int) -> list[float]:
        active = 5.0 * (words[n] == "control")
        return [active * ("under" in words[max(0, n - 3) : n]), active, 0.0]


def peak_of(subject: ContextSubject, text: str) -> tuple[ns.Exemplar, int]:
    ids = subject.tokenizer(text)["input_ids"]
    tokens = subject.tokenizer.convert_ids_to_tokens(ids)
    activations = subject.activations([ids], [0])[0][0][:, 0]
    return ns.Exemplar(tokens, ids, activations, 0, "test"), len(ids) - 1


def test_looking_back_finds_how_much_is_needed_and_the_token_that_decides() -> None:
    subject = ContextSubject()
    peak = peak_of(subject, "now and then a whole army came and was long under his full control")
    (found,) = look_back(subject, ns.Neuron(0, 0), [peak], 5.0)
    assert dict(found.by_length) == {0: 0, 1: 0, 2: 0, 4: 10, 8: 10, 13: 10}
    assert (found.needed, found.decisive, found.without) == (4, " under", 0.0)
    assert found.peak.before.endswith("under his full")


def test_a_word_that_is_enough_alone_has_no_token_that_decides() -> None:
    subject = ContextSubject()
    peak = peak_of(subject, "was long under his full control")
    (found,) = look_back(subject, ns.Neuron(0, 1), [peak], 5.0)
    assert (found.needed, found.decisive, found.without) == (0, "", None)


# Single tokens and output tokens


@pytest.fixture
def tiny(tiny_llama: Any, tiny_tokenizer: Any, own_cache: None, tmp_path: Any, monkeypatch: Any) -> Any:
    monkeypatch.setenv("NEURONSCOPE_CACHE", str(tmp_path))
    return ns.load_subject((tiny_llama, tiny_tokenizer), dtype="float32")


@pytest.mark.parametrize("sign", [1, -1])
def test_single_tokens_are_what_the_model_does_on_each_behind_its_bos(tiny: Any, sign: int) -> None:
    neuron = ns.Neuron(1, 3, sign)
    found = Vocabulary(tiny, HookPoint(1)).of(neuron, 2.0)
    ids = range(3, 259)
    rows = tiny.activations([[tiny.tokenizer.bos_token_id, token] for token in ids], [1])[1]
    values = np.array([sign * row[-1, 3] for row in rows]) * 5.0
    order = np.argsort(-values)
    assert found.size == 256
    assert [value for _, value in found.strongest] == pytest.approx(values[order[:30]].tolist(), abs=0.006)
    text = tiny.tokenizer.decode([ids[order[0]]])
    assert found.strongest[0][0] == text
    assert dict(found.quantiles)[0.9] == pytest.approx(np.quantile(np.maximum(values, 0), 0.9), abs=0.01)


def test_a_layer_reads_the_vocabulary_once_and_again_when_the_model_has_changed(tiny: Any, monkeypatch: Any) -> None:
    passes: list[int] = []
    visit = type(tiny).visit
    monkeypatch.setattr(type(tiny), "visit", lambda self, *rest: (passes.append(1), visit(self, *rest))[1])
    first = Vocabulary(tiny, HookPoint(1)).of(NEURON, 1.0)
    n = len(passes)
    assert n > 0
    assert Vocabulary(tiny, HookPoint(1)).of(NEURON, 1.0) == first
    assert len(passes) == n
    tiny.model.model.embed_tokens.weight.data.mul_(-1)
    assert Vocabulary(tiny, HookPoint(1)).of(NEURON, 1.0) != first
    assert len(passes) == 2 * n


def test_a_damaged_file_is_made_again(tiny: Any, tmp_path: Any) -> None:
    first = Vocabulary(tiny, HookPoint(1)).of(NEURON, 1.0)
    (path,) = (tmp_path / "vocabulary").glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(bytes(data))
    assert Vocabulary(tiny, HookPoint(1)).of(NEURON, 1.0) == first


@pytest.mark.parametrize("sign", [1, -1])
def test_output_tokens_are_those_of_the_write_direction(tiny: Any, sign: int) -> None:
    found = output_tokens(tiny, ns.Neuron(1, 3, sign))
    model = tiny.model
    direction = sign * model.model.layers[1].mlp.down_proj.weight[:, 3].detach().numpy()
    effects = model.lm_head.weight.detach().numpy() @ (direction * model.model.norm.weight.detach().numpy())
    order = np.argsort(-effects)
    assert found is not None
    assert found.promoted[0] == tiny.tokenizer.decode([order[0]])
    assert found.suppressed[0] == tiny.tokenizer.decode([order[-1]])
    assert len(found.promoted) == len(found.suppressed) == 10


# Gathered once


class CountingSource(MemorySource):
    tables = 0

    def exemplars(self, neuron: Any, split: str = "train", n: int = 20) -> Any:
        self.tables += n == 100
        return super().exemplars(neuron, split, n)


def source_of(config: ExplainConfig | None = None, **how: Any) -> tuple[EvidenceSource, CountingSource]:
    subject = how.get("subject", PlantedSubject())
    store = CountingSource(PlantedSubject() if how else subject, documents())
    return EvidenceSource(subject, store, config or ExplainConfig()), store


IDS = ExemplarIds(train=[0, 3], train_others=[6, 9], maximum=6.0)


async def test_evidence_is_gathered_once_until_it_is_forgotten() -> None:
    source, store = source_of()
    first = await source.of(BOTH, IDS)
    assert await source.of(BOTH, IDS) is first
    assert store.tables == 1
    source.forget(BOTH)
    await source.of(BOTH, IDS)
    assert store.tables == 2


async def test_a_planted_subject_has_no_single_tokens_and_no_output_tokens() -> None:
    source, _ = source_of()
    found = await source.of(BOTH, IDS)
    assert {row.token for row in found.tokens} >= {" red", " cat"}
    assert found.look_back[0].needed == 0
    assert (found.vocabulary, found.output_tokens) == (None, None)


async def test_a_subject_that_fails_costs_its_part_alone() -> None:
    class Remote(PlantedSubject):
        def activations(self, token_ids: Any, layers: Any) -> Any:
            raise SubjectError("out of reach")

    source, _ = source_of(subject=Remote())
    found = await source.of(BOTH, IDS)
    assert found.tokens
    assert found.look_back == ()


async def test_without_a_subject_texts_are_all_there_is() -> None:
    source, _ = source_of(subject=None)
    assert (await source.of(BOTH, IDS)).look_back == ()


@pytest.mark.parametrize("vocabulary", [True, False])
async def test_a_model_in_this_process_has_all_parts_but_what_is_turned_off(tiny: Any, vocabulary: bool) -> None:
    class Source(MemorySource):
        def by_id(self, neuron: Any, sequence_ids: Any) -> Any:
            return WATER

        def exemplars(self, neuron: Any, split: str = "train", n: int = 20) -> Any:
            return WATER

        def random_sequences(self, neuron: Any, split: str = "test", n: int = 20, seed: int = 0) -> Any:
            return WATER[:1]

    source = EvidenceSource(tiny, Source(tiny, []), ExplainConfig(vocabulary=vocabulary))
    found = await source.of(NEURON, IDS)
    assert (found.vocabulary is not None) == vocabulary
    assert found.output_tokens is not None
    assert len(found.look_back) > 1


async def test_agents_of_all_rounds_share_what_was_gathered_and_the_papers_ask_for_none() -> None:
    subject = PlantedSubject()
    llm = answering(lambda messages: '["This neuron activates on rain."]')
    for prompts, expected in (("extended", 1), ("paper", 0)):
        store = CountingSource(subject, documents())
        config = ExplainConfig(prompts=prompts, n_candidates=1)
        context = runtime(subject=subject, store=store, simulator=WordSimulator(), config=config)
        await HypothesisAgent(llm)({"neuron": BOTH, "exemplars": IDS}, context)
        mode = Mode("This neuron activates on snow.", history=[ns.Attempt(0, "This neuron activates on snow.", 0.1)])
        state: Any = {"neuron": BOTH, "exemplars": IDS, "mode": mode, "siblings": [], "history": mode.history}
        for _ in range(2):
            await RefinementAgent(llm)(state, context)
        assert store.tables == expected
        assert ("TOKENS of the" in llm.prompts[-1]) == bool(expected)


# Feedback


async def test_feedback_parts_misses_false_alarms_and_hits_and_leaves_others_theirs() -> None:
    subject = PlantedSubject()
    store = MemorySource(subject, documents())
    ids = ExemplarIds(train=store.of_split("train"), feedback=store.of_split("feedback"), maximum=6.0)
    own, other = 'This neuron activates on "red" or "road".', 'This neuron activates on "cat" or "dog".'
    found = await feedback_of(own, [other], BOTH, ids, Scorer(WordSimulator(), store))
    assert found is not None
    missed = {case.token.strip() for case in found.misses}
    assert {"green", "blue", "horse"} <= missed
    assert not {"cat", "dog"} & missed, "another mode predicts these"
    assert {case.token.strip() for case in found.false_alarms} == {"road"}
    assert {case.token.strip() for case in found.hits} == {"red"}
    assert found.strengths[1] == pytest.approx(6.7, abs=0.1)
    assert all(case.actual > case.predicted for case in found.misses)


async def test_without_feedback_text_there_is_none() -> None:
    scorer = Scorer(WordSimulator(), MemorySource(PlantedSubject(), documents()))
    assert await feedback_of("Any.", [], BOTH, ExemplarIds(train=[0], maximum=6.0), scorer) is None


def test_evidence_of_texts_alone_has_a_table_and_excerpts() -> None:
    found = evidence_of(WATER, 9.8)
    assert found.tokens[0].token == " water"
    assert len(found.excerpts) == len(WATER)
