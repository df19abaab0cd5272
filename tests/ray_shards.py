"""What workers do in `test_engine_ray.py`; imports little, so that they start soon."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from uuid import uuid4

from neuronscope.errors import SubjectError


def name_device(device: str) -> str:
    return f"on {device}"


def refuse(device: str) -> str:
    raise SubjectError("There is no such model.")


def die(device: str) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def echo(made: str, shard: int) -> tuple[str, int]:
    return made, shard


def echo_slowly(made: str, shard: int) -> int:
    if shard:
        time.sleep(60)
    return shard


def count_openings(folder: Path, device: str) -> str:
    (folder / uuid4().hex).touch()
    return f"on {device}"


def die_once(folder: Path, made: str, shard: int) -> int:
    """Kills the process in the first attempt at shard 3."""
    if shard == 3 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return shard


def die_always(made: str, shard: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return shard
