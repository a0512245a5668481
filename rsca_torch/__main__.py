"""`python -m rsca_torch COMMAND` is `rsca COMMAND`."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module

__all__ = ["main"]


def main() -> int:
    """Run a command; who ends it while it is loaded, or has come to its end, is told so in one line too.

    Returns:
        Its exit code.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    try:
        command = import_module("rsca_torch.cli.main")
    except Exception as error:  # whatever a library makes of memory that it did not get
        most = _memory()
        if most is None:
            raise
        sys.stderr.write(
            f"error: {most} of memory (ulimit -v) are too little to load the program: let it have 4 GB of addresses "
            f"or more ({type(error).__name__}: {' '.join(str(error).split())})\n"
        )
        return 2
    code: int = command.main()
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        os._exit(code)  # no longer waiting for processes that are idle, and end with this one
    return code


def _end(number: int, _: object) -> None:
    """There is nothing to tidy up."""
    os.write(2, b"interrupted\n" if number == signal.SIGINT else b"terminated\n")
    os._exit(128 + number)


def _memory() -> str | None:
    """How much the process may have, where that is limited."""
    try:
        resource = import_module("resource")
    except ImportError:  # not a system with such limits
        return None
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if most == resource.RLIM_INFINITY else f"{most / 1e9:.1f} GB"


if __name__ == "__main__":
    sys.exit(main())
