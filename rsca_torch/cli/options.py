"""The options of a command: as Hydra takes them, of which kind they are, and which are meant by others."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rsca_torch.cli.replaced import CUTS, is_empty
from rsca_torch.comparison.groups_given import without_null
from rsca_torch.errors import InputError
from rsca_torch.learners.registry import CONFIG

__all__ = [
    "default_options",
    "dotted_names",
    "exchanged_groups",
    "flags_last",
    "hydra_overrides",
    "is_group",
    "nearest",
    "nearest_options",
    "require_kinds",
]

#: A number, a list or auto, a path or several: the command says what it expects.
SEVERAL_KINDS = {"compressor.n_components", "what", "survey.catalogue", "survey.cuts", "survey.repeats"}


#: Flags of Hydra that a value follows; those that it may follow.
VALUED = {f"--{name}" for name in ("cfg", "package", "config-dir", "config-path", "config-name", "experimental-rerun")}
MAY_LACK = {"--info", "-i"}
VALUED |= {"-c", "-p", "-cd", "-cp", "-cn", *MAY_LACK}


def hydra_overrides(command: str, options: Sequence[str]) -> list[str]:
    """The options as Hydra's overrides.

    `rsca reproduce figure2 table1`: a word without = is an experiment, of `rsca why` a star, of `rsca doctor` a folder.
    `censoring=NAME` is the survey's. A list takes the place of the mapping of cuts, and a cut can have more keys.

    Raises:
        InputError: a group is null that is needed, or cuts are given as a list and by their names at once.
    """
    groups = {path.name for path in CONFIG.iterdir() if path.is_dir()}
    options = [without_null(option, groups) for option in options]
    options = [re.sub("^censoring=", "censoring@survey.censoring=", option) for option in options]
    overrides = [override for option in options for override in _of_cuts(option)]
    named = [option for option in options if option.lstrip("+~").startswith(f"{CUTS}.")]
    if named and f"~{CUTS}" in overrides:
        raise InputError(f"{named[0]}: {CUTS} is a list here, whose cuts have no options: write each as it should be")
    if command == "why":  # a word is the star's, and may hold what Hydra would read
        words = [option for option in overrides if "=" not in option and not option.startswith("-")]
        star = " ".join(words).replace("'", r"\'")
        return [*([f"id='{star}'"] if words else []), *(option for option in overrides if option not in words)]
    if command == "doctor":  # a word is a folder
        words = [option for option in overrides if "=" not in option and not option.startswith(("-", "~"))]
        return [*(f"place={word}" for word in words), *(option for option in overrides if option not in words)]
    if command != "reproduce":
        return overrides
    words = [option for option in overrides if "=" not in option and not option.startswith(("-", "~"))]
    rest = [option for option in overrides if option not in words]
    return [*_further_experiments(), *([f"what=[{','.join(words)}]"] if words else []), *rest]


def flags_last(options: Sequence[str]) -> list[str]:
    """The same in the order that Hydra's parser takes: overrides together, -m before them, other flags behind them.

    >>> flags_last(["a=1", "--cfg", "job", "b=2", "-m", "--info"])
    ['-m', 'a=1', 'b=2', '--cfg', 'job', '--info']
    """
    first, overrides, flags = list[str](), list[str](), list[str]()
    before = ""
    for option in options:
        is_value = before in VALUED and not option.startswith("-") and (before not in MAY_LACK or "=" not in option)
        place = first if option in ("-m", "--multirun") else flags if option.startswith("-") or is_value else overrides
        place.append(option)
        before = option
    return [*first, *overrides, *flags]


def _of_cuts(option: str) -> list[str]:
    """An option of the cuts as Hydra takes it, which merges mappings, and no list with one; others are as they are."""
    key, _, value = option.partition("=")
    if key.lstrip("+") == CUTS and (value.startswith("[") or is_empty(value)):
        return [f"~{CUTS}", f"+{CUTS}={'[]' if is_empty(value) else value}"]
    whole, part = (re.fullmatch(rf"{re.escape(CUTS)}{'[.][^.]+' * depth}", key) for depth in (1, 2))
    new = part or (whole and value.startswith("{"))
    return [f"++{option}" if new else option]


def _further_experiments() -> list[str]:
    """The experiments that conf/reproduce.yaml does not list, by their YAML; they come last."""
    listed = (CONFIG / "reproduce.yaml").read_text(encoding="utf-8")
    places = {path.stem: f"experiment@experiments.{path.stem}" for path in (CONFIG / "experiment").glob("*.yaml")}
    return [f"+{place}={name}" for name, place in sorted(places.items()) if f"{place}:" not in listed]


def exchanged_groups(added: bool = True) -> list[str]:
    """The groups that the running command was given, and where some are found: the kinds of options depend on them.

    Args:
        added: also those with + before them.
    """
    given = HydraConfig.get().overrides
    places = [override for override in given.hydra if override.startswith("hydra.searchpath=")]
    groups = [override for override in given.task if is_group(override.partition("=")[0].lstrip("+"))]
    return [*places, *(group for group in groups if added or not group.startswith("+"))]


def is_group(key: str) -> bool:
    """Whether it is a folder of conf/, with or without the place where its options go."""
    return (CONFIG / key.partition("@")[0]).is_dir()


def require_kinds(config: DictConfig, default: DictConfig, above: str = "") -> None:
    """Refuse an option of another kind than its default: a text for a number, say.

    Args:
        config: as given.
        default: with the same groups, but no other options.
        above: the dotted name of the group that both are, with a dot at its end.

    Raises:
        InputError: of which kind the option is, and of which kind it should be.
    """
    for name in config.keys() & default.keys():
        key = f"{above}{name!s}"
        if key in SEVERAL_KINDS or OmegaConf.is_missing(config, name) or OmegaConf.is_missing(default, name):
            continue
        value: Any = config[name]
        usual: Any = default[name]
        if isinstance(value, DictConfig) and isinstance(usual, DictConfig):
            require_kinds(value, usual, f"{key}.")
        elif value is not None and usual is not None:
            allowed = (int, float) if type(usual) is float else type(usual)
            if not isinstance(value, allowed) or (isinstance(value, bool) and type(usual) is not bool):
                raise InputError(f"{key}={value} is {_kind(value)}, expected {_kind(usual)} like {usual}")


def _kind(value: Any) -> str:  # noqa: ANN401  (whatever a configuration holds)
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return kinds.get(type(value), "a list" if OmegaConf.is_list(value) else "a group of options")


def default_options(command: str) -> DictConfig:
    """What a command does where nothing is asked of it."""
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        return hydra.compose(command, hydra_overrides(command, []))


def nearest_options(command: str, overrides: Sequence[str]) -> list[str]:
    """The options closest to those that the command does not have."""
    options = dotted_names(OmegaConf.to_container(default_options(command)))
    keys = [override.partition("=")[0].lstrip("+~") for override in overrides]
    unknown = [key for key in keys if not key.startswith(("-", "hydra")) and key not in options and not is_group(key)]
    return [close for key in unknown if (close := nearest(key, options))]


def nearest(key: str, options: Sequence[str]) -> str:
    """The option closest to a dotted name, by all of it or by its last part; '' where none is close."""
    names = {option.rpartition(".")[2]: option for option in options}
    if key in names:
        return names[key]
    last = [names[name] for name in difflib.get_close_matches(key, names, 1)]
    return next(iter((*difflib.get_close_matches(key, options, 1), *last)), "")


def dotted_names(config: Any, above: str = "") -> list[str]:  # noqa: ANN401  (a nested container)
    """Every option and every group of options in it, by its dotted name."""
    if not isinstance(config, dict):
        return [above]
    nested = [dotted_names(value, f"{above}.{name}" if above else str(name)) for name, value in config.items()]
    return ([above] if above else []) + [key for keys in nested for key in keys]
