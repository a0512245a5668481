"""`rsca COMMAND key=value ...`: finds the configuration, runs the command, says plainly what went wrong."""

from __future__ import annotations

import difflib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.logging import RichHandler

from rsca_torch import commands
from rsca_torch.errors import InputError

__all__ = ["COMMANDS", "CONFIG", "main"]

log = logging.getLogger(__name__)

COMMANDS = {
    "compare": commands.compare,
    "simulate": commands.simulate,
    "ingest": commands.ingest,
    "fit": commands.fit,
    "embed": commands.embed,
}
#: Inside an installed package conf/ lies in it, in a checkout beside it.
CONFIG = next(p for p in (Path(__file__).parent / "conf", Path(__file__).parent.parent / "conf") if p.is_dir())
BAD_INPUT, INTERRUPTED = 2, 130
SEVERAL_KINDS = {"compressor.n_components"}  # a number, a list or auto: the command says what it expects


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 2 for input that cannot be used, or 130 when interrupted."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    command, *overrides = given or ["--help"]
    if command == "--version":
        print(f"rsca_torch {version('rsca_torch')}")
        return 0
    if command not in COMMANDS:
        return _usage(command)
    _log_to_terminal()
    try:
        _run(command, overrides)
    except InputError as error:
        return _refuse(str(error))
    except InstantiationException as error:
        return _refuse(str(error.__cause__ if isinstance(error.__cause__, InputError) else error))
    except (HydraException, OmegaConfBaseException) as error:
        return _refuse(f"{_first_lines(error)}{_nearest(command, overrides)}\nrsca {command} --help lists every option")
    except OSError as error:
        return _refuse(
            f"{error.strerror or error}: {error.filename or 'a file'}; choose another place, or make room there"
        )
    except KeyboardInterrupt:
        log.warning("interrupted; the same command goes on with what is there")
        return INTERRUPTED
    return 0


def _run(command: str, overrides: Sequence[str]) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here, not to a printed traceback
    failures: list[Exception] = []

    def task(config: DictConfig) -> None:
        try:
            groups = [override for override in overrides if (CONFIG / override.partition("=")[0]).is_dir()]
            _require_kinds(config, hydra.compose(command, groups))
            COMMANDS[command](config)
        except (
            InputError,
            OSError,
            HydraException,
            OmegaConfBaseException,
        ) as error:  # Hydra would print a line of its own
            failures.append(error)

    sys.argv = [f"rsca {command}", *overrides]
    hydra.main(version_base="1.3", config_path=str(CONFIG), config_name=command)(task)()
    if failures:
        raise failures[0]


def _require_kinds(config: DictConfig, default: DictConfig, above: str = "") -> None:
    """Refuse an option of another kind than its default: a text for a number, say."""
    for name in config.keys() & default.keys():
        key = f"{above}{name!s}"
        if key in SEVERAL_KINDS or OmegaConf.is_missing(config, name) or OmegaConf.is_missing(default, name):
            continue
        value: Any = config[name]
        usual: Any = default[name]
        if isinstance(value, DictConfig) and isinstance(usual, DictConfig):
            _require_kinds(value, usual, f"{key}.")
        elif value is not None and usual is not None:
            allowed = (int, float) if type(usual) is float else type(usual)
            if not isinstance(value, allowed) or (isinstance(value, bool) and type(usual) is not bool):
                raise InputError(f"{key}={value} is {_kind(value)}, expected {_kind(usual)} like {usual}")


def _kind(value: Any) -> str:  # noqa: ANN401  (whatever a configuration holds)
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return kinds.get(type(value), "a list" if OmegaConf.is_list(value) else "a group of options")


def _first_lines(error: Exception) -> str:
    """What a configuration error says, without what it says to programmers."""
    lines = str(error).splitlines()
    kept = [
        line
        for line in lines
        if line and not line.lstrip().startswith(("full_key", "object_type", "To append", "Config search", "provider"))
    ]
    return "\n".join(kept).rstrip(".")


def _nearest(command: str, overrides: Sequence[str]) -> str:
    """The options closest to those that the command does not have."""
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        options = _keys(OmegaConf.to_container(hydra.compose(command)))
    names = {option.rpartition(".")[2]: option for option in options}
    hints = []
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key not in options and not (CONFIG / key).is_dir():
            close = difflib.get_close_matches(key, options, 1) or [
                names[n] for n in difflib.get_close_matches(key, names, 1)
            ]
            hints += [f"; did you mean {option}?" for option in close]
    return "".join(hints)


def _keys(config: Any, above: str = "") -> list[str]:  # noqa: ANN401  (a nested container)
    if not isinstance(config, dict):
        return [above]
    nested = [_keys(value, f"{above}.{name}" if above else str(name)) for name, value in config.items()]
    return ([above] if above else []) + [key for keys in nested for key in keys]


def _usage(command: str) -> int:
    asked = command in ("--help", "-h", "help")
    lines = ["rsca COMMAND key=value ...    how alike stars are, learned from open clusters", ""]
    lines += [f"  {name:9} {run.__doc__}" for name, run in COMMANDS.items()]
    lines += ["", "rsca COMMAND --help lists the options of a command; rsca --version says which version this is."]
    if not asked:
        lines.insert(0, f"there is no command {command!r}\n")
    Console(stderr=not asked).print("\n".join(lines), highlight=False, markup=False)
    return 0 if asked else BAD_INPUT


def _refuse(message: str) -> int:
    Console(stderr=True).print(f"[red]error:[/red] {_escaped(message)}", highlight=False, soft_wrap=True)
    return BAD_INPUT


def _escaped(message: str) -> str:
    return message.replace("[", r"\[")


def _log_to_terminal() -> None:
    console = Console(stderr=True)
    handler: logging.Handler = logging.StreamHandler()
    if console.is_terminal:  # a progress bar may be in the way
        handler = RichHandler(console=console, show_time=False, show_path=False, show_level=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("rsca_torch").setLevel(logging.INFO)
    warnings.showwarning = lambda message, *_args, **_named: log.warning("warning: %s", message)


if __name__ == "__main__":
    sys.exit(main())
