"""Mixtures: every beginning has the shares asked for, and every reading the same order."""

from __future__ import annotations

import logging
from collections import Counter
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuronscope as ns
from neuronscope.corpus import Corpus, Document, mix, open_corpus
from neuronscope.corpus.mixtures import parse_mixture
from neuronscope.corpus.sources import PAPER
from neuronscope.errors import CorpusError


def corpus(name: str, sizes: list[int]) -> Corpus:
    documents = [Document(f"{name}{n} ".ljust(size, "."), name) for n, size in enumerate(sizes)]
    return Corpus(name, lambda: iter(documents), lambda: name, sum(sizes))


@given(
    st.lists(st.integers(10, 60), min_size=40, max_size=40),
    st.lists(st.integers(10, 60), min_size=40, max_size=40),
    st.sampled_from([0.5, 0.25, 0.1, 0.8]),
)
def test_every_beginning_has_the_shares_within_one_document(first: list[int], second: list[int], share: float) -> None:
    mixture = mix({corpus("a", first): share, corpus("b", second): 1 - share})
    documents = list(mixture)
    assert documents == list(mixture)
    left = {"a": 40, "b": 40}
    read: Counter[str] = Counter()
    for document in documents:
        read[document.source] += len(document.text)
        left[document.source] -= 1
        if 0 in left.values():
            break
        assert abs(read["a"] - share * read.total()) <= 60


def test_only_the_ratio_of_the_weights_counts() -> None:
    a, b = corpus("a", [20] * 9), corpus("b", [20] * 9)
    assert list(mix({a: 1, b: 3})) == list(mix({a: 0.25, b: 0.75}))
    assert mix({a: 1, b: 3}).key() == mix({a: 0.25, b: 0.75}).key() != mix({a: 0.5, b: 0.5}).key()
    assert mix({a: 1, b: 3}).key() != mix({b: 3, a: 1}).key() != mix({corpus("c", [9]): 3, a: 1}).key()


def test_a_source_that_is_used_up_leaves_the_rest_to_the_others_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "neuronscope"):
        sources = [document.source for document in mix({corpus("a", [20] * 2): 1, corpus("b", [20] * 6): 1})]
    assert sources == [*"abab", *"bbbb"]
    assert [record.getMessage() for record in caplog.records] == [
        "The mixture's source 'a' is used up after 40 characters; the others go on without it."
    ]


def test_a_source_is_read_no_further_than_it_is_needed() -> None:
    read = []

    def endless(name: str) -> Corpus:
        def documents() -> object:
            for n in count():
                read.append(name)
                yield Document(f"{name}{n:08d}", name)

        return Corpus(name, documents, lambda: name)  # type: ignore[arg-type]

    stream = iter(mix({endless("a"): 1, endless("b"): 1}))
    assert [next(stream).source for _ in range(6)] == [*"ababab"] == read


def test_a_duplicate_across_sources_is_one_document() -> None:
    twice = [Corpus(name, lambda: iter([Document("same text", "x")]), lambda name=name: name) for name in "ab"]
    assert len(list(mix(dict.fromkeys(twice, 1.0)))) == 1


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), "half"])
def test_a_weight_is_a_positive_number(weight: float) -> None:
    with pytest.raises(CorpusError, match="weight of 'builtin' in a mixture must be a positive number"):
        mix({"builtin": weight})


def test_a_mixture_has_sources_that_exist(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="at least one source"):
        mix({})
    with pytest.raises(CorpusError, match="There is no corpus"):
        ns.mix({tmp_path / "absent.txt": 1})


def test_the_command_line_writes_a_mixture_as_one_word(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("\n".join(f"{name} {n}" for n in range(9)), "utf-8")
    written = open_corpus(f"mix:3*{tmp_path / 'a.txt'}, 1*{tmp_path / 'b.txt'}")
    assert list(written) == list(ns.mix({tmp_path / "a.txt": 3, tmp_path / "b.txt": 1}))
    assert written.name == "mix:0.75*a.txt,0.25*b.txt"
    assert parse_mixture("mix:0.5*hf:a/b?name=c=1&split=x,0.5*builtin") == {
        "hf:a/b?name=c=1&split=x": 0.5,
        "builtin": 0.5,
    }


@pytest.mark.parametrize("text", ["mix:", "mix:builtin", "mix:0.5*", "mix:half*builtin", "mix:1*builtin,"])
def test_what_is_not_a_mixture_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(CorpusError, match=r"Write each as weight\*source"):
        open_corpus(text)


def test_a_mixture_names_a_source_once() -> None:
    with pytest.raises(CorpusError, match="names 'builtin' twice"):
        open_corpus("mix:1*builtin,2*builtin")


def test_the_papers_corpus_is_fineweb_and_lmsys_half_and_half() -> None:
    assert PAPER == {"hf:HuggingFaceFW/fineweb?name=sample-10BT": 0.5, "hf:lmsys/lmsys-chat-1m": 0.5}
    assert open_corpus("paper").name == "paper"
