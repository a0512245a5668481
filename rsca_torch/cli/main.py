"""`rsca COMMAND key=value ...`: finds the command, composes its options, runs it, says plainly what went wrong."""

from __future__ import annotations

import ast
import importlib
import logging
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from rsca_torch import cli
from rsca_torch.cli.at_fault import memory_ran_out, not_ours
from rsca_torch.cli.exit_codes import RemarksError
from rsca_torch.cli.help import asks_for_help, columns, help_of
from rsca_torch.cli.messages import UNUSABLE, interrupted, log_to_terminal, print_error, this_is_a_bug, what_went_wrong
from rsca_torch.cli.null_options import require_values
from rsca_torch.cli.options import exchanged_groups, flags_last, hydra_overrides, require_kinds
from rsca_torch.cli.paths import quoted_paths, rooted_paths
from rsca_torch.cli.replaced import tell_replaced
from rsca_torch.cli.signals import Told, heard_of
from rsca_torch.cli.sweep import JobsFailed, Sweep
from rsca_torch.cli.trusted import require_trusted_options, require_trusted_places
from rsca_torch.cli.unknown_options import require_groups, require_known, require_names
from rsca_torch.errors import InputError
from rsca_torch.learners.registry import CONFIG, register

__all__ = ["COMMANDS", "CONFIG", "main"]

log = logging.getLogger(__name__)

#: In the help; others come after these.
ORDER = (
    "compare simulate download doctor ingest why fit siblings explain embed evaluate export report reproduce learners "
    "cite"
).split()
#: The commands: every module of this folder for which there is conf/NAME.yaml; its `run(config)` is the command.
COMMANDS = sorted(
    (module.name for module in pkgutil.iter_modules(cli.__path__) if (CONFIG / f"{module.name}.yaml").is_file()),
    key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name),
)
BUG, BAD_INPUT, UNHEARD = 1, 2, 141
REMARKS = 1  # of a command that examines or fetches: what matters is told


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit code: 0, 1 for an error of the program or for what `rsca download` and `rsca doctor` found, 2 for input
        that cannot be used, 130 and 143 when told to end by SIGINT and SIGTERM, 141 where whoever read the output has
        gone.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    with heard_of() as told:
        try:
            try:
                return _ended(told, *(given or ["--help"]))
            finally:
                sys.stdout.flush()  # or Python does, when nobody catches what comes of it
        except KeyboardInterrupt:
            log.warning(interrupted(told.word, *given))
            return told.code
        except SystemExit as end:
            if isinstance(end.__context__, BrokenPipeError):  # which rich makes one of
                return UNHEARD
            raise  # of Hydra's help
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would say it once more at its end
            return UNHEARD


def _ended(told: Told, command: str, *options: str) -> int:
    """The exit code of a command, which is run."""
    if command == "--version":
        print(f"rsca_torch {version('rsca_torch')}")
        return 0
    if command not in COMMANDS:
        return _usage(command)
    log_to_terminal()
    overrides: Sequence[str] = options
    try:
        if any("\0" in each for each in options):
            raise InputError("an option holds NUL, which no name of a file or a star has")
        if nameless := [each for each in options if "=" in each and each.lstrip("+~")[:1] in ("=", "@")]:
            raise InputError(f"{nameless[0]}: an option needs a name before its =")
        overrides = quoted_paths(hydra_overrides(command, options), bool({"-m", "--multirun"} & {*options}))
        require_trusted_places(overrides)
        if asks_for_help(options):
            register()
            print(help_of(command, overrides, columns()), flush=True)
            return 0
        with _nothing_else(told):
            _compose_and_run(command, overrides)
    except BrokenPipeError:
        raise
    except RemarksError:
        return REMARKS
    except UNUSABLE as error:
        print_error(what_went_wrong(error, command, overrides))
        return BUG if isinstance(error, JobsFailed) and error.bug else BAD_INPUT
    except Exception as error:  # whatever nobody thought of
        known = memory_ran_out(error) or _worker_ended(error)
        print_error(this_is_a_bug(error) if known is None else str(known))
        return BUG if known is None else BAD_INPUT
    return 0


@contextmanager
def _nothing_else(told: Told) -> Iterator[None]:
    """What a library makes of an interruption, as an error while it tidies up, is one still."""
    try:
        yield
    except Exception as error:
        if told.came:
            raise KeyboardInterrupt from error
        raise


def _worker_ended(error: Exception) -> InputError | None:
    """Of a launcher that has processes of its own, one was killed."""
    if not isinstance(error, BrokenProcessPool):
        return None
    return InputError(
        "a process of hydra/launcher was ended from outside, usually for lack of memory: give fewer "
        "(hydra.launcher.n_jobs); the same command skips the jobs that are finished"
    )


def _compose_and_run(command: str, overrides: Sequence[str]) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here, not to a printed traceback
    register()
    require_names(command, overrides)
    sweep = Sweep.asked_for(command, overrides)
    failures: list[Exception] = []

    def run(config: DictConfig) -> float | None:
        require_trusted_options(config)
        rooted_paths(config)
        require_groups(command, config, hydra.compose(command))
        typed = HydraConfig.get().overrides.task
        require_known(command, typed, config, hydra.compose(command, exchanged_groups(added=False)))
        usual = hydra.compose(command, exchanged_groups())
        require_kinds(config, usual)
        tell_replaced(typed, config, usual)
        require_values(config, usual)
        try:
            return _function(command)(config)
        except (InputError, BrokenPipeError, RemarksError) as error:
            if (told := memory_ran_out(error.__cause__)) is not None:  # and not that a file is damaged
                raise told from error
            raise
        except Exception as error:
            told = not_ours(error, config)
            if told is None:
                raise
            raise told from error

    def task(config: DictConfig) -> float | None:
        if sweep is not None:
            return sweep.job(run, config)
        try:
            return run(config)
        except Exception as error:  # Hydra would print a line of its own
            failures.append(error)
            return None

    sys.argv = [f"rsca {command}", *flags_last([*overrides, *(sweep.out if sweep is not None else ())])]
    hydra.main(version_base="1.3", config_path=str(CONFIG), config_name=command)(task)()
    if failures:
        raise failures[0]
    if sweep is not None:
        sweep.write_page()
        sweep.require_all()


def _function(command: str) -> Callable[[DictConfig], float | None]:
    run: Callable[[DictConfig], float | None] = importlib.import_module(f"{cli.__name__}.{command}").run
    return run


def _summary(command: str) -> str:
    """The first line of what its function says, also where Python leaves docstrings out (-OO)."""
    source = Path(cli.__path__[0], f"{command}.py").read_text(encoding="utf-8")
    run = next(each for each in ast.parse(source).body if getattr(each, "name", "") == "run")
    return str(ast.get_docstring(run)).splitlines()[0]  # type: ignore[arg-type]


def _usage(command: str) -> int:
    asked = command in ("--help", "-h", "help")
    lines = ["rsca COMMAND key=value ...    how alike stars are, learned from open clusters", ""]
    lines += [f"  {name:9} {_summary(name)}" for name in COMMANDS]
    lines += ["", "rsca COMMAND --help lists the options of a command; rsca --version says which version this is."]
    if not asked:
        lines.insert(0, f"there is no command {command!r}\n")
    Console(stderr=not asked).print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
    return 0 if asked else BAD_INPUT
