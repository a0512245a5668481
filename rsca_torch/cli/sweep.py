"""`rsca compare -m`, `rsca evaluate -m`: the jobs of a sweep, each in a folder of its own, and which of them failed."""

from __future__ import annotations

import logging
import math
import os
import shlex
import time
import uuid
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from rsca_torch.cli.messages import UNUSABLE, log_to_terminal, this_is_a_bug, what_went_wrong
from rsca_torch.cli.options import default_options
from rsca_torch.comparison.sweep_jobs import job_folder, job_note, job_overrides, jobs_of
from rsca_torch.errors import InputError

__all__ = ["Forget", "JobsFailed", "Sweep"]

log = logging.getLogger(__name__)

COMMANDS = ("compare", "evaluate")  # those that have sweeps


class Forget(Callback):
    """Hydra's sweepers keep what every job returned to their end, with two configurations that nobody asks for."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:  # noqa: ARG002  (Hydra's)
        """Half a megabyte a job."""
        job_return.cfg = job_return.hydra_cfg = None


class JobsFailed(InputError):  # noqa: N818  (what it says)
    """Some jobs of a sweep did.

    Attributes:
        bug: whether one of them ended by a bug of the program.
    """

    def __init__(self, message: str, bug: bool) -> None:
        super().__init__(message)
        self.bug = bug


class Sweep:
    """One start of a sweep.

    Attributes:
        folder: in which the jobs make theirs.
        out: the option that names it, where it was not given: it has to be the same for all jobs.
    """

    def __init__(self, command: str, folder: Path, out: Sequence[str], given: Sequence[str]) -> None:
        self._command, self.folder, self.out = command, folder, out
        self._place = folder.absolute()  # also where jobs go to another folder
        self._launch, self._process = uuid.uuid4().hex, os.getpid()
        self._asked, self._started = shlex.join(["rsca", command, *given]), time.time()
        self._page = _is_on("page", given) and _is_on("figures", given)

    @classmethod
    def asked_for(cls, command: str, overrides: Sequence[str]) -> Sweep | None:
        """The sweep that the options ask for; None where they ask for a single run.

        Raises:
            InputError: where the command has no sweeps, or `out` does not name one folder that may hold one.
        """
        if not {"-m", "--multirun"} & set(overrides):
            return None
        if command not in COMMANDS:
            those = " and ".join(f"rsca {each}" for each in COMMANDS)
            raise InputError(f"rsca {command} takes one set of options at a time: sweeps (-m) are for {those}")
        if shows := {"--cfg", "-c", "--info", "-i"} & set(overrides):
            raise InputError(f"{', '.join(shows)} shows one job, not a sweep: leave out -m, and what varies")
        own = [override for override in overrides if override.startswith(("hydra.sweep.dir=", "hydra.sweep.subdir="))]
        if own:
            raise InputError(f"{', '.join(own)}: out=DIR names the folder of a sweep")
        given = [override for override in overrides if override.startswith("out=")]
        out = _out(given) if given else str(default_options(command).out)
        if (Path(out) / "results.json").exists():
            raise InputError(f"{out} holds a single run: choose another folder for the sweep with out=DIR")
        if any(override.startswith("hydra/launcher=joblib") for override in overrides):
            import_module("rsca_torch.parallel.workers").for_launchers()
        return cls(command, Path(out), [] if given else [f"out={out}"], overrides)

    def job(self, run: Callable[[DictConfig], float | None], config: DictConfig) -> float | None:
        """One job: input that cannot be used, or a bug, ends this job alone, and is told again at the end.

        Args:
            run: the command.
            config: of this job.

        Returns:
            What the command returns; infinity, the worst rate, where it failed.
        """
        if os.getpid() != self._process:
            os.environ["TTY_COMPATIBLE"] = "0"  # progress of several jobs on one terminal would be a muddle
            log_to_terminal(f"[{HydraConfig.get().job.num}] ")
        overrides = [override for override in job_overrides() or () if not override.startswith("out=")]
        folder = job_folder(self._place, overrides)
        job_note(folder, self._launch, overrides)
        log.info("job %s", " ".join(overrides) or "with the defaults")
        try:
            rate = run(config)
        except BrokenPipeError:
            raise
        except Exception as error:
            if _was_interrupted(error):
                raise KeyboardInterrupt from error
            bug = not isinstance(error, UNUSABLE)
            problem = this_is_a_bug(error) if bug else what_went_wrong(error, self._command, overrides)
            job_note(folder, self._launch, overrides, problem, bug)
            log.error("this job failed: %s", problem)
            return math.inf
        job_note(folder, self._launch, overrides, None)
        return rate

    def write_page(self) -> None:
        """report.html of all jobs, those that failed too; not where an option says that there be no page."""
        if self._page:
            import_module("rsca_torch.report.page.page").page_of_sweep(self._place, self._asked, self._started)

    def require_all(self) -> None:
        """Raises JobsFailed where one did, with what its options have of their own."""
        jobs = jobs_of(self._place, self._launch)
        failed = [job for job in jobs if job.problem is not None]
        if not failed:
            return
        same = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
        lines = [f"{len(failed)} of {len(jobs)} jobs of the sweep in {self.folder} failed"]
        for job in failed:
            own = " ".join(override for override in job.overrides if override not in same)
            lines.append(f"{own or 'the job'}: {job.problem}")
        raise JobsFailed("\n  ".join(lines), any(job.bug for job in failed))


def _is_on(option: str, overrides: Sequence[str]) -> bool:
    """Whether an option that is on by default was left on, of some jobs at least."""
    given = [each for each in overrides if each.lstrip("+").startswith(f"{option}=")]
    return not given or OverridesParser.create().parse_overrides(given)[-1].value() is not False


def _out(overrides: Sequence[str]) -> str:
    """The folder that `out=` names."""
    given = OverridesParser.create().parse_overrides(list(overrides))[-1]
    out: Any = given.value()
    if not isinstance(out, str) or not out or "${" in out or given.is_sweep_override():
        raise InputError(f"{given.input_line}: out=DIR must name one folder, in which each job makes its own")
    return out


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an error came while an interruption was on its way."""
    return error is not None and (isinstance(error, KeyboardInterrupt) or _was_interrupted(error.__context__))
