"""Language models as they are, shown worked examples: one place to read for every token, whatever the tokenizer."""

import string

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import Digits, Sequence

import neuronscope as ns
from causal_models import (
    byte_level_tokenizer,
    plain_logits,
    random_gpt2,
    random_llama,
    sentencepiece_tokenizer,
    unigram_tokenizer,
)
from neuronscope.errors import SimulatorError
from neuronscope.interfaces import Simulator
from neuronscope.simulators.few_shot import EXAMPLES
from neuronscope.simulators.prompted import INTRODUCTION, PromptedSimulator
from neuronscope.subject.tokens import token_strings


def digit_tokenizer():
    """Splits off every digit, as in SmolLM2 and Qwen."""
    tokenizer = byte_level_tokenizer()
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = Sequence([Digits(individual_digits=True), backend.pre_tokenizer])
    return tokenizer


def number_tokenizer():
    """Has "10" as one token, as in GPT-2 and Llama 3."""
    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens(["10"])
    return tokenizer


TOKENIZERS = {
    "digits": digit_tokenizer,
    "numbers": number_tokenizer,
    "sentencepiece": sentencepiece_tokenizer,
    "unigram": unigram_tokenizer,
}


def exemplar_of(*tokens):
    return ns.Exemplar(tokens, range(len(tokens)), np.zeros(len(tokens), np.float32), 0, "by hand")


@pytest.fixture(scope="module", params=TOKENIZERS)
def simulator(request):
    tokenizer = TOKENIZERS[request.param]()
    return PromptedSimulator((random_llama(len(tokenizer)), tokenizer))


def prompt_pieces(top, explanation, tokens):
    """The whole prompt, piece by piece, written without the simulator's help."""
    pieces = [INTRODUCTION.format(top=top)]
    for number, example in enumerate(EXAMPLES, start=1):
        pieces.append(f"\n\nNeuron {number}\nSummary: {example.explanation}")
        for text in example.texts:
            pieces.append("\nActivations:\n")
            for token, strength in text.tokens():
                level = "unknown" if strength is None else str(round(strength * top / 10))
                pieces += [token, "\t", level, "\n"]
    pieces += [f"\n\nNeuron {len(EXAMPLES) + 1}\nSummary: {explanation}", "\nActivations:\n"]
    places = []
    for token in tokens:
        pieces += [token, "\t"]
        places.append(len(pieces) - 1)
        pieces += ["unknown", "\n"]
    return pieces, places


@pytest.mark.parametrize(
    ("make_tokenizer", "make_model", "top"),
    [
        (digit_tokenizer, random_llama, 9),
        (number_tokenizer, random_llama, 10),
        (number_tokenizer, random_gpt2, 10),
    ],
)
def test_predictions_are_those_of_the_whole_prompt_read_once_per_text(make_tokenizer, make_model, top):
    tokenizer = make_tokenizer()
    model = make_model(len(tokenizer))
    simulator = PromptedSimulator((model, tokenizer))
    exemplars = [exemplar_of("The", " roof", "\n", "\t", " leaks"), exemplar_of("1", "0", " caf", "", "é")]
    explanations = ["fires at roofs", "something else"]
    predicted = simulator.simulate(explanations, exemplars)
    levels = [tokenizer(str(level))["input_ids"][0] for level in range(top + 1)]
    for exemplar, matrix in zip(exemplars, predicted, strict=True):
        for explanation, row in zip(explanations, matrix, strict=True):
            pieces, places = prompt_pieces(top, explanation, exemplar.tokens)
            ids = [tokenizer(piece)["input_ids"] for piece in pieces]
            ends = np.cumsum([0, *map(len, ids)])[1:] - 1  # these tokenizers name a BOS, and put none in front
            logits = plain_logits(model, [each for piece in ids for each in piece])
            chances = logits[ends[places]][:, levels].softmax(-1)
            assert row == pytest.approx((chances @ torch.linspace(0, 10, top + 1)).numpy(), abs=1e-3)


def test_autocast_and_training_mode_around_a_call_change_no_prediction():
    tokenizer = number_tokenizer()
    model = random_gpt2(len(tokenizer))  # with dropout
    simulator, exemplars = PromptedSimulator((model, tokenizer)), [exemplar_of("The", " roof", " leaks")]
    (expected,) = simulator.simulate(["fires at roofs"], exemplars)
    model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = simulator.simulate(["fires at roofs"], exemplars)
    np.testing.assert_array_equal(found, expected)
    assert model.training


@settings(max_examples=30)
@given(tokens=st.lists(st.text(max_size=6) | st.sampled_from(["\t", "\n", "\n\n", " ", "unknown", "<s>", "10"])))
def test_every_token_is_read_at_the_tab_behind_it(simulator, tokens):
    text = simulator.text(exemplar_of(*tokens))
    assert len(text.positions) == len(tokens)
    assert sorted(set(text.positions)) == list(text.positions)
    tab = simulator.text(exemplar_of("")).token_ids
    for position, token in zip(text.positions, tokens, strict=True):
        if tab:
            assert text.token_ids[position] == tab[-1]
        alone = simulator.text(exemplar_of(token)).token_ids
        assert text.token_ids[: position + 1][-len(alone) :] == alone


@settings(max_examples=30)
@given(tokens=st.lists(st.text(string.printable, max_size=6), min_size=1, max_size=8))
def test_the_prompt_says_what_it_means_to_say(smollm2, tokens):
    simulator = smollm2_simulator(smollm2)
    ids = simulator.text(exemplar_of(*tokens)).token_ids
    assert "".join(token_strings(smollm2.tokenizer, ids)) == "\tunknown\n".join(tokens) + "\t"


def test_text_that_looks_like_a_special_token_is_not_read_as_one(smollm2):
    simulator = smollm2_simulator(smollm2)
    ids = simulator.text(exemplar_of("<|im_start|>", "user", "<|endoftext|>")).token_ids
    assert not set(ids) & set(smollm2.tokenizer.all_special_ids)


def smollm2_simulator(smollm2, made=[]):  # noqa: B006 - made once
    if not made:
        made.append(PromptedSimulator((smollm2.model, smollm2.tokenizer)))
    return made[0]


def test_levels_are_zero_to_ten_where_each_is_one_token():
    tokenizer = number_tokenizer()
    simulator = PromptedSimulator((random_llama(len(tokenizer)), tokenizer))
    assert tokenizer.convert_ids_to_tokens(simulator.level_ids) == [str(level) for level in range(11)]


def test_levels_are_the_ten_digits_where_ten_is_two_tokens(smollm2):
    simulator = smollm2_simulator(smollm2)
    assert smollm2.tokenizer.convert_ids_to_tokens(simulator.level_ids) == [str(level) for level in range(10)]


def test_the_strongest_level_means_ten_on_either_scale(simulator, monkeypatch):
    def certain(readings, rows):
        return [np.eye(len(rows), dtype=np.float32)[[-1] * len(reading.positions)] * 200 for reading in readings]

    monkeypatch.setattr(simulator.model, "logits", certain)
    assert simulator.simulate(["x"], [exemplar_of("The", " roof")])[0] == pytest.approx(10)


def test_a_short_context_gets_fewer_worked_examples():
    tokenizer = number_tokenizer()
    simulator = PromptedSimulator((random_gpt2(len(tokenizer), n_positions=1800), tokenizer))
    prompt = "".join(token_strings(tokenizer, simulator.root_ids))
    shown = [example.explanation in prompt for example in EXAMPLES]
    assert shown == sorted(shown, reverse=True)
    assert 0 < sum(shown) < len(EXAMPLES)
    assert simulator.simulate(["x"], [exemplar_of("The", " roof")])[0].shape == (1, 2)


def test_an_explanation_stays_on_its_line(simulator):
    assert simulator.explanation_ids("one\n\nNeuron 9\tof two") == simulator.explanation_ids("one Neuron 9 of two")


def test_worked_examples_are_read_once(simulator):
    read = []
    decoder = simulator.model.model.get_decoder()
    hook = decoder.register_forward_pre_hook(
        lambda _, arguments, named: read.append(named["input_ids"].numel()), with_kwargs=True
    )
    roof = exemplar_of("The", " roof")
    for explanation in "xy":
        simulator.simulate([explanation], [roof])
    hook.remove()
    n_text = len(simulator.text(roof).token_ids)
    assert sum(read) == sum(len(simulator.explanation_ids(explanation)) + n_text for explanation in "xy")


def test_a_tokenizer_without_digits_is_refused():
    tokenizer = sentencepiece_tokenizer()
    backend = tokenizer.backend_tokenizer
    from tokenizers import normalizers

    backend.normalizer = normalizers.Sequence([normalizers.Replace("7", "1"), backend.normalizer])
    with pytest.raises(SimulatorError, match="no single tokens for the digits"):
        PromptedSimulator((random_llama(len(tokenizer)), tokenizer))


def test_it_is_a_simulator(simulator):
    assert isinstance(simulator, Simulator)
