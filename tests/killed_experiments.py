"""The command line, killed with SIGKILL when a certain file is about to be written, or just was.

Usage: killed_experiments.py PART NUMBER before|after ARGUMENTS...: at the NUMBER-th file with PART in its path. The
moment does not depend on how fast the machine is.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from neuronscope.__main__ import main


def kill_at(part: str, number: int, when: str) -> None:
    move, seen = os.replace, 0

    def replace(source: Any, target: Any, **options: Any) -> None:
        nonlocal seen
        seen += part in str(target)
        last = seen == number and part in str(target)
        if last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        move(source, target, **options)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace  # type: ignore[assignment]


if __name__ == "__main__":
    kill_at(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    sys.argv = ["neuronscope", *sys.argv[4:]]
    main()
