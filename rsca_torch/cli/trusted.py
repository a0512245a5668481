"""What an option `trust` says: whether configurations may name any class, or those of few packages alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from rsca_torch.errors import InputError
from rsca_torch.learners.trust import require_trusted, require_trusted_files

__all__ = ["require_trusted_options", "require_trusted_places"]

#: What lies in folders of results; what is beside or below it may be somebody else's.
MARKS = ("results.json", "manifest.json", "job.json", "item.json", "simulation.json", "SHA256SUMS")
#: Of models, which lie in the folder that somebody works in too: there they say nothing.
OF_MODELS = ("config.json", "*.safetensors")
PLACES = ("--config-dir", "-cd", "--config-path", "-cp")
KINDS = ("package", "any")


def require_trusted_places(overrides: Sequence[str]) -> None:
    """Refuse folders of configurations that were given and are not to be trusted, before one of them is read.

    Args:
        overrides: as typed: `trust=`, flags of Hydra and `hydra.searchpath=`.

    Raises:
        InputError: a configuration in a folder of results names what is not trusted; or a pickle is asked for.
    """
    if any(each.startswith("--experimental-rerun") for each in overrides):
        raise InputError("--experimental-rerun reads a pickle, which runs whatever is in it: type the command again")
    given = next((each.partition("=")[2] for each in reversed(overrides) if each.startswith("trust=")), "null")
    if given not in (*KINDS, "null"):
        raise InputError(f"trust={given}: package or any expected")
    for place in _places(overrides):
        if given == "package" or (given == "null" and _is_of_results(place)):
            require_trusted_files(place)


def require_trusted_options(config: DictConfig) -> None:
    """Refuse what is not trusted, where `trust=package`.

    Raises:
        InputError: names the option.
    """
    if config.get("trust") == "package":
        require_trusted(OmegaConf.to_container(config), "trust=package")


def _places(overrides: Sequence[str]) -> list[Path]:
    """The folders that configurations are looked for in, besides this package's."""
    found = []
    for number, each in enumerate(overrides):
        flag, equals, value = each.partition("=")
        if flag in PLACES:
            found.append(value if equals else "".join(overrides[number + 1 : number + 2]))
        elif flag.lstrip("+") == "hydra.searchpath":
            try:
                values = OverridesParser.create().parse_override(each).value()
            except HydraException:  # which says so itself
                continue
            found += [str(one) for one in (values if isinstance(values, list) else [values])]
    local = [one for one in found if "://" not in one or one.startswith("file://")]
    return [
        Path(unquote(one) if one.startswith("file://") else one)
        for one in (each.removeprefix("file://") for each in local)
    ]


def _is_of_results(place: Path) -> bool:
    here, standing = place.resolve(), Path.cwd()
    for folder in (here, *here.parents):
        marks = MARKS if folder in (standing, *standing.parents) else (*MARKS, *OF_MODELS)
        if folder.is_dir() and any(path.is_file() for mark in marks for path in folder.glob(mark)):
            return True
    return False
