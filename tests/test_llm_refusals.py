"""What servers refuse or do in ways of their own, and that an answer is had from them all the same, or a plain word."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

import neuronscope as ns
from fake_openai import FakeOpenAI, Reply, fake_openai, refusal
from neuronscope.agents.parsing import read_sentences
from neuronscope.agents.prompts import sentences_schema
from neuronscope.llm import (
    UsageTracker,
    ask,
    ask_blocking,
    ask_many,
    check_reachable,
    forget_refusals,
    request_failure,
    resolve_llm,
)
from neuronscope.llm.answers import read_text
from neuronscope.llm.embeddings import resolve_embeddings

QUESTION = [SystemMessage("You are brief."), HumanMessage("What does it like?")]
SCHEMA = sentences_schema("conditions")
SENTENCE = "This neuron activates on ice."
HELD = json.dumps({"conditions": [SENTENCE]})
WORDLESS = "Internal error"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports are used again, and the environment is nobody's."""
    forget_refusals()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long is waited before further attempts, without the waiting."""
    import time

    import anyio

    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(anyio, "sleep", sleep)
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def named(server: FakeOpenAI) -> BaseChatModel:
    """A model as it is made from a name and an address."""
    model = resolve_llm(f"openai:fake@{server.address}")
    assert not isinstance(model, str)
    return model


def has_system(request: dict[str, Any]) -> bool:
    return any(message["role"] in ("system", "developer") for message in request["messages"])


def refusing(part: Callable[[dict[str, Any]], bool], status: int, words: str) -> Callable[..., Reply]:
    return lambda request, number: refusal(status, words) if part(request) else Reply(f"- {SENTENCE}")


# Parts of a request that are refused


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "response_format is not supported"),
        (422, "Extra inputs are not permitted: response_format"),
        (404, "No endpoints found that support structured outputs"),
        (500, "Failed to initialize samplers: failed to parse grammar"),
        (501, WORDLESS),
        (400, WORDLESS),
        (500, WORDLESS),
    ],
)
async def test_a_server_that_refuses_a_schema_in_its_own_way_is_asked_in_words(status: int, words: str) -> None:
    with fake_openai(refusing(lambda request: "response_format" in request, status, words)) as server:
        model = server.model()
        for _ in range(3):
            answer = await ask(model, QUESTION, "decomposition", schema=SCHEMA)
            assert read_sentences(answer, "decomposition") == [SENTENCE]
        assert ["response_format" in request for request in server.requests] == [True, False, False, False]
        assert all(map(has_system, server.requests))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "System role not supported"),
        (400, "Conversation roles must alternate user/assistant/user/assistant/..."),
        (400, "Developer instruction is not enabled for this model"),
        (500, "Error rendering prompt with jinja template: Only user and assistant roles are supported!"),
        (400, WORDLESS),
        (500, WORDLESS),
    ],
)
async def test_where_no_system_message_may_be_its_words_stand_before_the_users(status: int, words: str) -> None:
    with fake_openai(refusing(has_system, status, words)) as server:
        model = server.model()
        for _ in range(2):
            await ask(model, QUESTION, "hypothesis")
        assert list(map(has_system, server.requests)) == [True, False, False]
        (said,) = server.requests[-1]["messages"]
    assert said["content"] == "You are brief.\n\nWhat does it like?"


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("words", ["System role not supported", WORDLESS])
async def test_a_schema_is_not_blamed_for_the_system_message(status: int, words: str) -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        return refusal(status, words) if has_system(request) else Reply(HELD)

    with fake_openai(answer) as server:
        model = server.model()
        for _ in range(2):
            await ask(model, QUESTION, "decomposition", schema=SCHEMA)
        assert ("response_format" in server.requests[-1], has_system(server.requests[-1])) == (True, False)


async def test_a_server_that_takes_neither_is_asked_without_either() -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        if "response_format" in request:
            return refusal(400, "unknown field response_format")
        return refusal(400, "system messages are not allowed") if has_system(request) else Reply(f"- {SENTENCE}")

    with fake_openai(answer) as server:
        model = server.model()
        for _ in range(2):
            await ask(model, QUESTION, "decomposition", schema=SCHEMA)
        assert len(server.requests) == 4


async def test_what_many_ask_at_once_is_found_out_by_one() -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        server.closing.wait(0.05)
        return refusal(500, WORDLESS) if "response_format" in request else Reply(f"- {SENTENCE}")

    with fake_openai(answer) as server:
        model, usage = server.model(), UsageTracker(concurrency=4)
        asked = [ask(model, QUESTION, "decomposition", schema=SCHEMA, usage=usage) for _ in range(6)]
        loop = asyncio.get_running_loop()
        threads = [
            loop.run_in_executor(None, lambda: ask_blocking(model, QUESTION, "simulator", schema=SCHEMA, usage=usage))
            for _ in range(3)
        ]
        await asyncio.gather(*asked, *threads)
        assert ["response_format" in request for request in server.requests].count(True) == 1
        assert len(server.requests) == 10


async def test_a_server_that_can_do_it_is_asked_by_all_at_once_after_the_first() -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        server.closing.wait(0.1)
        return Reply(HELD)

    with fake_openai(answer) as server:
        model = server.model()
        await asyncio.gather(*(ask(model, QUESTION, "decomposition", schema=SCHEMA) for _ in range(5)))
        assert server.most_under_way > 1
        assert len(server.requests) == 5


async def test_a_server_error_is_no_refusal_of_what_the_server_has_taken_before() -> None:
    with fake_openai([Reply(HELD), refusal(500, WORDLESS), Reply(HELD)]) as server:
        model = server.model()
        await ask(model, QUESTION, "decomposition", schema=SCHEMA)
        with pytest.raises(ns.LLMError, match="out of order"):
            await ask(model, QUESTION, "decomposition", schema=SCHEMA)
        await ask(model, QUESTION, "decomposition", schema=SCHEMA)
        assert ["response_format" in request for request in server.requests] == [True] * 3


@pytest.mark.parametrize("status", [401, 402, 429, 503])
async def test_what_refuses_the_user_or_the_hour_is_not_asked_in_other_ways(status: int) -> None:
    with fake_openai(refusal(status, "no role for you, nor a schema")) as server:
        with pytest.raises(ns.LLMError):
            await ask(server.model(), QUESTION, "decomposition", schema=SCHEMA)
        assert len(server.requests) == 1


async def test_nothing_is_learnt_from_a_server_that_answers_nothing() -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        return refusal(500, WORDLESS) if number < 3 else Reply(HELD)

    with fake_openai(answer) as server:
        model = server.model()
        with pytest.raises(ns.LLMError):
            await ask(model, QUESTION, "decomposition", schema=SCHEMA)
        await ask(model, QUESTION, "decomposition", schema=SCHEMA)
        assert "response_format" in server.requests[-1]
        assert has_system(server.requests[-1])


# Answers in other places


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_an_answer_where_thoughts_belong_is_read_if_it_keeps_to_the_schema(field: str) -> None:
    with fake_openai(Reply(None, message={field: HELD})) as server:
        answer = await ask(named(server), QUESTION, "decomposition", schema=SCHEMA)
        assert len(server.requests) == 1
    assert read_sentences(answer, "decomposition") == [SENTENCE]


@pytest.mark.parametrize("content", [None, "", " \n"])
@pytest.mark.parametrize(
    "thought", ["1. This neuron might like rain.", '["This neuron might like rain."]', '{"plan": "This neuron."}', ""]
)
async def test_a_thought_there_is_none_and_the_model_is_asked_in_words(thought: str, content: str | None) -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        held = "response_format" in request
        return Reply(content, message={"reasoning_content": thought}) if held else Reply(f"- {SENTENCE}")

    with fake_openai(answer) as server:
        model, usage = named(server), UsageTracker()
        for _ in range(2):
            answered = await ask(model, QUESTION, "decomposition", schema=SCHEMA, usage=usage)
            assert read_sentences(answered, "decomposition") == [SENTENCE]
        assert len(server.requests) == 3
    assert usage.counts()["requests"] == {"decomposition": 3}, "the empty one has been paid for, too"


async def test_a_model_object_that_drops_that_field_is_asked_in_words() -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        held = "response_format" in request
        return Reply(None, message={"reasoning_content": HELD}) if held else Reply(f"- {SENTENCE}")

    with fake_openai(answer) as server:
        answered = await ask(server.model(), QUESTION, "decomposition", schema=SCHEMA)
    assert read_sentences(answered, "decomposition") == [SENTENCE]


async def test_a_free_answer_that_is_only_a_thought_is_no_answer() -> None:
    with fake_openai(Reply(None, message={"reasoning_content": SENTENCE})) as server:
        answer = await ask(named(server), QUESTION, "hypothesis")
    with pytest.raises(ns.LLMError, match="empty"):
        read_text(answer, "hypothesis")


# Errors in place of answers


def embedded(error: Any) -> Reply:
    return Reply(body=json.dumps({"id": "gen-1", "error": error}))


PASSING = [
    {"message": "Rate limit exceeded", "code": 429},
    {"message": "Provider returned error", "code": "502", "metadata": {"provider_name": "x"}},
    {"message": "slow down", "type": "rate_limit_error"},
    {"message": "busy", "code": "overloaded_error"},
]


@pytest.mark.parametrize("error", PASSING)
@pytest.mark.parametrize("schema", [None, SCHEMA])
@pytest.mark.parametrize("blocking", [False, True])
async def test_a_passing_error_within_an_answer_is_repeated(
    error: Any, schema: Any, blocking: bool, naps: list[float]
) -> None:
    with fake_openai([embedded(error), embedded(error), Reply(HELD)]) as server:
        model = server.model(max_retries=3)
        if blocking:
            answer = await asyncio.to_thread(ask_blocking, model, QUESTION, "hypothesis", schema=schema)
        else:
            answer = await ask(model, QUESTION, "hypothesis", schema=schema)
        assert ["response_format" in request for request in server.requests] == [schema is not None] * 3
    assert read_sentences(answer, "hypothesis") == [SENTENCE]
    assert len(naps) == 2
    assert 0 < naps[0] < naps[1]


async def test_so_is_an_answer_that_the_provider_breaks_off(naps: list[float]) -> None:
    with fake_openai([Reply("", finish_reason="error"), Reply()]) as server:
        assert (await ask(server.model(max_retries=2), QUESTION, "hypothesis")).text == "It likes water."


async def test_one_that_does_not_pass_is_named_as_what_it_is(naps: list[float]) -> None:
    with fake_openai(embedded(PASSING[0])) as server:
        with pytest.raises(ns.LLMError, match=r"rate limit or an empty quota.*\(Rate limit exceeded\)"):
            await ask(server.model(max_retries=2), QUESTION, "hypothesis")
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("error", "match"),
    [
        ({"message": "No auth", "code": 401}, "API key"),
        ({"message": "No such model", "code": 404}, "no model fake"),
        ({"message": "nothing known of this", "code": "odd"}, "nothing known of this"),
        ("a mere word", "a mere word"),
    ],
)
async def test_one_that_will_not_pass_is_not_repeated(error: Any, match: str, naps: list[float]) -> None:
    with fake_openai(embedded(error)) as server:
        with pytest.raises(ns.LLMError, match=match):
            await ask(server.model(max_retries=4), QUESTION, "hypothesis")
        assert len(server.requests) == 1
    assert not naps


async def test_several_answers_are_repeated_after_a_passing_error_too(naps: list[float]) -> None:
    with fake_openai([embedded(PASSING[0]), Reply("answer #")]) as server:
        answers = await ask_many(server.model(max_retries=2), QUESTION, "refinement", 3)
        assert [request.get("n") for request in server.requests] == [3, 3]
    assert len(answers) == 3


# Filters


@pytest.mark.parametrize("schema", [None, SCHEMA])
@pytest.mark.parametrize(
    "reply",
    [
        Reply(None, finish_reason="content_filter"),
        Reply("", finish_reason="SAFETY"),
        refusal(
            400, "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
        ),
    ],
)
async def test_a_content_filter_is_called_by_its_name_and_not_asked_again(reply: Reply, schema: Any) -> None:
    with fake_openai(reply) as server:
        with pytest.raises(ns.LLMError, match=r"content filter.*another model"):
            read_text(await ask(server.model(), QUESTION, "hypothesis", schema=schema), "hypothesis")
        assert len(server.requests) == 1


# Proxies


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> str:
    import socket

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://user:proxy-pass@127.0.0.1:{unused.getsockname()[1]}"
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, address)
    return address


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_server_on_this_computer_is_asked_without_the_proxy(dead_proxy: str, host: str) -> None:
    with fake_openai(Reply()) as server:
        server.address = server.address.replace("127.0.0.1", host)
        model = named(server)
        check_reachable(model)
        assert (await ask(model, QUESTION, "hypothesis")).text == "It likes water."
        assert (await asyncio.to_thread(ask_blocking, model, QUESTION, "hypothesis")).text == "It likes water."


async def test_a_model_object_that_goes_through_the_proxy_is_told_of_it(dead_proxy: str) -> None:
    with fake_openai(Reply()) as server:
        model = ChatOpenAI(model="fake", api_key="none", base_url=server.address, max_retries=0)
        with pytest.raises(ns.LLMError, match=r"cannot be reached.*proxy.*NO_PROXY") as caught:
            await ask(model, QUESTION, "hypothesis")
        with pytest.raises(ns.LLMError, match=r"No proxy answers.*NO_PROXY") as checked:
            check_reachable(model)
    assert "proxy-pass" not in str(caught.value) + str(checked.value)


def test_a_proxy_that_does_not_apply_is_not_spoken_of(dead_proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    model = ChatOpenAI(model="fake", api_key="none", base_url="http://127.0.0.1:9/v1")
    assert "proxy" not in str(request_failure(ConnectionError("no"), model, "hypothesis"))
    with pytest.raises(ns.LLMError, match="No server listens"):
        check_reachable(model)


# Logins in addresses


LOGINS = ["user:hunter2", "user:pa%40ss%2Fword", "token-of-mine:", "us%40er:secret-pass"]


@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize("status", [400, 404, 500])
async def test_no_form_of_a_login_in_an_address_is_in_errors_logs_or_traces(
    login: str, status: int, caplog: pytest.LogCaptureFixture, naps: list[float]
) -> None:
    caplog.set_level(logging.DEBUG)

    def answer(request: dict[str, Any], number: int) -> Reply:
        said = (server.keys[number], f"{login}@here", unquote(login), *passwords)
        return refusal(status, f"Not for {' or '.join(map(str, said))}")

    class Trace(BaseCallbackHandler):
        def on_llm_error(self, error: BaseException, **more: Any) -> None:
            traced.append("".join(traceback.format_exception(error)))

    traced: list[str] = []
    with fake_openai(answer) as server:
        server.address = server.address.replace("//", f"//{login}@")
        model = named(server).model_copy(update={"callbacks": [Trace()]})
        written = login.split(":")[1] or login.rstrip(":")
        passwords = {written, unquote(written)}
        with pytest.raises(ns.LLMError) as caught:
            await ask(model, QUESTION, "hypothesis")
        sent = (server.keys[0] or "").removeprefix("Basic ")
    assert base64.b64decode(sent), "the login was sent as a header"
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text + "".join(traced)
    assert traced
    assert sent.rstrip("=") not in shown
    assert not [password for password in passwords if password in shown]


# Embeddings


def vectors(request: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"object": "embedding", "index": index, "embedding": [float(len(text)), float(index)]}
        for index, text in enumerate(request["input"])
    ]


def embedding(data: list[dict[str, Any]]) -> Reply:
    return Reply(body=json.dumps({"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 1}}))


TEXTS = ["a", "bb", "ccc"]


@pytest.mark.parametrize("by", ["name", "environment"])
@pytest.mark.parametrize("turned", [False, True])
async def test_a_server_of_ones_own_is_sent_text_and_its_order_is_that_of_the_texts(
    by: str, turned: bool, monkeypatch: pytest.MonkeyPatch, dead_proxy: str
) -> None:
    import tiktoken

    def fetch(*_: Any) -> None:
        raise ConnectionError("openaipublic.blob.core.windows.net")

    monkeypatch.setattr(tiktoken, "get_encoding", fetch)
    monkeypatch.setattr(tiktoken, "encoding_for_model", fetch)
    with fake_openai(lambda request, number: embedding(vectors(request)[:: -1 if turned else 1])) as server:
        if by == "environment":
            monkeypatch.setenv("OPENAI_BASE_URL", server.address)
        embeddings = resolve_embeddings("openai:nomic" + (f"@{server.address}" if by == "name" else ""))
        found = [
            await embeddings.aembed_documents(TEXTS),
            await asyncio.to_thread(embeddings.embed_documents, TEXTS),
        ]
        assert server.requests[0]["input"] == TEXTS
        assert server.requests[0]["model"] == "nomic"
    assert found == [[[1.0, 0.0], [2.0, 1.0], [3.0, 2.0]]] * 2


async def test_many_texts_are_sent_in_small_batches() -> None:
    with fake_openai(lambda request, number: embedding(vectors(request))) as server:
        embeddings = resolve_embeddings(f"openai:nomic@{server.address}")
        texts = ["x" * (1 + number % 7) for number in range(70)]
        found = await embeddings.aembed_documents(texts)
        assert [len(request["input"]) for request in server.requests] == [32, 32, 6]
    assert [vector[0] for vector in found] == [float(len(text)) for text in texts]


@pytest.mark.parametrize("data", [[], vectors({"input": ["a", "b"]}), [{"object": "embedding", "index": 0}] * 3])
async def test_another_number_of_embeddings_is_an_error_that_names_the_server(data: list[dict[str, Any]]) -> None:
    with fake_openai(embedding(data)) as server:
        embeddings = resolve_embeddings(f"openai:nomic@{server.address.replace('//', '//user:pass-word@')}")
        with pytest.raises((ns.LLMError, ValueError), match=r"nomic|No embedding data") as caught:
            await embeddings.aembed_documents(TEXTS)
    assert "pass-word" not in str(caught.value)


def test_texts_for_openai_itself_need_no_tokenizer_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-1234567890")
    embeddings = resolve_embeddings("openai:text-embedding-3-small")
    assert isinstance(embeddings, OpenAIEmbeddings)
    assert not embeddings.check_embedding_ctx_length


def test_a_tokenizer_that_cannot_be_fetched_is_not_the_servers_fault() -> None:
    object_of_theirs = OpenAIEmbeddings(model="nomic", api_key="none", base_url="http://127.0.0.1:9/v1")
    error = ConnectionError("HTTPSConnectionPool(host='openaipublic.blob.core.windows.net', port=443)")
    message = str(request_failure(error, object_of_theirs, "clustering"))
    assert "check_embedding_ctx_length=False" in message
    assert "cannot be reached" not in message


# What is no model


@pytest.mark.parametrize("where", ["alone", "mapping"])
@pytest.mark.parametrize(
    "make",
    [
        lambda model: model.bind(stop=["x"]),
        lambda model: model.with_retry(),
        lambda model: model.with_fallbacks([model]),
        lambda model: [model],
        lambda model: {model.model_name},
        lambda model: type(model),
        lambda model: model.invoke,
        lambda model: model.root_client,
        lambda model: "x" * 5_000 + ":" if False else object(),
    ],
)
def test_an_object_that_is_no_chat_model_is_named_by_its_kind(make: Callable[[Any], Any], where: str) -> None:
    model = ChatOpenAI(model="m", base_url="http://127.0.0.1:9/v1", api_key="sk-secret-1234567890")
    given = make(model)
    with pytest.raises(ns.ConfigurationError, match="llm is") as caught:
        resolve_llm(given if where == "alone" else {"default": given})
    name = given.__name__ if isinstance(given, type) else type(given).__name__
    assert name in str(caught.value)
    assert len(str(caught.value)) < 300
    assert "secret" not in str(caught.value)
