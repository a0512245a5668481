"""The jobs of a sweep: a folder for each, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from rsca_torch.files.checked import read_json
from rsca_torch.files.whole import file_name, updated_folder, write_json

__all__ = ["NOTE", "Job", "job_folder", "job_note", "job_overrides", "jobs_of", "read_note"]

NOTE = "job.json"
UNFINISHED = "did not come to its end"


class Job(NamedTuple):
    """What became of a job.

    Attributes:
        overrides: its options.
        problem: why there is no result; None: there is one.
        bug: whether that is a bug of the program.
    """

    overrides: list[str]
    problem: str | None
    bug: bool = False


def job_overrides() -> list[str] | None:
    """The options of this job of a sweep; None outside of one."""
    if not HydraConfig.initialized():  # called from Python
        return None
    hydra = HydraConfig.get()
    # Hydra numbers the jobs of a sweep; hydra.mode is that of a single run in every one of them.
    return None if OmegaConf.is_missing(hydra.job, "num") else list(hydra.overrides.task)


def job_folder(sweep: Path, overrides: Sequence[str]) -> Path:
    """The folder of a job in its sweep's: its options, with a hash of them where they make no name of a file."""
    text = ",".join(sorted(o for o in overrides if o.partition("=")[0].lstrip("+~") not in ("out", "figures", "page")))
    return sweep / file_name(text, "defaults")


def job_note(
    folder: Path, launch: str, overrides: Sequence[str], problem: str | None = UNFINISHED, bug: bool = False
) -> None:
    """Keep in the folder of a job what became of it: the process that started the sweep may be another one.

    Args:
        folder: of the job; made if it is not there.
        launch: of which start of the sweep it is.
        overrides: its options.
        problem: as in `Job`.
        bug: as in `Job`.
    """
    content = {"launch": launch, "overrides": list(overrides), "problem": problem, "bug": bug}
    with updated_folder(folder) as part:
        write_json(part / NOTE, content)


def jobs_of(sweep: Path, launch: str) -> list[Job]:
    """Every job of one start of the sweep."""
    notes = [read_note(path) for path in sorted(sweep.glob(f"*/{NOTE}"))]
    return [Job(note["overrides"], note["problem"], note["bug"]) for note in notes if note.get("launch") == launch]


def read_note(path: Path) -> dict[str, Any]:
    """What `job_note` kept; {} where it is somebody else's file."""
    try:
        note = read_json(path)
        told = {
            "overrides": [str(each) for each in note["overrides"]],
            "problem": note["problem"],
            "launch": note["launch"],
        }
        return {**told, "bug": bool(note.get("bug"))}
    except (OSError, ValueError, KeyError, TypeError):  # somebody else's: no job of ours
        return {}
