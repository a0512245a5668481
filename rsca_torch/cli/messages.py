"""What the user is told: lines on the terminal, and of an error what went wrong and what to do."""

from __future__ import annotations

import logging
import tempfile
import traceback
import warnings
from collections.abc import Sequence

from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.logging import RichHandler

from rsca_torch.cli.options import nearest_options
from rsca_torch.errors import InputError

__all__ = ["UNUSABLE", "log_to_terminal", "print_error", "this_is_a_bug", "what_went_wrong"]

log = logging.getLogger(__name__)

#: The errors that are the input's, not the program's.
UNUSABLE = (InputError, OSError, HydraException, OmegaConfBaseException)
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
        return f"{error.strerror or error}: {error.filename or 'a file'}; choose another place, or make room there"
    return str(error)


def this_is_a_bug(error: Exception) -> str:
    """One sentence that says so, and where the traceback is."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="rsca-traceback-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write("".join(traceback.format_exception(error)))
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return f"this is a bug of the program ({said}): please report it with the traceback in {file.name}"


def print_error(message: str) -> None:
    """Print why a command ended."""
    escaped = message.replace("[", r"\[")
    Console(stderr=True).print(f"[red]error:[/red] {escaped}", highlight=False, soft_wrap=True)


def log_to_terminal(start: str = "") -> None:
    """Plain lines for what the package logs and warns of.

    Args:
        start: of each line; says whose it is, where several processes write to one terminal.
    """
    console = Console(stderr=True)
    handler: logging.Handler = logging.StreamHandler()
    if console.is_terminal:  # a progress bar may be in the way
        handler = RichHandler(console=console, show_time=False, show_path=False, show_level=False)
    again = bool(start)  # a worker has had another job before
    logging.basicConfig(level=logging.WARNING, format=f"{start}%(message)s", handlers=[handler], force=again)
    logging.getLogger("rsca_torch").setLevel(logging.INFO)
    warnings.showwarning = lambda message, *_args, **_named: log.warning("warning: %s", message)
