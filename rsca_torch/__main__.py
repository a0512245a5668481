"""`python -m rsca_torch COMMAND` is `rsca COMMAND`."""

from __future__ import annotations

import math
import os
import signal
import sys
from importlib import import_module

__all__ = ["main"]

LEAST = 1e9  # bytes of addresses with which torch can be loaded


def main() -> int:
    """Run a command; who ends it while it is loaded, or has come to its end, is told so in one line too.

    Returns:
        Its exit code.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    most = _memory()
    if most < LEAST:  # OpenBLAS would end the process by itself
        return _too_little(most)
    try:
        command = import_module("rsca_torch.cli.main")
    except Exception:  # whatever a library makes of memory that it did not get
        if most == math.inf:
            raise
        return _too_little(most)
    code: int = command.main()
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        os._exit(code)  # no longer waiting for processes that are idle, and end with this one
    return code


def _end(number: int, _: object) -> None:
    """There is nothing to tidy up."""
    os.write(2, b"interrupted\n" if number == signal.SIGINT else b"terminated\n")
    os._exit(128 + number)


def _memory() -> float:
    """Bytes of addresses that the process may have."""
    try:
        resource = import_module("resource")
    except ImportError:  # not a system with such limits
        return math.inf
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if most == resource.RLIM_INFINITY else float(most)


def _too_little(most: float) -> int:
    sys.stderr.write(
        f"error: {most / 1e9:.1f} GB of memory (ulimit -v) are too little to load the program: let it have 4 GB of "
        "addresses\n"
    )
    return 2


if __name__ == "__main__":
    sys.exit(main())
