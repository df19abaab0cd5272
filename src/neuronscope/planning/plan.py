"""What a run will take, before it is paid for: `Plan`, computed by `neuronscope.planning.make`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """What something takes; None is what cannot be known, and never 0."""

    requests: int | None = 0
    """To language models."""
    input_tokens: int | None = 0
    """Of prompts."""
    output_tokens: int | None = 0
    """Of answers."""
    dollars: float | None = 0.0
    """US dollars."""
    simulated_tokens: int | None = 0
    """Pairs of an explanation and a token that the simulator predicts."""
    seconds: float | None = 0.0
    """On this machine."""

    @property
    def tokens(self) -> int | None:
        """Of prompts and answers together."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is left of a run will take: requests, tokens, dollars, simulator tokens, time, disk and memory.

    None is what cannot be known, such as the dollars of a model without a published price.
    """

    neurons: int
    """How many the run has."""
    finished: int = 0
    """How many of them are finished in the run's folder; the amounts are those of the others."""
    measured: int = 0
    """On how many finished neurons the amounts rest; 0 is on stated constants, and the speed of this machine."""
    expected: Amounts
    """What is expected of the neurons that are left."""
    at_most: Amounts
    """What the settings allow at most, requests that are repeated after an error not counted."""
    agents: Mapping[str, Amounts] = field(default_factory=dict)
    """What is expected, agent by agent."""
    spent: Amounts = field(default_factory=Amounts)
    """What has been spent for the plan itself, and is not spent again."""
    steps: Mapping[str, float | None] = field(default_factory=dict)
    """The seconds, step by step."""
    files: Mapping[str, int] = field(default_factory=dict)
    """Bytes on disk that the run adds, by what they are for."""
    memory: int | None = None
    """Bytes of main memory that the process needs."""
    gpu_memory: int | None = None
    """Bytes of GPU memory; None where no GPU is used."""
    budget: str | None = None
    """What is left of the budget, if there is one."""
    affordable: int | None = None
    """How many of the neurons that are left the budget is expected to last for; None if that is not known."""
    assumptions: tuple[str, ...] = ()
    """What the plan rests on, in words."""

    @property
    def left(self) -> int:
        """Neurons that are not finished."""
        return self.neurons - self.finished

    @property
    def requests(self) -> int | None:
        """Expected requests to language models."""
        return self.expected.requests

    @property
    def tokens(self) -> int | None:
        """Expected tokens of prompts and answers together."""
        return self.expected.tokens

    @property
    def input_tokens(self) -> int | None:
        """Expected tokens of prompts."""
        return self.expected.input_tokens

    @property
    def output_tokens(self) -> int | None:
        """Expected tokens of answers."""
        return self.expected.output_tokens

    @property
    def dollars(self) -> float | None:
        """Expected US dollars; None where a price is not known."""
        return self.expected.dollars

    @property
    def simulated_tokens(self) -> int | None:
        """Expected pairs of an explanation and a token that the simulator predicts."""
        return self.expected.simulated_tokens

    @property
    def seconds(self) -> float | None:
        """Expected seconds on this machine, all steps together."""
        return self.expected.seconds

    @property
    def hours(self) -> float | None:
        """The same in hours."""
        return None if self.seconds is None else self.seconds / 3600

    @property
    def disk(self) -> int:
        """Bytes on disk that the run adds."""
        return sum(self.files.values())

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data that JSON can hold."""
        return asdict(self) | {"left": self.left, "disk": self.disk}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """How `rich` prints the plan."""
        from neuronscope.display.plan import PlanReport

        yield PlanReport(self)

    def __str__(self) -> str:
        from neuronscope.display.plan import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from neuronscope.display.plan import render_plan

        return render_plan(self)
