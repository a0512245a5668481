"""Options that a command does not have and Hydra takes all the same: with a + before them, or of another class."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from inspect import Parameter, signature
from typing import Any

from hydra.conf import HydraConf
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from torch.nn import Module

from rsca_torch.cli.options import dotted_names, is_group, nearest
from rsca_torch.comparison.groups_given import EMPTY
from rsca_torch.errors import InputError
from rsca_torch.learners.registry import CONFIG
from rsca_torch.learners.scaled_components import ScaledComponents

__all__ = ["require_groups", "require_known", "require_names"]

#: Groups that take further entries, under names of the user's own.
OPEN = ("hydra", "baselines", "figures_of_merit", "experiments", "abundances")
#: Groups of which every entry is of a class or a function, and the folder of conf/ that has some.
OF_CLASSES = {"baselines": "learner", "figures_of_merit": "figure_of_merit"}
#: Open groups whose entries, where the command has them already, take what they have and no more.
CLOSED_INSIDE = ("experiments", "abundances")
MOST = 12  # names in one line
HYDRAS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


def require_known(command: str, given: Sequence[str], config: DictConfig, default: DictConfig) -> None:
    """Refuse an option that would be taken without a word and have no part in anything.

    Args:
        command: that runs.
        given: its options, as typed.
        config: made of them.
        default: what the command has where nothing is added.

    Raises:
        InputError: names the option, and what may have been meant.
    """
    known = dotted_names(OmegaConf.to_container(default))
    content: Any = OmegaConf.to_container(config)
    for option in given:
        key = option.partition("=")[0].lstrip("+")
        if key.startswith("~"):
            continue  # Hydra itself refuses to remove what is not there
        place = key.partition("@")[2] or (key.replace("/", ".") if is_group(key) else key)
        _require_known(command, place, content, known)


def require_groups(command: str, config: DictConfig, default: DictConfig) -> None:
    """Refuse to do without a group of options that the command needs, or without the class that takes them.

    Args:
        command: that runs.
        config: as given.
        default: what the command has where nothing is asked.

    Raises:
        InputError: names the group, and what may be chosen in its place.
    """
    for name in default:
        key, usual = str(name), default._get_node(name)
        needed = isinstance(usual, DictConfig) and key not in ("logger", "alike", "calibration", *EMPTY)
        if needed and (key not in config or config[key] is None):
            raise InputError(f"{key}=null: rsca {command} cannot do without it; {_choices(key) or 'leave it as it is'}")
        entries = (config.get(key) or {}) if key in OF_CLASSES else {}
        inside = {f"{key}.{each}": entry for each, entry in entries.items()}
        made = {key: config.get(key)} if isinstance(usual, DictConfig) and "_target_" in usual else inside
        for option, given in made.items():
            if isinstance(given, DictConfig) and "_target_" not in given:
                group = _choices(option) or _choices(OF_CLASSES.get(key, ""))
                choose = group or "leave them out too"
                raise InputError(f"{option} has options, but no class that takes them (_target_); {choose}")


def require_names(command: str, overrides: Sequence[str]) -> None:
    """Refuse what is no name of a file, null say, for a group: Hydra would call it an error of its own.

    Nor is an option of Hydra's own taken that Hydra has not.

    Args:
        command: that is asked for.
        overrides: its options.

    Raises:
        InputError: names the group, and what may be chosen; or the option.
    """
    for override in overrides:
        key, equals, value = override.lstrip("+").partition("=")
        if equals and key.startswith("hydra."):
            _require_hydras(key)
        if equals and not key.startswith(("-", "~", "hydra")) and is_group(key):
            group, _, place = key.partition("@")
            if value.lower() in ("null", "true", "false") or value.startswith("{"):
                leave = f", or leave it out with ~{group}@{place}" if place.startswith(OPEN) else ""
                raise InputError(f"{override}: rsca {command} needs the name of one; {_choices(group)}{leave}")


def _choices(group: str) -> str:
    """What may be chosen for a group; '' where it is none."""
    there = ", ".join(sorted(path.stem for path in (CONFIG / group).glob("*.yaml")))
    return f"choose one of {there}" if there else ""


def _require_known(command: str, key: str, content: Any, known: Sequence[str]) -> None:  # noqa: ANN401  (a container)
    parts = key.split(".")
    node: Any = content
    owner: str | None = None
    inside = 0
    for number, part in enumerate(parts):
        if not isinstance(node, Mapping):
            break
        if number and "_target_" in node:
            owner, inside = str(node["_target_"]), number
        node = node.get(part)
    if owner is None:
        further = parts[0] in CLOSED_INSIDE and len(parts) == 3 and ".".join(parts[:2]) in known
        if key not in known and (further or parts[0] not in OPEN):
            close = nearest(key, known)
            hint = f"; did you mean {close}?" if close else ""
            raise InputError(f"rsca {command} has no option {key}{hint} (rsca {command} --help lists every option)")
        return
    accepted, takes_any = _accepted(owner)
    name, learner = parts[inside], parts[0] in ("learner", "baselines")
    if name in (*HYDRAS, *accepted) or (key in known and not learner):  # what the command takes for itself is known too
        return
    if takes_any and not (learner and name in signature(ScaledComponents).parameters):  # which `maker` leaves out
        return
    alike = difflib.get_close_matches(name, accepted, 1)
    above = ".".join(parts[:inside])
    hint = f"did you mean {above}.{alike[0]}?" if alike else f"it has {', '.join(accepted[:MOST]) or 'none'}"
    raise InputError(f"{key}: {owner.rpartition('.')[2]} has no option {name}; {hint}")


def _require_hydras(key: str) -> None:
    """Refuse an option of Hydra's own that it has not: it would take it, and never look at it."""
    node: Any = OmegaConf.structured(HydraConf)
    for part in key.split(".")[1:]:
        kind = OmegaConf.get_type(node) if isinstance(node, DictConfig) else None
        if kind is None or not is_dataclass(kind):  # as of a launcher, which may be anybody's
            return
        names = [field.name for field in fields(kind)]
        if part not in names:
            alike = difflib.get_close_matches(part, names, 1)
            hint = f"did you mean {alike[0]}?" if alike else f"there are {', '.join(sorted(names)[:MOST])}"
            raise InputError(f"{key}: Hydra has no option {part} there; {hint}")
        node = node._get_node(part)


def _accepted(target: str) -> tuple[list[str], bool]:
    """The arguments of what a dotted name names, and whether it takes any other; so does what cannot be imported."""
    try:
        kind = get_object(target)
        parameters = signature(kind).parameters.values()
    except Exception:  # whatever importing somebody's module raises: who needs it will say so
        return [], True
    if getattr(kind, "__init__", None) is Module.__init__:  # a learner without one of its own
        return [], False
    takes_any = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters)
    variable = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    return [parameter.name for parameter in parameters if parameter.kind not in variable], takes_any
