"""Work spread over the machines of a Ray cluster: a task for each part of it.

A task opens what it needs on its worker (loads the subject, say) and does one part with it. Ray finds room for tasks,
and repeats those whose worker is lost. What a task has opened stays in its process for the next one there; a task that
claims a GPU has a process of its own, as Ray's default is: another might keep a GPU that is no longer its share.

What is sent and returned travels by Ray's own serialization, between machines that trust each other.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Generator, Iterable
from dataclasses import KW_ONLY, dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any, TypeVar

from neuronscope.arguments import did_you_mean
from neuronscope.errors import ConfigurationError
from neuronscope.stopping import check_stopped

R = TypeVar("R")
T = TypeVar("T")
U = TypeVar("U")

QUEUE = 2
"""Parts on their way to each place that the cluster has for a task, so that none waits for its next one."""
_PATIENCE = 5.0
"""Seconds to wait for an answer at the cluster's address."""
_LOOK = 1.0
"""Seconds after which to look whether the cluster has grown, or nobody waits any more."""
_CANCELLATIONS = 5
"""How often a task that does not end is cancelled, where the results are left early."""
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
    """Tasks at a time, at most; None: as many as the cluster has room for. Each has a copy of the model."""
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


def spread(
    engine: RayEngine, opener: Callable[[str], R], function: Callable[[R, T], U], parts: Iterable[T]
) -> Generator[U]:
    """Yield what `function(opened, part)` returns for each part, in the order in which they are done.

    Parts are drawn as there is room for them; leaving early ends all tasks.

    Args:
        engine: the cluster, and what each task claims.
        opener: makes what the function needs, given the device to use: `"auto"` where the task has a GPU, else `"cpu"`.
            Called once in a process.
        function: does a part.
        parts: what is to be done.

    Raises:
        ConfigurationError: Ray is not installed or cannot be reached, the cluster has no room for a single task,
            `opener` cannot be sent, a machine has another version of neuronscope, or workers died over the same part
            more often than `max_retries`.
        Exception: what `function` or `opener` raised.
    """
    n_places = places(engine)
    if not n_places:
        raise ConfigurationError(
            f"No machine of the Ray cluster has room for a worker with {_words(claim(engine))}. Claim less, in "
            "RayEngine(num_gpus=..., num_cpus=...), or start larger machines first."
        )
    ray = _connected(engine.address)
    task = ray.remote(max_retries=engine.max_retries, **claim(engine))(_do)  # not `options`, which keeps the process
    try:
        sent = ray.put(opener)
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(
            f"Ray cannot send the subject to its workers: {str(error).splitlines()[0]} Give a model that they can "
            "load themselves, by load_subject with a name or a path, or make the subject serializable."
        ) from error
    rest, more, pending = iter(parts), True, set[Any]()
    try:
        while more or pending:
            limit = QUEUE * places(engine) if engine.n_workers is None else engine.n_workers
            while more and len(pending) < limit:
                check_stopped()
                if (part := next(rest, _END)) is _END:
                    more = False
                else:
                    pending.add(task.remote(version("neuronscope"), [sent], function, part))
            done, _ = ray.wait(list(pending), timeout=_LOOK) if pending else ([], [])
            for reference in done:
                pending.remove(reference)
                yield _result(ray, reference, engine)
            check_stopped()
    finally:
        for _ in range(_CANCELLATIONS):  # one that meets a task on its way to a worker can be lost
            for reference in pending:
                ray.cancel(reference, force=True)
            _, unfinished = ray.wait(list(pending), num_returns=len(pending), timeout=_LOOK) if pending else ([], [])
            pending = set(unfinished)


def _do(its_version: str, sent: list[Any], function: Callable[[Any, Any], Any], part: Any) -> Any:
    """A task, in a worker."""
    ray = import_module("ray")
    if version("neuronscope") != its_version:
        raise ConfigurationError(
            f"A machine of the Ray cluster has neuronscope {version('neuronscope')}; the one that asks has "
            f"{its_version}. Install the same version on all."
        )
    if _Opened.by != (by := sent[0].hex()):  # the reference is in a list, so that it is fetched only now
        _Opened.by, _Opened.what = "", None
        claimed = ray.get_runtime_context().get_assigned_resources()
        _Opened.what = ray.get(sent[0])("auto" if claimed.get("GPU") else "cpu")
        _Opened.by = by
    return function(_Opened.what, part)


class _Opened:
    """What the last task of this process has opened."""

    by = ""
    what: Any = None


def _result(ray: Any, reference: Any, engine: RayEngine) -> Any:
    lost = (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.ObjectLostError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.NodeDiedError,
    )
    try:
        return ray.get(reference)
    except lost as error:
        raise ConfigurationError(
            f"{engine.max_retries + 1} Ray workers were lost over the same shard; the last: "
            f"{' '.join(str(error).split())} If they ran out of memory, let each claim more, RayEngine(num_cpus=...), "
            "or have fewer, RayEngine(n_workers=...)."
        ) from error
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


def places(engine: RayEngine) -> int:
    """How many tasks the cluster, as it is now, has room for at a time.

    Raises:
        ConfigurationError: Ray is not installed or cannot be reached.
    """
    claimed = claim(engine)
    room = sum(_room(node["Resources"], claimed) for node in _nodes(engine))
    return room if engine.n_workers is None else min(room, engine.n_workers)


def claim(engine: RayEngine) -> dict[str, float]:
    """What each task claims, in Ray's words.

    Raises:
        ConfigurationError: Ray is not installed or cannot be reached.
    """
    gpus = engine.num_gpus
    if gpus is None:
        gpus = float(any(node["Resources"].get("GPU", 0) >= 1 for node in _nodes(engine)))
    return {"num_gpus": gpus, "num_cpus": engine.num_cpus}


def _nodes(engine: RayEngine) -> list[dict[str, Any]]:
    return [node for node in _connected(engine.address).nodes() if node["Alive"]]


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


def _room(resources: dict[str, float], claim: dict[str, float]) -> int:
    """How many tasks fit on a machine."""
    fit = []
    if cpus := claim["num_cpus"]:
        fit.append(int(resources.get("CPU", 0) / cpus + 1e-6))
    if gpus := claim["num_gpus"]:
        have = resources.get("GPU", 0)
        fit.append(int(have) * int(1 / gpus + 1e-6) if gpus < 1 else int(have / gpus))
    return min(fit)


def _words(claim: dict[str, float]) -> str:
    return " and ".join(f"{amount:g} {name.removeprefix('num_')[:-1].upper()}(s)" for name, amount in claim.items())
