"""`rsca COMMAND key=value ...`: finds the configuration, runs the command, says plainly what went wrong."""

from __future__ import annotations

import difflib
import logging
import math
import os
import re
import sys
import uuid
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.logging import RichHandler

from rsca_torch.cli import commands
from rsca_torch.comparison.sweep_jobs import job_folder, job_note, job_overrides, jobs_of
from rsca_torch.errors import InputError
from rsca_torch.learners.registry import CONFIG, register

__all__ = ["COMMANDS", "CONFIG", "main"]

log = logging.getLogger(__name__)

COMMANDS: dict[str, Callable[[DictConfig], float | None]] = {
    "compare": commands.compare,
    "simulate": commands.simulate,
    "ingest": commands.ingest,
    "fit": commands.fit,
    "embed": commands.embed,
    "report": commands.report,
    "reproduce": commands.reproduce,
    "learners": commands.learners,
}
BAD_INPUT, INTERRUPTED = 2, 130
MULTIRUN = ("-m", "--multirun")
SEVERAL_KINDS = {"compressor.n_components", "what"}  # a number, a list or auto: the command says what it expects


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 2 for input that cannot be used, or 130 when interrupted."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    command, *overrides = given or ["--help"]
    if command == "--version":
        print(f"rsca_torch {version('rsca_torch')}")
        return 0
    if command not in COMMANDS:
        return _usage(command)
    if command == "reproduce":
        overrides = _items_named(overrides)
    overrides = [re.sub("^censoring=", "censoring@survey.censoring=", override) for override in overrides]
    _log_to_terminal()
    try:
        _run(command, overrides)
    except (InputError, OSError, HydraException, OmegaConfBaseException) as error:
        return _refuse(_message(error, command, overrides))
    except KeyboardInterrupt:
        log.warning("interrupted; the same command goes on with what is there")
        return INTERRUPTED
    return 0


def _run(command: str, overrides: Sequence[str]) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here, not to a printed traceback
    register()
    failures: list[Exception] = []
    sweep = _sweep_folder(command, overrides) if any(flag in overrides for flag in MULTIRUN) else None
    launch, main_process = uuid.uuid4().hex, os.getpid()

    def run(config: DictConfig) -> float | None:
        _require_kinds(config, hydra.compose(command, _groups()))
        return COMMANDS[command](config)

    def task(config: DictConfig) -> float | None:
        if sweep is None:
            try:
                return run(config)
            except (
                InputError,
                OSError,
                HydraException,
                OmegaConfBaseException,
            ) as error:  # Hydra would print a line of its own
                failures.append(error)
                return None
        if os.getpid() != main_process:
            os.environ["TTY_COMPATIBLE"] = "0"  # progress of several jobs on one terminal would be a muddle
            _log_to_terminal(f"[{HydraConfig.get().job.num}] ")
        return _job(run, config, command, sweep, launch)

    named = sweep is None or any(override.startswith("out=") for override in overrides)
    sys.argv = [f"rsca {command}", *overrides, *([] if named else [f"out={sweep}"])]  # the same for all jobs
    hydra.main(version_base="1.3", config_path=str(CONFIG), config_name=command)(task)()
    if failures:
        raise failures[0]
    if sweep is not None:
        _require_all(sweep, launch)


def _items_named(overrides: Sequence[str]) -> list[str]:
    """`rsca reproduce figure2 table1`: a word without = is an item."""
    words = [override for override in overrides if "=" not in override and not override.startswith(("-", "~"))]
    rest = [override for override in overrides if override not in words]
    return [f"what=[{','.join(words)}]", *rest] if words else rest


def _groups() -> list[str]:
    """The groups that were exchanged, and where some are found: what the kinds of options depend on."""
    given = HydraConfig.get().overrides
    places = [override for override in given.hydra if override.startswith("hydra.searchpath=")]
    return [*places, *(override for override in given.task if _is_group(override.partition("=")[0]))]


def _is_group(key: str) -> bool:
    return (CONFIG / key.partition("@")[0]).is_dir()


def _sweep_folder(command: str, overrides: Sequence[str]) -> Path:
    """Where the jobs of a sweep make their folders: `out`, the same for all."""
    if command != "compare":
        raise InputError(f"rsca {command} takes one set of options at a time: sweeps (-m) are for rsca compare")
    own = [override for override in overrides if override.startswith(("hydra.sweep.dir=", "hydra.sweep.subdir="))]
    if own:
        raise InputError(f"{', '.join(own)}: out=DIR names the folder of a sweep")
    given = OverridesParser.create().parse_overrides([o for o in overrides if o.startswith("out=")])
    if given:
        out: Any = given[-1].value()
        one = isinstance(out, str) and out and "${" not in out and not given[-1].is_sweep_override()
        if not one:
            raise InputError(f"{given[-1].input_line}: out=DIR must name one folder, in which each job makes its own")
    else:
        with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
            out = hydra.compose(command).out
    if (Path(out) / "results.json").exists():
        raise InputError(f"{out} holds a single run: choose another folder for the sweep with out=DIR")
    return Path(out)


def _job(
    run: Callable[[DictConfig], float | None], config: DictConfig, command: str, sweep: Path, launch: str
) -> float | None:
    """One job of a sweep: input that cannot be used ends this job alone, and is told again at the end."""
    overrides = [override for override in job_overrides() or () if not override.startswith("out=")]
    folder = job_folder(sweep, overrides)
    job_note(folder, launch, overrides)
    log.info("job %s", " ".join(overrides) or "with the defaults")
    try:
        rate = run(config)
    except (InputError, OSError, HydraException, OmegaConfBaseException) as error:
        problem = _message(error, command, overrides)
        job_note(folder, launch, overrides, problem)
        log.error("this job failed: %s", problem)
        return math.inf  # the worst, for a sweeper that looks for the best
    job_note(folder, launch, overrides, None)
    return rate


def _require_all(sweep: Path, launch: str) -> None:
    jobs = jobs_of(sweep, launch)
    failed = [(overrides, problem) for overrides, problem in jobs if problem is not None]
    if failed:
        same = set.intersection(*(set(overrides) for overrides, _ in jobs)) if len(jobs) > 1 else set()
        lines = [f"{len(failed)} of {len(jobs)} jobs of the sweep in {sweep} failed"]
        for overrides, problem in failed:
            own = " ".join(override for override in overrides if override not in same)
            lines.append(f"{own or 'the job'}: {problem}")
        raise InputError("\n  ".join(lines))


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


def _message(error: Exception, command: str, overrides: Sequence[str]) -> str:
    """What went wrong, and what to do."""
    if isinstance(error, InstantiationException):
        return str(error.__cause__ if isinstance(error.__cause__, InputError) else error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        said = _first_lines(error)
        if "Could not find 'hydra/" in said:
            said += '\nlaunchers and sweepers are extras: pip install "rsca_torch[sweep]" or "rsca_torch[optuna]"'
        return f"{said}{_nearest(command, overrides)}\nrsca {command} --help lists every option"
    if isinstance(error, OSError):
        return f"{error.strerror or error}: {error.filename or 'a file'}; choose another place, or make room there"
    return str(error)


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
        if key.startswith(("-", "hydra")):
            continue
        if key not in options and not _is_group(key):
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


def _log_to_terminal(start: str = "") -> None:
    """Plain lines; `start` says whose they are, where several processes write to one terminal."""
    console = Console(stderr=True)
    handler: logging.Handler = logging.StreamHandler()
    if console.is_terminal:  # a progress bar may be in the way
        handler = RichHandler(console=console, show_time=False, show_path=False, show_level=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    if start:  # a worker has had another job before
        for each in logging.getLogger().handlers:
            each.setFormatter(logging.Formatter(f"{start}%(message)s"))
    logging.getLogger("rsca_torch").setLevel(logging.INFO)
    warnings.showwarning = lambda message, *_args, **_named: log.warning("warning: %s", message)


if __name__ == "__main__":
    sys.exit(main())
