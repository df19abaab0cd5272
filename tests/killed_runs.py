"""Explains neurons in child processes and kills them with SIGKILL at random times; run by `test_runs.py`.

Usage: killed_runs.py ADDRESS FOLDER NEURONS KILLS [SHARD]. Prints JSON. Children are forked from a process that
has imported everything, so that the time they live is spent on the run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

import aiosqlite  # noqa: F401 - imported before the fork, as are the others
import langgraph.checkpoint.sqlite.aio  # noqa: F401

import neuronscope as ns
import neuronscope.runs.runner
from many import arguments


def child(address: str, folder: Path, n: int, shard: str | None) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        neurons = [ns.Neuron(0, index) for index in range(n)]
        results = list(ns.explain_neurons(neurons, **arguments(address), parallel=3, out=folder, shard=shard))
        code = 0 if len(results) == (n if shard is None else n // 2) else 2
    finally:
        os._exit(code)


def steps_kept(folder: Path) -> int:
    file = folder / "checkpoints.sqlite"
    if not file.exists():
        return 0
    try:
        with sqlite3.connect(file) as database:
            return int(database.execute("SELECT count(*) FROM checkpoints").fetchone()[0])
    except sqlite3.OperationalError:  # killed before the tables were made
        return 0


def ends_before(process: int, folder: Path, steps: int) -> int | None:
    """Wait until the child has taken so many steps more, and return None; or its status, if it ends before."""
    wanted = steps_kept(folder) + steps
    while steps_kept(folder) < wanted:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.01)
    return None


def main(address: str, folder: Path, n: int, kills: int, shard: str | None = None) -> dict[str, int]:
    generator, done, resumed = random.Random(), 0, 0
    own = folder if shard is None else folder / "shards" / shard.replace("/", "-of-")
    while True:
        resumed += steps_kept(own) > 0
        process = child(address, folder, n, shard)
        status = None
        if done < kills:
            status = ends_before(process, own, generator.randint(1, 20))
            time.sleep(generator.uniform(0.0, 0.05))
            if status is None:
                os.kill(process, signal.SIGKILL)
        if status is None:
            _, status = os.waitpid(process, 0)
        if not os.WIFSIGNALED(status):
            return {"kills": done, "resumed": resumed, "code": os.WEXITSTATUS(status)}
        done += 1


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])))
