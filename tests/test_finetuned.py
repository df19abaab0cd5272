"""Simulators of Transluce's form: what they predict, shown by computing the same formula one text at a time."""

import threading
from itertools import pairwise
from queue import SimpleQueue

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

import neuronscope as ns
from causal_models import (
    LLAMA_SPECIAL,
    byte_level_tokenizer,
    plain_logits,
    random_gemma2,
    random_gemma3,
    random_gpt2,
    random_llama,
    sentencepiece_tokenizer,
)
from neuronscope.errors import SimulatorError
from neuronscope.interfaces import Simulator
from neuronscope.simulators.causal_lm import CausalModel, Continuation
from neuronscope.simulators.finetuned import FinetunedSimulator, complete_tokenizer
from neuronscope.simulators.packing import pack
from neuronscope.subject.tokens import token_strings

EXPLANATIONS = ["fires at colours", "fires at the end of a sentence, but not after a number", "x"]
SENTENCES = ["red and green", "The end. 10 words of it\n\nand a café", "a", "class A:\n\tpass"]


def exemplar_of(tokenizer, text, prepend=()):
    ids = [*prepend, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    return ns.Exemplar(token_strings(tokenizer, ids), ids, np.zeros(len(ids), np.float32), 0, "by hand")


def expected(model, prefix_ids, exemplar_ids):
    """The formula: softmax over the first eleven outputs at each token's own place, weighted by the levels."""
    logits = plain_logits(model, [*prefix_ids, *exemplar_ids])[len(prefix_ids) :, :11]
    return (logits.softmax(-1) @ torch.arange(11.0)).numpy()


def save(folder, model, tokenizer):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A random Llama with rows for <PAD> and the four aliases, whose saved tokenizer has none of them."""
    tokenizer = byte_level_tokenizer(LLAMA_SPECIAL)
    return save(tmp_path_factory.mktemp("simulator"), random_llama(len(tokenizer) + 5), tokenizer)


@pytest.fixture(scope="module")
def simulator(checkpoint):
    return FinetunedSimulator(checkpoint, device="cpu", dtype="float32")


def test_predictions_are_those_of_the_formula_computed_one_text_at_a_time(checkpoint, simulator):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    n = len(tokenizer)  # <PAD> is n; the aliases follow
    exemplars = [exemplar_of(tokenizer, text) for text in SENTENCES]
    predicted = simulator.simulate(EXPLANATIONS, exemplars)
    for exemplar, matrix in zip(exemplars, predicted, strict=True):
        for explanation, row in zip(EXPLANATIONS, matrix, strict=True):
            prefix = f"## Neuron Description: {explanation}\n\n ## Input: "
            ids = [n + 1, *tokenizer(prefix, add_special_tokens=False)["input_ids"]]
            assert row == pytest.approx(expected(model, ids, exemplar.token_ids), abs=1e-5)
    assert np.ptp(np.concatenate(predicted, axis=1)) > 1  # the random model does tell texts apart


def test_special_tokens_are_remapped_to_their_aliases_throughout(checkpoint, simulator):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    n = len(tokenizer)
    special = tokenizer.convert_tokens_to_ids(LLAMA_SPECIAL)
    exemplar = exemplar_of(tokenizer, " and green", prepend=special)
    (predicted,) = simulator.simulate(["fires at <|eot_id|> tokens"], [exemplar])
    before, after = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in ("## Neuron Description: fires at ", " tokens\n\n ## Input: ")
    )
    aliases = [n + 1, n + 2, n + 3, n + 4]
    ids = [n + 1, *before, n + 4, *after]
    assert predicted[0] == pytest.approx(expected(model, ids, [*aliases, *exemplar.token_ids[4:]]), abs=1e-5)


def test_the_padding_token_is_added_in_front_of_the_aliases():
    tokenizer = byte_level_tokenizer(LLAMA_SPECIAL)
    n = len(tokenizer)
    completed = complete_tokenizer(tokenizer, n + 5)
    added = ["<PAD>", "<||begin_of_text||>", "<||start_header_id||>", "<||end_header_id||>", "<||eot_id||>"]
    assert completed.convert_tokens_to_ids(added) == list(range(n, n + 5))
    assert completed.pad_token == "<PAD>"
    assert len(tokenizer) == n


def test_a_checkpoint_without_aliases_keeps_its_special_tokens(tmp_path):
    tokenizer = byte_level_tokenizer(LLAMA_SPECIAL)
    model = random_llama(len(tokenizer) + 1)
    simulator = FinetunedSimulator(save(tmp_path, model, tokenizer), device="cpu", dtype="float32")
    exemplar = exemplar_of(tokenizer, "red")
    ids = tokenizer("<|begin_of_text|>## Neuron Description: x\n\n ## Input: ", add_special_tokens=False)["input_ids"]
    assert simulator.simulate(["x"], [exemplar])[0][0] == pytest.approx(
        expected(model, ids, exemplar.token_ids), abs=1e-5
    )


def test_aliases_that_the_checkpoint_names_itself_are_used(tmp_path):
    tokenizer = byte_level_tokenizer(LLAMA_SPECIAL)
    tokenizer.add_special_tokens({"pad_token": "<PAD>"})
    tokenizer.add_tokens(["<||begin_of_text||>"])
    folder = save(tmp_path, random_llama(len(tokenizer) + 59), tokenizer)  # rows rounded up
    simulator = FinetunedSimulator(folder, device="cpu", dtype="float32")
    assert simulator.explanation_ids("x")[0] == tokenizer.convert_tokens_to_ids("<||begin_of_text||>")
    assert len(complete_tokenizer(tokenizer, len(tokenizer) + 59)) == len(tokenizer)


@pytest.mark.parametrize("names_padding", [False, True])
@pytest.mark.parametrize("beyond", [1, 59, 123])
def test_rows_beyond_the_aliases_have_no_token_and_change_nothing(beyond, names_padding, tmp_path):
    """Rows rounded up, as to 128,320 for Llama 3: the reference takes those after the padding's for aliases."""
    tokenizer = byte_level_tokenizer(LLAMA_SPECIAL)
    special, n = tokenizer.convert_tokens_to_ids(LLAMA_SPECIAL), len(tokenizer)
    model = random_llama(n + 5 + beyond)
    if names_padding:
        tokenizer.add_special_tokens({"pad_token": "<PAD>"})
    simulator = FinetunedSimulator(save(tmp_path, model, tokenizer), device="cpu", dtype="float32")
    exemplar = exemplar_of(tokenizer, " and green", prepend=special)
    (predicted,) = simulator.simulate(["red"], [exemplar])
    prompt = tokenizer("## Neuron Description: red\n\n ## Input: ", add_special_tokens=False)["input_ids"]
    aliases = [n + 1, n + 2, n + 3, n + 4]
    assert predicted[0] == pytest.approx(
        expected(model, [n + 1, *prompt], [*aliases, *exemplar.token_ids[4:]]), abs=1e-5
    )


def test_a_checkpoint_that_was_trained_here_keeps_its_special_tokens_whatever_its_rows(tmp_path):
    tokenizer = byte_level_tokenizer(LLAMA_SPECIAL)
    model = random_llama(len(tokenizer) + 64)
    model.config.alias_tokens = False
    simulator = FinetunedSimulator(save(tmp_path, model, tokenizer), device="cpu", dtype="float32")
    assert simulator.explanation_ids("x")[0] == tokenizer.convert_tokens_to_ids("<|begin_of_text|>")


def test_a_model_without_bos_has_none_before_the_explanation(tmp_path):
    tokenizer = byte_level_tokenizer(())
    simulator = FinetunedSimulator((random_llama(len(tokenizer)), tokenizer))
    ids = tokenizer("## Neuron Description: x\n\n ## Input: ", add_special_tokens=False)["input_ids"]
    assert simulator.explanation_ids("x") == ids


def test_a_subject_with_another_tokenizer_gets_the_largest_value_that_overlaps(simulator):
    text = "The end. 10 words of it, and a class"
    own, other = simulator.model.tokenizer, sentencepiece_tokenizer()
    exemplar = exemplar_of(other, text)
    ours = exemplar_of(own, text)
    (theirs,), (values,) = simulator.simulate(["x"], [exemplar]), simulator.simulate(["x"], [ours])
    ends, own_ends = (np.cumsum([len(token) for token in tokens]) for tokens in (exemplar.tokens, ours.tokens))
    for position, (end, token) in enumerate(zip(ends, exemplar.tokens, strict=True)):
        overlapping = (own_ends > end - len(token)) & (own_ends - [len(token) for token in ours.tokens] < end)
        assert not token or theirs[0, position] == values[0][overlapping].max()


MODELS = {"llama": random_llama, "gpt2": random_gpt2, "gemma2": random_gemma2, "gemma3": random_gemma3}


@pytest.fixture(scope="module", params=MODELS)
def causal(request):
    tokenizer = byte_level_tokenizer()
    return CausalModel((MODELS[request.param](len(tokenizer)), tokenizer))


TOKENS = st.lists(st.integers(0, 300), min_size=1, max_size=24)


@settings(max_examples=12)
@given(
    root=TOKENS,
    explanations=st.lists(TOKENS, min_size=1, max_size=3),
    texts=st.lists(TOKENS, min_size=1, max_size=4),
    budget=st.sampled_from([1, 40, 10_000]),
)
def test_batches_behind_shared_prefixes_equal_single_texts(causal, root, explanations, texts, budget):
    causal.batch_tokens = budget
    (few_shot,) = causal.extend([None], [root])
    prefixes = causal.extend([few_shot] * len(explanations), explanations)
    continuations = [Continuation(prefix, text, range(len(text))) for prefix in prefixes for text in texts]
    found = causal.logits(continuations, range(11))
    single = [
        plain_logits(causal.model, [*root, *explanation, *text])[-len(text) :, :11]
        for explanation in explanations
        for text in texts
    ]
    for logits, plain in zip(found, single, strict=True):
        assert logits == pytest.approx(plain.numpy(), abs=2e-4)


def test_logits_are_given_at_the_positions_and_tokens_that_are_asked_for(causal):
    (prefix,) = causal.extend([None], [[5, 6, 7]])
    first, second = causal.logits([Continuation(prefix, [1, 2, 3, 4], [3, 0]), Continuation(prefix, [8], [])], [100, 7])
    plain = plain_logits(causal.model, [5, 6, 7, 1, 2, 3, 4])
    assert first == pytest.approx(plain[[6, 3]][:, [100, 7]].numpy(), abs=1e-4)
    assert second.shape == (0, 2)


@given(
    lengths=st.lists(st.integers(1, 50), max_size=30),
    budget=st.integers(1, 200),
    seed=st.randoms(use_true_random=False),
)
def test_batches_hold_every_text_once_within_the_budget(lengths, budget, seed):
    groups = [seed.randrange(3) for _ in lengths]
    batches = pack(lengths, groups, budget)
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[number] for number in batch) <= budget
        together = [groups[number] for number in batch]
        assert sum(a != b for a, b in pairwise(together)) < max(1, len(set(together)))


def test_many_requests_give_what_each_gives_alone(simulator):
    exemplars = [exemplar_of(simulator.model.tokenizer, text) for text in SENTENCES]
    requests = [(EXPLANATIONS[:2], exemplars[:3]), (EXPLANATIONS[1:], exemplars[1:]), ([], exemplars[:1])]
    merged = simulator.simulate_many(requests)
    for (explanations, chosen), arrays in zip(requests, merged, strict=True):
        alone = [simulator.simulate([each], chosen) for each in explanations]
        for number, array in enumerate(arrays):
            assert array.shape == (len(explanations), len(chosen[number].tokens))
            for row, each in zip(array, alone, strict=True):
                assert row == pytest.approx(each[number][0], abs=1e-5)


def test_explanations_are_read_in_blocks_that_fit_memory(simulator, monkeypatch):
    monkeypatch.setattr("neuronscope.simulators.matrix.PREFIX_TOKENS", 50)
    exemplars = [exemplar_of(simulator.model.tokenizer, text) for text in SENTENCES]
    in_blocks = simulator.simulate(EXPLANATIONS, exemplars)
    monkeypatch.undo()
    for one, other in zip(in_blocks, simulator.simulate(EXPLANATIONS, exemplars), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_an_exemplar_without_text_is_silent(simulator):
    nothing = ns.Exemplar(["", ""], [999_999, 999_999], np.zeros(2, np.float32), 0, "by hand")
    assert simulator.simulate(["x", "y"], [nothing])[0].tolist() == [[0, 0], [0, 0]]


def test_threads_that_ask_at_the_same_time_are_served_together(checkpoint, monkeypatch):
    asked = threading.Semaphore(0)

    class Watched(SimpleQueue):
        def put(self, *arguments):
            super().put(*arguments)
            asked.release()

    monkeypatch.setattr("neuronscope.simulators.merging.SimpleQueue", Watched)
    simulator = FinetunedSimulator(checkpoint, device="cpu", dtype="float32")
    exemplar = exemplar_of(simulator.model.tokenizer, "red and green")
    alone = {text: simulator.simulate([text], [exemplar])[0] for text in EXPLANATIONS}
    served, busy, release, found = [], threading.Event(), threading.Event(), {}
    extend = simulator.model.extend

    def slowly(parents, texts):
        busy.set()
        release.wait(10)
        served.append(len(texts))
        return extend(parents, texts)

    monkeypatch.setattr(simulator.model, "extend", slowly)
    ask = lambda text: found.update({text: simulator.simulate([text], [exemplar])[0]})  # noqa: E731
    threads = [threading.Thread(target=ask, args=(text,)) for text in EXPLANATIONS]
    threads[0].start()
    busy.wait(10)
    for thread in threads[1:]:
        thread.start()
    for _ in range(2 * len(EXPLANATIONS)):  # alone above, and now
        asked.acquire(timeout=10)
    release.set()
    for thread in threads:
        thread.join()
    assert served == [1, 2]
    for text in EXPLANATIONS:
        assert found[text] == pytest.approx(alone[text], abs=1e-5)


def test_it_is_a_simulator(simulator):
    assert isinstance(simulator, Simulator)


def test_what_is_longer_than_the_model_reads_is_refused_in_words(simulator):
    with pytest.raises(SimulatorError, match="reads at most 8192 tokens at once"):
        simulator.simulate(["colour " * 8000], [exemplar_of(simulator.model.tokenizer, "red")])


def test_a_model_that_is_no_simulator_is_refused(tmp_path):
    tokenizer = byte_level_tokenizer()
    folder = save(tmp_path, random_llama(len(tokenizer) - 1), tokenizer)
    with pytest.raises(SimulatorError, match=r"is no simulator checkpoint: it has \d+ embeddings"):
        FinetunedSimulator(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SimulatorError, match="simulator cannot be loaded"):
        FinetunedSimulator(tmp_path / "nothing")


def test_a_model_whose_output_is_not_understood_is_refused():
    tokenizer = byte_level_tokenizer()
    model = random_llama(len(tokenizer))
    model.lm_head.register_forward_hook(lambda module, inputs, output: output * 2 + 1)
    with pytest.raises(SimulatorError, match="not known here"):
        FinetunedSimulator((model, tokenizer))
