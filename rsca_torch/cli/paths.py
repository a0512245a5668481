"""Paths among the options: whatever a shell can name, and the same file from whatever folder the process goes to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

__all__ = ["quoted_paths", "rooted_paths"]

#: The last part of the names of options that are paths; and of names of stars, which are text too: 0012, 1e5, NGC 188.
PATHS = {
    *"place store out model run sweep root members catalogue simulated checkpoints uncensored ids kept".split(),
    *("embedding", "baseline", "star", "cluster"),
}
NOT_PATHS = {"survey.ids"}  # a group of options
SEVERAL = {"members", "catalogue", "star"}  # a list is one too
#: Those that start from where the user stands; others start from survey.root.
OF_A_RUN = (
    *("place", "store", "out", "model", "run", "sweep", "root", "simulated", "checkpoints", "ids", "kept"),
    *("embedding", "survey.root"),
    *(f"experiments.{name}.uncensored" for name in ("figure6", "figure7")),
)


def quoted_paths(overrides: Sequence[str], sweeping: bool) -> list[str]:
    """The options with those paths quoted that Hydra would not read, or would read as something else: 16, a=b, it's.

    What is in quotes already, null and ${...} are what they are for Hydra, and ~ at the start is the home folder.

    Args:
        overrides: the options of a command.
        sweeping: several values are a sweep, and no name of a file.
    """
    return [_quoted(override, sweeping) if _is_path(override) else override for override in overrides]


def _is_path(override: str) -> bool:
    key, equals, _ = override.partition("=")
    key = key.lstrip("+")
    named = key not in NOT_PATHS and key.rpartition(".")[2] in PATHS
    return bool(equals) and named and not key.startswith(("-", "~", "hydra"))


def _quoted(override: str, sweeping: bool) -> str:
    key, _, path = override.partition("=")
    if path in ("", "null", "???") or (len(path) > 1 and path[0] == path[-1] and path[0] in "'\""):
        return override
    if path == "~" or path.startswith("~/"):
        path = str(Path(path).expanduser())
    plain = f"{key}={path}"
    try:
        read = OverridesParser.create().parse_override(plain)
    except HydraException:
        several = False
    else:
        if read.is_sweep_override():
            several = sweeping
        else:
            value = read.value()
            if isinstance(value, str) and str(value) == path and "\\" not in path:
                return plain
            several = isinstance(value, list) and key.rpartition(".")[2] in SEVERAL
    return plain if several else f"{key}={QuotedString(path, Quote.single).with_quotes()}"


def rooted_paths(config: DictConfig) -> None:
    """Make paths absolute where the process went to another folder (hydra.job.chdir) than the user stood in.

    Args:
        config: of the running command; changed in place.
    """
    stood = HydraConfig.get().runtime.cwd
    if Path.cwd().samefile(stood):
        return
    for name in OF_A_RUN:
        path = OmegaConf.select(config, name, throw_on_missing=False)
        if isinstance(path, str) and path:
            with open_dict(config):
                OmegaConf.update(config, name, str(Path(stood) / path))
