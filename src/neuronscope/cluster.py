"""Work spread over the machines of a Ray cluster: by whom, with what, and again when one of them is lost.

Workers are Ray actors. Each claims its share of a machine, gets ready once (loads the subject, say), and then works
through one shard after the other, so that what it has loaded stays on the GPU that it claimed: plain tasks that share a
process may find another GPU assigned the next time. A worker that dies is replaced, and its shards go to others; a
replacement that finds no room holds nothing up. As the cluster grows, workers are added.

What is sent and returned travels by Ray's own serialization, between machines that trust each other.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from importlib import import_module
from importlib.metadata import version
from types import TracebackType
from typing import Any, Generic, TypeVar

from neuronscope.arguments import did_you_mean
from neuronscope.errors import ConfigurationError

R = TypeVar("R")
T = TypeVar("T")
U = TypeVar("U")

logger = logging.getLogger(__name__)

QUEUE = 2
"""Shards that a worker has at a time: it works on one, and need not wait for the next."""
_PATIENCE = 5.0
"""Seconds after which to look whether the cluster has grown."""
_END: Any = object()


@dataclass(frozen=True)
class RayEngine:
    """How to spread work over a Ray cluster; `engine="ray"` is this with its defaults.

    Where Ray is initialized already, that cluster is used. Else `address`, the environment's `RAY_ADDRESS` or the
    cluster started on this machine says which; where there is none, a Ray of this machine alone is started. Every
    machine needs the same version of neuronscope.

    Raises:
        ConfigurationError: a setting makes no sense.
    """

    _: KW_ONLY
    num_gpus: float | None = None
    """GPUs that each worker claims; a fraction shares one. None: one where the cluster has any, else none."""
    num_cpus: float = 1.0
    """CPUs that each worker claims; it computes with as many threads."""
    n_workers: int | None = None
    """Workers at most; None: as many as the cluster has room for. Each holds a copy of the model."""
    shard_size: int | None = None
    """Units in a shard, which is what a lost worker loses (collecting: chunks of 512 sequences); None goes by time."""
    max_retries: int = 3
    """How often a shard is redone when workers die over it."""
    address: str | None = None
    """Where the cluster is, such as `"auto"`, `"10.0.0.1:6379"`, `"ray://head:10001"`, or `"local"` for a new one."""

    def __post_init__(self) -> None:
        for name, least in (
            ("num_gpus", 0.0),
            ("num_cpus", 0.0),
            ("max_retries", 0),
            ("n_workers", 1),
            ("shard_size", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigurationError(f"{name} of a RayEngine must be at least {least:g}, not {value}.")
        if not self.num_cpus and self.num_gpus == 0:
            raise ConfigurationError("A RayEngine's workers must claim something: num_cpus, num_gpus or both.")


def ray_engine(engine: str | RayEngine) -> RayEngine | None:
    """What `engine=` means: None is this process.

    Raises:
        ConfigurationError: there is no such engine.
    """
    if isinstance(engine, RayEngine):
        return engine
    if engine not in ("local", "ray"):
        hint = did_you_mean(engine, ("local", "ray"))
        raise ConfigurationError(f"There is no engine {engine!r}.{hint} Choose 'local', 'ray', or a RayEngine(...).")
    return RayEngine() if engine == "ray" else None


class RayWorkers(Generic[R]):
    """Workers that have all made the same thing ready, and what they are given to do; leaving ends them all.

    Args:
        engine: what each claims.
        setup: called once in each worker, with the device to use (`"auto"` where it has a GPU, else `"cpu"`); what it
            returns is given to every call.

    Raises:
        ConfigurationError: Ray is not installed or cannot be reached, the cluster has no room for a single worker, or
            `setup` cannot be sent.
    """

    def __init__(self, engine: RayEngine, setup: Callable[[str], R]) -> None:
        self._ray = _connected(engine.address)
        self._engine = engine
        self._claim = _claim(engine, self._ray.nodes())
        self._workers: list[_Worker] = []
        self._waiting: deque[_Shard] = deque()
        self._pending: dict[Any, tuple[_Worker, _Shard | None]] = {}
        self._false_starts = 0
        if not self._room():
            raise ConfigurationError(
                f"No machine of the Ray cluster has room for a worker with {_words(self._claim)}. Claim less, in "
                "RayEngine(num_gpus=..., num_cpus=...), or start larger machines first."
            )
        try:
            self._setup = self._ray.put(setup)
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigurationError(
                f"Ray cannot send the subject to its workers: {str(error).splitlines()[0]} Give a model that they can "
                "load themselves, by load_subject with a name or a path, or make the subject serializable."
            ) from error
        self._exceptions = self._ray.exceptions
        self._lost = (
            self._exceptions.RayActorError,
            self._exceptions.ObjectLostError,
            self._exceptions.OutOfMemoryError,
            self._exceptions.NodeDiedError,
            self._exceptions.WorkerCrashedError,
        )

    def __enter__(self) -> RayWorkers[R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers.clear()
        self._pending.clear()
        self._waiting.clear()

    def __len__(self) -> int:
        """How many are ready."""
        return sum(worker.ready for worker in self._workers)

    def map(self, function: Callable[[R, T], U], shards: Iterable[T]) -> Iterator[U]:
        """What `function(ready, shard)` returns for each shard, in the order in which they are done.

        Shards are drawn as workers take them: `QUEUE` for each worker are on their way, no more.

        Raises:
            ConfigurationError: workers died over the same shard, or while they got ready, more often than
                `max_retries`; or a machine has another version of neuronscope.
            Exception: what `function` or the setup raised.
        """
        rest = iter(shards)
        more = True
        while more or self._outstanding():
            wanted = more and self._outstanding() < QUEUE * self._room()
            if wanted and (shard := next(rest, _END)) is not _END:
                self._waiting.append(_Shard(self._ray.put(shard)))
            elif wanted:
                more = False
            self._start_workers()
            self._assign(function)
            yield from self._finished(0.0 if wanted else _PATIENCE)

    def _outstanding(self) -> int:
        return len(self._waiting) + sum(worker.n_shards for worker in self._workers)

    def _room(self) -> int:
        """How many workers the cluster as it is now has room for."""
        room = sum(_room(node["Resources"], self._claim) for node in self._ray.nodes() if node["Alive"])
        return room if self._engine.n_workers is None else min(room, self._engine.n_workers)

    def _start_workers(self) -> None:
        for _ in range(min(self._room(), self._outstanding()) - len(self._workers)):
            actor = self._ray.remote(_Actor).options(max_restarts=0, **self._claim).remote()
            worker = _Worker(actor)
            self._workers.append(worker)
            self._pending[actor.prepare.remote(self._setup)] = (worker, None)

    def _assign(self, function: Callable[[R, T], U]) -> None:
        while self._waiting:
            free = [worker for worker in self._workers if worker.ready and worker.n_shards < QUEUE]
            if not free:
                return
            worker = min(free, key=lambda each: each.n_shards)
            shard = self._waiting.popleft()
            worker.n_shards += 1
            self._pending[worker.actor.run.remote(function, shard.reference)] = (worker, shard)

    def _finished(self, seconds: float) -> Iterator[Any]:
        """Wait so long for a shard to be done, at most; returns earlier when anything has changed."""
        if not self._pending:
            time.sleep(seconds)
            return
        done, _ = self._ray.wait(list(self._pending), timeout=seconds)
        for reference in done:
            worker, shard = self._pending.pop(reference)
            try:
                value = self._ray.get(reference)
            except self._lost as error:
                self._lose(worker, shard, error)
            except self._exceptions.RayTaskError as error:
                raise error.cause from error
            else:
                if shard is None:
                    self._welcome(worker, value)
                else:
                    worker.n_shards -= 1
                    yield value

    def _welcome(self, worker: _Worker, its_version: str) -> None:
        if its_version != version("neuronscope"):
            raise ConfigurationError(
                f"A machine of the Ray cluster has neuronscope {its_version}; this one has {version('neuronscope')}. "
                "Install the same version on all."
            )
        worker.ready = True
        self._false_starts = 0

    def _lose(self, worker: _Worker, shard: _Shard | None, error: Exception) -> None:
        """Let other workers do what this one was given."""
        self._ray.kill(worker.actor)
        self._workers.remove(worker)
        left = [reference for reference, (owner, _) in self._pending.items() if owner is worker]
        given = [each for each in [shard, *(self._pending.pop(reference)[1] for reference in left)] if each]
        for each in given:
            each.losses += 1
        self._false_starts += not worker.ready
        losses = max([self._false_starts, *(each.losses for each in given)])
        if losses > self._engine.max_retries:
            over = "over the same shard" if worker.ready else "before they were ready"
            raise ConfigurationError(
                f"{losses} Ray workers were lost {over}; the last: {' '.join(str(error).split())} If they ran out of "
                "memory, let each claim more, RayEngine(num_cpus=...), or have fewer, RayEngine(n_workers=...)."
            ) from error
        logger.warning("A Ray worker was lost (%s); its %d shards are redone.", type(error).__name__, len(given))
        self._waiting.extendleft(given)


@dataclass(eq=False)
class _Worker:
    """A worker, seen from here."""

    actor: Any
    ready: bool = False
    n_shards: int = 0


@dataclass(eq=False)
class _Shard:
    """A shard in Ray's keeping."""

    reference: Any
    losses: int = 0


class _Actor:
    """A worker, in its own process."""

    def __init__(self) -> None:
        self._made: Any = None

    def prepare(self, setup: Callable[[str], Any]) -> str:
        """Make ready; the version of neuronscope."""
        claimed = import_module("ray").get_runtime_context().get_assigned_resources()
        self._made = setup("auto" if claimed.get("GPU") else "cpu")
        return version("neuronscope")

    def run(self, function: Callable[[Any, Any], Any], shard: Any) -> Any:
        """Do a shard."""
        return function(self._made, shard)


def _connected(address: str | None) -> Any:
    """The module `ray`, initialized."""
    try:
        ray = import_module("ray")
    except ImportError as error:
        raise ConfigurationError(
            "engine='ray' needs the package ray, which is not installed: pip install 'neuronscope[ray]'."
        ) from error
    if not ray.is_initialized():
        _require_listening(address or os.environ.get("RAY_ADDRESS"))
        try:
            ray.init(address=address, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise ConfigurationError(
                f"Cannot connect to Ray{f' at {address}' if address else ''}: {' '.join(str(error).split())} Check the "
                "address and that the cluster runs (`ray status`); address='local' starts a Ray of this machine alone."
            ) from error
    return ray


def _require_listening(address: str | None) -> None:
    """Knock at the address, if it names one: Ray itself would try for many minutes.

    Raises:
        ConfigurationError: nobody listens there.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except OSError as error:
        raise ConfigurationError(
            f"Cannot connect to Ray at {address}: {error}. Check the address and that the cluster runs "
            "(`ray status`); address='local' starts a Ray of this machine alone."
        ) from error


def _claim(engine: RayEngine, nodes: Iterable[dict[str, Any]]) -> dict[str, float]:
    gpus = engine.num_gpus
    if gpus is None:
        gpus = float(any(node["Alive"] and node["Resources"].get("GPU", 0) >= 1 for node in nodes))
    return {"num_gpus": gpus, "num_cpus": engine.num_cpus}


def _room(resources: dict[str, float], claim: dict[str, float]) -> int:
    """How many workers fit on a machine."""
    places = []
    if cpus := claim["num_cpus"]:
        places.append(int(resources.get("CPU", 0) / cpus + 1e-6))
    if gpus := claim["num_gpus"]:
        have = resources.get("GPU", 0)
        places.append(int(have) * int(1 / gpus + 1e-6) if gpus < 1 else int(have / gpus))
    return min(places)


def _words(claim: dict[str, float]) -> str:
    return " and ".join(f"{amount:g} {name.removeprefix('num_')[:-1].upper()}(s)" for name, amount in claim.items())
