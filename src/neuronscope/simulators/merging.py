"""One queue for callers from any thread: whoever finds the line free serves everyone who waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from neuronscope.locks import Lock

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class _Submission(Generic[Request, Answer]):
    """One caller's requests, and what became of them."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests
        self.answers: list[Answer] | None = None
        self.error: Exception | None = None


class MergingQueue(Generic[Request, Answer]):
    """Calls a function with the requests of all waiting callers at once, one call at a time.

    If a merged call fails, each caller's requests are tried alone, so that only the culprit fails.

    Args:
        serve: from requests to as many answers.
    """

    def __init__(self, serve: Callable[[Sequence[Request]], list[Answer]]) -> None:
        self._serve = serve
        self._waiting: SimpleQueue[_Submission[Request, Answer]] = SimpleQueue()
        self._one_at_a_time = Lock()

    def submit(self, requests: Sequence[Request]) -> list[Answer]:
        """Wait for the answers to these requests; what `serve` raises about them is raised here."""
        submission: _Submission[Request, Answer] = _Submission(requests)
        self._waiting.put(submission)
        with self._one_at_a_time:
            if submission.answers is None and submission.error is None:
                others = [other for other in self._drain() if other is not submission]
                self._answer([submission, *others])
        if submission.error is not None:
            raise submission.error
        return submission.answers or []

    def _drain(self) -> list[_Submission[Request, Answer]]:
        found = []
        try:
            while True:
                found.append(self._waiting.get_nowait())
        except Empty:
            return found

    def _answer(self, batch: list[_Submission[Request, Answer]]) -> None:
        try:
            answers = self._serve([request for submission in batch for request in submission.requests])
        except Exception as error:  # noqa: BLE001 - raised again where the answer is awaited
            if len(batch) == 1:
                batch[0].error = error
                return
            for submission in batch:
                self._answer([submission])
            return
        start = 0
        for submission in batch:
            submission.answers = answers[start : start + len(submission.requests)]
            start += len(submission.requests)
