"""What the user is told: lines on the terminal, and of an error what went wrong and what to do."""

from __future__ import annotations

import errno
import logging
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from typing import TextIO

from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from rsca_torch.cli.options import nearest_options
from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import printable

__all__ = [
    "UNUSABLE",
    "interrupted",
    "log_to_terminal",
    "print_error",
    "this_is_a_bug",
    "traceback_file",
    "what_went_wrong",
]

log = logging.getLogger(__name__)

#: The errors that are the input's, not the program's.
UNUSABLE = (InputError, OSError, HydraException, OmegaConfBaseException)
#: What a command that was interrupted finds when it is given again.
KEPT = {
    **dict.fromkeys(("compare", "fit"), "goes on from the fits and folds that are finished in checkpoints=DIR"),
    "evaluate": "judges anew, with the folds of trained learners that are finished in checkpoints=DIR",
    "download": "goes on from the files that are there, and in the middle of those that had begun",
    "ingest": "goes on from the spectra that are read",
    "reproduce": "goes on from the items that are finished in out=DIR and the fits in checkpoints=DIR",
}
#: What helps where the system refuses; else another place or more room.
CURES = {
    errno.ENOENT: "check the name: relative ones start in the folder that you stand in",
    errno.EACCES: "choose a place where you may read and write, or ask its owner",
    errno.EPERM: "choose a place where you may read and write, or ask its owner",
    errno.EMFILE: "let more files be open at once (ulimit -n 4096), or take fewer processes",
    errno.ENFILE: "let more files be open at once (ulimit -n 4096), or take fewer processes",
    errno.ENOMEM: "memory ran out: take fewer processes, components or stars, or a larger machine",
    errno.EROFS: "that disk can be read only: choose another place",
    **dict.fromkeys(
        (errno.EIO, errno.ESTALE, errno.ENOTCONN),
        "the disk or the file server fails: see to it, and give the same command again",
    ),
    errno.ENAMETOOLONG: "choose a shorter name",
}
#: How lines begin that tell programmers something about a configuration error, but no user.
TECHNICAL = ("full_key", "object_type", "To append", "Config search", "provider")


def what_went_wrong(error: Exception, command: str, overrides: Sequence[str]) -> str:
    """What went wrong, and what to do.

    Args:
        error: one of `UNUSABLE`.
        command: that was asked for.
        overrides: its options.
    """
    if isinstance(error, InstantiationException):
        return str(error.__cause__ if isinstance(error.__cause__, InputError) else error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        lines = [line for line in str(error).splitlines() if line and not line.lstrip().startswith(TECHNICAL)]
        said = "\n".join(lines).rstrip(".")
        if "Could not find 'hydra/" in said:
            said += '\nlaunchers and sweepers are extras: pip install "rsca_torch[sweep]" or "rsca_torch[optuna]"'
        hints = [f"; did you mean {option}?" for option in nearest_options(command, overrides)]
        return f"{said}{''.join(hints)}\nrsca {command} --help lists every option"
    if isinstance(error, OSError):
        return _of_the_system(error)
    return str(error)


def _of_the_system(error: OSError) -> str:
    cure = CURES.get(error.errno or 0, "choose another place, or make room there")
    return f"{error.strerror or error}: {error.filename or 'a file'}; {cure}"


def this_is_a_bug(error: Exception) -> str:
    """One sentence that says so, and where the traceback is."""
    said = f"{type(error).__name__}: {error}".strip().splitlines()
    short = said[0] if len(said) == 1 else f"{said[0]} ... {said[-1]}"  # of another process, all its traceback
    return f"this is a bug of the program ({short}): please report it with the traceback in {traceback_file(error)}"


def traceback_file(error: Exception) -> str:
    """Where the traceback was written; where there is no room for a file, that it was not."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="rsca-traceback-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError as no_room:
        return f"no file ({no_room.strerror or no_room}; TMPDIR=DIR names another place)"
    return file.name


def interrupted(word: str, command: str = "", *overrides: str) -> str:
    """What Ctrl-C leaves, and how to go on.

    Args:
        word: interrupted, or terminated.
        command: that was given.
        overrides: its options.
    """
    kept = KEPT.get(command, "")
    if command == "compare" and {"-m", "--multirun"} & {*overrides}:
        kept = f"skips finished jobs and {kept}; give it out=DIR of this sweep where it had none"
    return f"{word}; nothing half done is left; the same command {kept or 'begins again'}"


def print_error(message: str) -> None:
    """Print why a command ended."""
    said = Text.assemble(("error:", "red"), " ", "\n".join(map(printable, message.split("\n"))))
    Console(stderr=True).print(said, highlight=False, soft_wrap=True)


class _ToStderr(logging.StreamHandler[TextIO]):
    """To what stderr is when something is said, which somebody who calls `main` twice may have exchanged."""

    def emit(self, record: logging.LogRecord) -> None:
        """As StreamHandler, which keeps the stream that there was at first."""
        self.stream = sys.stderr
        super().emit(record)


def _shown_plainly(record: logging.LogRecord) -> bool:
    """Names of stars, clusters and files may hold what moves the cursor: the terminal is told its code."""
    record.msg, record.args = "\n".join(map(printable, record.getMessage().split("\n"))), None
    return True


def log_to_terminal(start: str = "") -> None:
    """Plain lines for what the package logs and warns of.

    Args:
        start: of each line; says whose it is, where several processes write to one terminal.
    """
    console = Console(stderr=True)
    handler: logging.Handler = _ToStderr()
    if console.is_terminal:  # a progress bar may be in the way
        handler = RichHandler(console=console, show_time=False, show_path=False, show_level=False)
    again = bool(start)  # a worker has had another job before
    handler.addFilter(_shown_plainly)
    logging.basicConfig(level=logging.WARNING, format=f"{start}%(message)s", handlers=[handler], force=again)
    logging.getLogger("rsca_torch").setLevel(logging.INFO)
    warnings.showwarning = lambda message, *_args, **_named: log.warning("warning: %s", message)
