"""OpenAI's Batch API behind a chat model: requests wait until many can be sent together, at half the price.

1. A request is queued. Once nothing has joined the queue for a while, or it is full, all of it becomes one batch: it is
   written down (`batch_log`), uploaded, and created.
2. The batch is looked at until it has ended, which takes up to 24 hours, and its answers are downloaded.
3. Each request gets its line. A line with an error becomes the error that the same request would have had by itself,
   as a gateway's error with HTTP status 200 does, so that it is repeated, or asked otherwise, by what does that anyway.
4. Once the answer is in the cache, its request is forgotten. A process that finds a request written down, since another
   one was killed, takes the answer from that batch, and sends nothing.

Bodies are built, and answers read, by LangChain's own code for a single request. All of it happens on the loop of
requests (`ask`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from neuronscope.errors import LLMError
from neuronscope.io import cache_folder
from neuronscope.llm.backends import MAX_RETRIES
from neuronscope.llm.batch_log import BatchLog
from neuronscope.llm.failures import http_status, is_connection_failure, redacted
from neuronscope.locks import in_forked_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai import AsyncOpenAI
    from openai.types import Batch

QUIET = 15.0
"""Seconds without a further request after which the queue is sent."""
MOST_REQUESTS, MOST_BYTES = 20_000, 100_000_000
"""What one batch holds at most; OpenAI takes 50,000 requests and 200 MB."""
FIRST_LOOK, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a batch is looked at first, and at most between two looks."""

ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_MARK = "neuronscope"
_TOKEN_LIMIT = "token_limit_exceeded"

logger = logging.getLogger(__name__)

Line = dict[str, Any]
"""A line of a batch's output: the response to one request, or its error."""


@dataclass
class _Queued:
    """A request that is not sent yet, and who waits for the id of its batch."""

    answer: str
    line: str
    waiting: list[asyncio.Future[str]] = field(default_factory=list)


@dataclass
class _UnderWay:
    """A batch that was sent, with its lines once it has ended."""

    lines: asyncio.Task[dict[str, Line]]
    waiting: int = 0


class _BatchFullError(Exception):
    """The provider takes no more tokens at the moment."""


class _GoneError(Exception):
    """The provider knows no such batch."""


class BatchQueue:
    """The requests of a process to one model that are asked in batches.

    Args:
        model: its name.
        backend: which model where, the same in every process.
        client: how the provider is reached, on the loop of requests.
        log: where it is written down what was sent.
    """

    def __init__(self, model: str, backend: str, client: AsyncOpenAI, log: BatchLog) -> None:
        self._model, self._backend, self._client, self._log = model, backend, client, log
        self._queued: dict[str, _Queued] = {}
        self._sending: dict[str, _Queued] = {}
        self._sender: asyncio.Task[None] | None = None
        self._joined = asyncio.Event()
        self._sent: dict[str, _UnderWay] = {}
        self._most = MOST_REQUESTS
        self._ended = asyncio.Event()

    @property
    def waiting(self) -> tuple[int, int, int]:
        """Batches under way, requests that wait for their answers, and requests that are not sent yet."""
        sent = [each for each in list(self._sent.values()) if not each.lines.done()]
        return len(sent), sum(each.waiting for each in sent), len(self._queued)

    async def answer(self, answer_key: str, body: dict[str, Any]) -> dict[str, Any]:
        """The response to a request, from a batch that has it already or from the next one.

        Raises:
            LLMError: the batch was refused or cancelled.
            ValueError: the request failed within it; in the form of an error in an answer with status 200.
        """
        written = json.dumps(body, sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(f"{self._backend}\n{answer_key}\n{written}".encode("utf-8", "surrogatepass"))
        request = digest.hexdigest() if answer_key else uuid4().hex
        while True:
            is_sending = request in self._sending
            batch = None if is_sending else await self._known(request)
            batch = batch or await self._queue_up(request, answer_key, body)
            try:
                lines = await self._lines_of(batch)
            except _GoneError:
                logger.warning("There is no %s any more: its requests are sent again.", batch)
                self._log.forget([request])
            except _BatchFullError:
                self._log.forget([request])
                await self._room()
            else:
                return self._read(request, batch, lines.get(request) if answer_key else lines.pop(request, None))

    def settle(self, answer_key: str) -> None:
        """Forget the requests for an answer that is kept elsewhere."""
        for request in self._log.settle(answer_key) if answer_key else ():
            for each in self._sent.values():
                if each.lines.done() and each.lines.exception() is None:
                    each.lines.result().pop(request, None)

    def _read(self, request: str, batch: str, line: Line | None) -> dict[str, Any]:
        """What a line brings."""
        response = (line or {}).get("response") or {}
        answered, status = response.get("body"), response.get("status_code")
        if isinstance(answered, dict) and status == 200:
            return answered
        self._log.forget([request])
        error = (answered.get("error") if isinstance(answered, dict) else None) or (line or {}).get("error") or {}
        error = error if isinstance(error, dict) else {"message": str(error)}
        if error.get("code") == "batch_cancelled":
            raise LLMError(f"The batch {batch} was cancelled. Run the same again to send what it left unanswered.")
        status = status if isinstance(status, int) and status >= 400 else 504  # expired, or lost: it is sent again
        raise ValueError({**error, "message": error.get("message") or f"{batch} has no answer.", "code": status})

    # The queue

    async def _queue_up(self, request: str, answer_key: str, body: dict[str, Any]) -> str:
        """Wait until a request is sent; the id of its batch."""
        line = {"custom_id": request, "method": "POST", "url": ENDPOINT, "body": body}
        sent: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if (sending := self._sending.get(request)) is not None:
            sending.waiting.append(sent)
            return await sent
        queued = self._queued.setdefault(request, _Queued(answer_key, json.dumps(line)))
        queued.waiting.append(sent)
        self._joined.set()
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_when_quiet())
        return await sent

    async def _send_when_quiet(self) -> None:
        while self._queued:
            self._joined.clear()
            if len(self._queued) < self._most:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._joined.wait(), QUIET)
                    continue
            self._sending = self._next()
            await self._send(self._sending)
            self._sending = {}

    def _next(self) -> dict[str, _Queued]:
        """As much of the queue as one batch holds; what nobody waits for any more is dropped."""
        chosen: dict[str, _Queued] = {}
        size = 0
        for request, queued in list(self._queued.items()):
            size += len(queued.line) + 1
            if len(chosen) == self._most or (chosen and size > MOST_BYTES):
                break
            del self._queued[request]
            if not all(one.cancelled() for one in queued.waiting):
                chosen[request] = queued
        return chosen

    async def _send(self, chosen: dict[str, _Queued]) -> None:
        if not chosen:
            return
        token = uuid4().hex
        self._log.add(((request, queued.answer) for request, queued in chosen.items() if queued.answer), token)
        try:
            lines = "\n".join(queued.line for queued in chosen.values())
            file = await self._client.files.create(file=(f"{_MARK}-{token}.jsonl", lines.encode()), purpose="batch")
            batch = await self._create(file.id, token)
        except Exception as error:  # noqa: BLE001 - the client has many kinds
            self._log.forget(chosen)
            for one in _waiting(chosen):
                one.set_exception(error)
            return
        self._log.sent(token, batch)
        logger.info(
            "%s with %s of %s is under way: answers come within 24 hours. It goes on when this process ends, and the "
            "same again takes its answers.",
            batch,
            "1 request" if len(chosen) == 1 else f"{len(chosen):,} requests",
            self._model,
        )
        for one in _waiting(chosen):
            one.set_result(batch)

    async def _create(self, file: str, token: str) -> str:
        """Create a batch exactly once: after an error that leaves that open, look whether it is there."""
        client = self._client.with_options(max_retries=0)
        for attempt in range(MAX_RETRIES + 1):
            try:
                batch = await client.batches.create(
                    input_file_id=file, endpoint=ENDPOINT, completion_window="24h", metadata={_MARK: token}
                )
            except Exception as error:
                if not _passes(error) or attempt == MAX_RETRIES:
                    raise
                await asyncio.sleep(min(LONGEST_PAUSE, 0.5 * 2**attempt))
                if (found := await self._marked(token)) is not None:
                    return found
            else:
                return batch.id
        raise AssertionError  # the last attempt returns or raises

    # Batches that were sent

    async def _known(self, request: str) -> str | None:
        """The batch that a request was sent in, by this process or another."""
        sent = self._log.find(request)
        if sent is None or sent.batch is not None:
            return None if sent is None else sent.batch
        if (batch := await self._marked(sent.token)) is None:  # killed before it was created
            self._log.forget([request])
            return None
        self._log.sent(sent.token, batch)
        return batch

    async def _marked(self, token: str) -> str | None:
        """The batch with a mark, among the latest hundred."""
        page = await self._client.batches.list(limit=100)
        return next((batch.id for batch in page.data if (batch.metadata or {}).get(_MARK) == token), None)

    async def _lines_of(self, batch: str) -> dict[str, Line]:
        """A batch's lines by request; it is looked at only as long as somebody waits."""
        under_way = self._sent.get(batch)
        if under_way is None:
            under_way = self._sent[batch] = _UnderWay(asyncio.create_task(self._wait_for(batch)))
        under_way.waiting += 1
        try:
            return await asyncio.shield(under_way.lines)
        finally:
            under_way.waiting -= 1
            lines = under_way.lines
            if not lines.done() and not under_way.waiting:
                lines.cancel()
                del self._sent[batch]
            elif lines.done() and lines.exception() is not None:
                self._sent.pop(batch, None)

    async def _wait_for(self, name: str) -> dict[str, Line]:
        """Wait until a batch has ended, and download what it has."""
        pause = FIRST_LOOK
        try:
            while (batch := await self._look(name)) is None or not _has_ended(batch):
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, 1.5 * pause)
            if batch.status == "failed":
                raise self._refusal(batch)
            lines: dict[str, Line] = {}
            for file in filter(None, (batch.output_file_id, batch.error_file_id)):
                content = (await self._client.files.content(file)).content.decode()
                lines |= {line["custom_id"]: line for line in map(json.loads, filter(str.strip, content.split("\n")))}
        finally:
            self._ended.set()
        n = sum((line.get("response") or {}).get("status_code") == 200 for line in lines.values())
        logger.info("%s has ended (%s): %s.", name, batch.status, "1 answer" if n == 1 else f"{n:,} answers")
        return lines

    async def _look(self, name: str) -> Batch | None:
        """A batch as it is now; None if the provider cannot be asked at the moment, which must not end a day's wait."""
        try:
            return await self._client.batches.retrieve(name)
        except Exception as error:
            if http_status(error) == 404:
                raise _GoneError from error
            if not _passes(error):
                raise
            logger.warning("%s cannot be looked at (%s): trying again.", name, redacted(str(error)))
            return None

    def _refusal(self, batch: Batch) -> Exception:
        """Why a whole batch was not begun."""
        errors = (batch.errors.data if batch.errors is not None else None) or []
        size = batch.request_counts.total if batch.request_counts is not None else 0
        others = any(not each.lines.done() for name, each in self._sent.items() if name != batch.id)
        if any(error.code == _TOKEN_LIMIT for error in errors) and (others or self._most > 1):
            if not others:
                self._most = max(1, min(self._most, size or self._sent[batch.id].waiting) // 2)
            logger.info("%s is more than OpenAI queues for this account: smaller ones are sent.", batch.id)
            return _BatchFullError()
        said = "; ".join(error.message or error.code or "" for error in errors[:3]) or "no reason is given"
        return LLMError(
            f"{self._model} takes no such batch ({batch.id}): {redacted(said)} Correct that, or "
            f'ask without batches: llm="openai:{self._model}".'
        )

    async def _room(self) -> None:
        """Wait until another batch has ended, if one is under way."""
        if any(not each.lines.done() for each in self._sent.values()):
            self._ended.clear()
            await self._ended.wait()


_queues: dict[tuple[str, ...], BatchQueue] = {}
_of_parents: list[BatchQueue] = []
"""Those of the processes that this one was forked from, whose connections must not even be closed here."""


def queue_of(place: tuple[str, ...], make: Callable[[BatchLog], BatchQueue]) -> BatchQueue:
    """The process's queue to a place, which is a model, an address and a key: a batch has one of each."""
    folder = cache_folder("answers")
    place = (str(folder), *place)
    if place not in _queues:
        _queues[place] = make(BatchLog(folder / "batches.sqlite"))
    return _queues[place]


def waiting_for_batches() -> str:
    """What this process waits for, in words; nothing if it waits for no batch."""
    counts = [queue.waiting for queue in list(_queues.values())]
    batches, requests, queued = (sum(each[place] for each in counts) for place in range(3))
    if not batches and not queued:
        return ""
    said = [f"waiting for {'1 batch' if batches == 1 else f'{batches} batches'} with {requests:,} requests"]
    return ", ".join([*said[: bool(batches)], *([f"{queued:,} requests for the next batch"] if queued else [])])


def _waiting(chosen: dict[str, _Queued]) -> list[asyncio.Future[str]]:
    return [one for queued in chosen.values() for one in queued.waiting if not one.done()]


def _passes(error: Exception) -> bool:
    """Whether the same may be tried again."""
    status = http_status(error)
    return is_connection_failure(error) or (status is not None and (status in (408, 409, 429) or status >= 500))


def _has_ended(batch: Batch) -> bool:
    return batch.status in ("completed", "failed", "expired", "cancelled")


def forget_batches() -> None:
    """Know no more of batches than a new process would, which finds what was sent where it is written down."""
    _queues.clear()


def _leave_to_parent() -> None:
    _of_parents.extend(_queues.values())
    _queues.clear()


in_forked_child(_leave_to_parent)
