"""Whose an exception is that nobody thought of: a plugin's, Lightning's, the machine's; or the program's own."""

from __future__ import annotations

import inspect
import re
import sys
import traceback
from collections.abc import Iterator
from importlib import import_module
from itertools import takewhile
from pathlib import Path

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from rsca_torch.cli.messages import traceback_file
from rsca_torch.errors import InputError

__all__ = ["memory_ran_out", "not_ours"]

PACKAGE = Path(__file__).parents[1]
#: What no user wrote: an exception that passes through it is of whoever called it.
LIBRARIES = {"rsca_torch", "lightning", "torch", "hydra", "numpy", "builtins"}
FRAME = re.compile(r'^ *File "(.+)", line \d+, in (.+)$', re.MULTILINE)
CALLED = re.compile(r"([\w.]+)\(\) (?:got|missing|takes) ")  # of the TypeError where arguments do not fit
#: What is said of memory that was not to be had, by torch, the system, the loader of libraries and threads.
NO_MEMORY = (
    *("not enough memory", "can't allocate memory", "cannot allocate memory", "bad_alloc", "out of memory"),
    *("failed to map segment", "can't start new thread"),
)
ALMOST = 0.9  # of the addresses that a process may have: an error that nobody thought of is of want of them


def not_ours(error: Exception, config: DictConfig) -> InputError | None:
    """What to tell the user where the exception is no bug of the program; None where it is one.

    It is a plugin's where, of the program's lines and those of the classes and functions that the options name
    (`_target_`), the last to run before it was raised is theirs.

    Args:
        error: that ended a command.
        config: of the command.
    """
    if isinstance(error, InstantiationException) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # of the constructor
    if (ran_out := memory_ran_out(error)) is not None:
        return ran_out
    named = list(_named(OmegaConf.to_container(config)))
    called = CALLED.match(str(error)) if isinstance(error, TypeError) else None
    for option, target in named:
        if called and called[1].partition(".")[0] in _names(target):
            return InputError(f"{option} {target} cannot be called as it is: {error}")
    since_ours = list(takewhile(lambda frame: PACKAGE not in Path(frame[0]).parents, reversed(_frames(error))))
    theirs = [(named_by, function) for file, function in since_ours if (named_by := _from(named, file))]
    if theirs:
        named_by, function = theirs[-1]  # the one that the program called
        option, target = next((each for each in named_by if function in _names(each[1])), named_by[0])
        where = "" if function == "<module>" else f" in {function}"
        return InputError(f"{option} {target} failed{where}: {_told(error)}; traceback: {traceback_file(error)}")
    made = any(function == "__init__" and "lightning" in Path(file).parts for file, function in since_ours)
    if made or type(error).__name__ == "MisconfigurationException":  # Lightning takes seconds to import
        return InputError(f"Lightning refuses what trainer or logger is given: {' '.join(str(error).split())}")
    return None


def memory_ran_out(error: BaseException | None) -> InputError | None:
    """What to tell the user where an exception, or what it comes of, says that there is no memory; None where not."""
    while error is not None:
        said = str(error).lower()
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(each in said for each in NO_MEMORY):
            break
        if not isinstance(error, InputError | OSError) and _addresses_used() > ALMOST:
            break
        error = error.__cause__
    if error is None:
        return None
    cure = "take fewer processes, components or stars, a larger machine, or a higher limit (ulimit -v)"
    return InputError(f"memory ran out ({_told(error)}): {cure}")


def _addresses_used() -> float:
    """The share of those that this process may have; 0 where there is no limit."""
    try:
        most = import_module("resource").getrlimit(import_module("resource").RLIMIT_AS)[0]
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmPeak"))
    except (ImportError, OSError, StopIteration):  # no such limit on this system
        return 0.0
    return 1024 * int(line.split()[1]) / most if most > 0 else 0.0


def _told(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _frames(error: Exception) -> list[tuple[str, str]]:
    """(File, function) of what ran when it was raised, the innermost last; in another process, if it was there."""
    elsewhere = type(error.__cause__).__name__ == "_RemoteTraceback"
    text = str(error.__cause__) if elsewhere else "".join(traceback.format_tb(error.__traceback__))
    return FRAME.findall(text)


def _named(node: object, above: str = "") -> Iterator[tuple[str, str]]:
    """(Option, `_target_`) of whatever the options name that is no library's."""
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in entries:
        if name == "_target_" and str(value).partition(".")[0] not in LIBRARIES:
            yield above, str(value)
        else:
            yield from _named(value, f"{above}.{name}" if above else str(name))


def _from(named: list[tuple[str, str]], file: str) -> list[tuple[str, str]]:
    """Those that a file, or the package that it lies in, has."""
    places = {target: sys.modules.get(target.partition(".")[0]) for _, target in named}
    return [
        (option, target)
        for option, target in named
        if file == getattr(places[target], "__file__", None)
        or any(Path(folder) in Path(file).parents for folder in getattr(places[target], "__path__", ()))
    ]


def _names(target: str) -> set[str]:
    """Of the function, or of the class, of those that it is from, and of all that they have."""
    found = get_object(target)
    classes = inspect.getmro(found) if inspect.isclass(found) else ()
    inside = {name for each in classes if each.__module__.partition(".")[0] not in LIBRARIES for name in vars(each)}
    return {getattr(found, "__name__", ""), *(each.__name__ for each in classes if each is not object), *inside}
