"""One model, many users of it: threads, simulators, its owner, forked children, pickles and copies."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from langchain_core.embeddings import Embeddings

import neuronscope as ns
from fake_openai import Reply, fake_openai
from neuronscope.blocking import run
from neuronscope.config import ExplainConfig
from neuronscope.llm import Budget, ask
from neuronscope.locks import Lock, lock_of
from neuronscope.simulators import HybridSimulator
from neuronscope.simulators.causal_lm import CausalModel, Continuation
from neuronscope.subject.capture import visit
from neuronscope.types import HookPoint
from small_world import SmallWorld, write_small_world


class LetterEmbeddings(Embeddings):
    """How often each letter occurs: nothing to load."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0 + text.count(letter) for letter in "abcdefghijklmnop"] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


IDS = [[5, 9, 40, 7], [8, 3]]


@pytest.fixture
def world(tmp_path: Path, tiny_tokenizer: Any) -> SmallWorld:
    return write_small_world(tmp_path, tiny_tokenizer)


def in_a_thread(work: Any) -> Any:
    """What a function gives in another thread, which is waited for."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(timeout=60)


def test_the_owners_pass_beside_ours_is_the_owners(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    subject = ns.load_subject((tiny_llama, tiny_tokenizer), dtype="float32")
    theirs = torch.tensor([[1, 2, 3, 4, 5]])
    with torch.no_grad():
        alone = tiny_llama(theirs).logits
    expected = subject.activations(IDS, [0, 2])
    found: dict[int, torch.Tensor] = {}
    beside: list[torch.Tensor] = []

    def visitor(point: HookPoint, activations: torch.Tensor) -> None:
        found[point.layer] = activations.clone()
        with torch.no_grad():  # the hooks are on the model now
            beside.append(in_a_thread(lambda: tiny_llama(theirs).logits))
            beside.append(tiny_llama(theirs).logits)

    visit(subject, IDS, [HookPoint(0), HookPoint(2)], visitor)
    assert len(beside) == 4
    assert all(torch.equal(logits, alone) for logits in beside)
    for layer in (0, 2):
        np.testing.assert_array_equal(found[layer][0].numpy(), expected[layer][0])
    assert not any(module._forward_pre_hooks for module in tiny_llama.modules())


def test_readers_of_one_model_read_what_each_would_read_alone(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    """Each has a wrapper of its own, and two begin while the first is in the middle of its pass."""
    first, second, third = (ns.load_subject((tiny_llama, tiny_tokenizer), dtype="float32") for _ in range(3))
    jobs = [(second, [[8, 3, 11, 60]]), (third, [[30, 31, 32, 33]])]
    alone = [subject.activations(ids, [1])[1][0] for subject, ids in jobs]
    with ThreadPoolExecutor(2) as pool:
        others: list[Any] = []

        def visitor(_point: HookPoint, _activations: torch.Tensor) -> None:
            others.extend(pool.submit(subject.activations, ids, [1]) for subject, ids in jobs)
            time.sleep(0.02)  # so that they do begin, where nothing stops them

        visit(first, [[5, 9, 40, 7]], [HookPoint(0), HookPoint(1)], visitor)
        found = [future.result(timeout=60)[1][0] for future in others]
    for left, right in zip(found, alone * 2, strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_visitor_may_read_the_model_that_it_visits(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    subject = ns.load_subject((tiny_llama, tiny_tokenizer), dtype="float32")
    expected = subject.activations([[8, 3]], [2])[2][0]
    inner: list[Any] = []
    visit(
        subject,
        IDS,
        [HookPoint(0), HookPoint(2)],
        lambda point, _: inner.append(subject.activations([[8, 3]], [2])[2][0]),
    )
    for found in inner:
        np.testing.assert_array_equal(found, expected)


def test_a_simulator_and_a_subject_may_be_one_model(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    subject = ns.load_subject((tiny_llama, tiny_tokenizer), dtype="float32")
    simulators = [CausalModel((tiny_llama, tiny_tokenizer), dtype="float32") for _ in range(2)]

    def predict(model: CausalModel) -> Any:
        (prefix,) = model.extend([None], [[3, 2]])
        return model.logits([Continuation(prefix, [1, 0, 7], [0, 2])], range(11))[0]

    alone, activations = predict(simulators[0]), subject.activations(IDS, [2])[2]
    with ThreadPoolExecutor(3) as pool:
        predictions = [pool.submit(predict, simulators[i % 2]) for i in range(20)]
        readings = [pool.submit(subject.activations, IDS, [2]) for _ in range(20)]
    for future in predictions:
        np.testing.assert_array_equal(future.result(), alone)
    for future in readings:
        np.testing.assert_array_equal(future.result()[2][0], activations[0])


def test_a_tokenizer_that_its_owner_uses_with_padding_and_truncation_meanwhile_gives_a_corpus_its_own_tokens(
    tiny_tokenizer: Any,
) -> None:
    from neuronscope.corpus import Document, windows

    documents = [Document(f"text number {i} is a little longer than eight tokens", "x") for i in range(600)]
    alone = [window.token_ids for window in windows(documents, tiny_tokenizer)]
    found = []
    for window in windows(documents, tiny_tokenizer):
        if len(found) % 100 == 0:
            tiny_tokenizer(["a", "much longer text"], padding=True, truncation=True, max_length=8)
            tiny_tokenizer.backend_tokenizer.encode_special_tokens = False
        found.append(window.token_ids)
    assert found == alone


def test_simulators_that_share_an_embedding_model_take_turns_with_it() -> None:
    class OneAtATime(LetterEmbeddings):
        inside = most = 0

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.01)  # so that another would come in, if nothing stopped it
            self.inside -= 1
            return super().embed_documents(texts)

    embeddings = OneAtATime()
    tokens = [" sea", " shells"]
    exemplar = ns.Exemplar(tokens, [0, 1], np.zeros(2, np.float32), 0, "x")
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(HybridSimulator(embeddings).simulate, ["activates on words about the sea"], [exemplar])
    assert embeddings.most == 1


def test_an_object_has_one_lock_and_another_object_another() -> None:
    model, other = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    assert lock_of(model) is lock_of(model)
    assert lock_of(model) is not lock_of(other)
    assert lock_of("no weak references") is lock_of(7)


def child_says(work: Any) -> str:
    """What a function returns, or its error, in a forked child that gives up after a minute."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            said = str(work())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is said
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said or "nothing: it hung"


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no forking here")


@needs_fork
def test_a_forked_child_explains_as_its_parent_does(world: SmallWorld, tmp_path: Path) -> None:
    subject = ns.load_subject(world.model, dtype="float32")
    config = ExplainConfig(
        n_hypotheses=1, max_iterations=1, n_candidates=2, heldout_top=4, heldout_random=4, seq_len=16
    )

    def explain() -> tuple[str, float | None]:
        x = ns.explain_neuron(
            subject,
            layer=1,
            neuron=3,
            corpus=world.texts,
            cache_dir=tmp_path / "stores",
            llm="offline",
            embeddings=LetterEmbeddings(),
            simulator="hybrid",
            config=config,
            progress=False,
        )
        return x.status, x.score

    torch.nn.functional.softmax(torch.zeros(500, 500), -1).sum()  # torch has its threads
    parent = explain()
    assert child_says(explain) == str(parent)


@needs_fork
def test_a_forked_child_finds_no_lock_taken_by_a_thread_that_it_has_not(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    subject = ns.load_subject((tiny_llama, tiny_tokenizer), dtype="float32")
    held, done = threading.Event(), threading.Event()

    def visitor(_point: HookPoint, _activations: torch.Tensor) -> None:
        held.set()
        done.wait(60)

    reader = threading.Thread(target=visit, args=(subject, IDS, [HookPoint(1)], visitor))
    reader.start()
    assert held.wait(60)
    try:
        said = child_says(lambda: subject.activations(IDS, [1])[1][0].shape)
    finally:
        done.set()
        reader.join()
    assert said == "(4, 12)"


@needs_fork
def test_a_forked_child_says_that_it_cannot_use_its_parents_connections() -> None:
    with fake_openai(Reply("yes")) as server:
        llm = server.model()
        assert run(lambda: ask(llm, "really?", "Judge")).content == "yes"
        said = child_says(lambda: run(lambda: ask(llm, "really?", "Judge")))
        assert said.startswith("LLMError")
        assert "forked" in said
        assert "spawn" in said
        assert run(lambda: ask(llm, "really?", "Judge")).content == "yes"


def copies(thing: Any) -> list[Any]:
    return [pickle.loads(pickle.dumps(thing)), copy.copy(thing), copy.deepcopy(thing)]


def test_a_lock_that_is_held_is_free_in_a_copy() -> None:
    lock = Lock()
    with lock:
        for other in copies(lock):
            assert in_a_thread(lambda other=other: other.__enter__()) is None


def test_a_subject_can_be_pickled_and_copied(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    subject = ns.load_subject((tiny_llama, tiny_tokenizer), dtype="float32")
    expected = subject.activations(IDS, [0, 2])
    for other in copies(subject):
        assert (other.name, other.fingerprint) == (subject.name, subject.fingerprint)
        np.testing.assert_array_equal(other.activations(IDS, [2])[2][0], expected[2][0])
    independent = copy.deepcopy(subject)
    with torch.no_grad():
        independent.model.get_decoder().layers[0].mlp.up_proj.weight.zero_()
    assert not np.array_equal(independent.activations(IDS, [2])[2][0], expected[2][0])
    np.testing.assert_array_equal(subject.activations(IDS, [2])[2][0], expected[2][0])


def test_a_store_can_be_pickled_and_copied_with_its_subject_and_without(
    world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = ns.load_subject(world.model, dtype="float32")
    monkeypatch.chdir(tmp_path)
    store = ns.collect_exemplars(subject, world.texts, [1], seq_len=16, top_k=5, cache_dir="stores", progress=False)
    (neuron,) = store.top_neurons(1, n=1)
    expected = [exemplar.tokens for exemplar in store.exemplars(neuron, "test", 3)]
    deep, pickled = copy.deepcopy(store), pickle.dumps(store)
    monkeypatch.chdir("/")  # its path was a relative one
    for other in (pickle.loads(pickled), deep):
        assert [exemplar.tokens for exemplar in other.exemplars(neuron, "test", 3)] == expected
        assert len(other.random_sequences(neuron, "train", 3, seed=99)) == 3  # computed by the subject that came along
    unbound = pickle.loads(pickle.dumps(ns.open_store(store.path)))
    assert unbound.subject is None
    np.testing.assert_array_equal(unbound.max_activation(1), store.max_activation(1))


def test_a_budget_can_be_pickled_and_copied_and_each_copy_counts_for_itself() -> None:
    budget = Budget(tokens=100)
    budget.spend(60, None)
    for other in copies(budget):
        assert other.left == (None, 40)
        other.spend(50, None)
        assert other.is_spent
    assert not budget.is_spent
