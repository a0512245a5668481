"""Groups of options that were set to null: what may be left out is, and of the others it is said why not."""

from __future__ import annotations

from collections.abc import Container

from omegaconf import DictConfig, open_dict

from rsca_torch.errors import InputError

__all__ = ["every_group", "with_empty_groups", "without_null"]

EMPTY = ("abundances", "baselines", "figures_of_merit")  # of these there may be none
NEEDED = {
    "compressor": "step 1 needs its options: compressor=ppca",
    "trainer": "something must run step 1: trainer=cpu",
    "em_loop": "something must run step 1: leave this option out",
    "learner": "there would be nothing to judge: learner=rsca, or learner=raw",
    "pairs": "some pairs must be compared: pairs=all takes every member with every field star, pairs=paper those alike "
    "in velocity and extinction",
    "simulation": "a survey is simulated where no store is given: simulation=giants, or store=DIR",
    "survey": "it says which column plays which role: survey=apogee_dr16",
    "censoring": "it says which bins are not trusted: censoring=none leaves no range of wavelengths out",
}


def without_null(option: str, groups: Container[str]) -> str:
    """`abundances=null` as Hydra has it, which knows no null for a group.

    Args:
        option: as it was given, key=value.
        groups: the names of the groups.

    Raises:
        InputError: for a group without which nothing can be done; says what to give.

    Examples:
        >>> without_null("abundances=null", {"abundances"}), without_null("logger=null", {"abundances"})
        ('~abundances', 'logger=null')
    """
    key, _, value = option.partition("=")
    name, _, place = key.partition("@")
    if value != "null" or name not in groups:
        return option
    if not place or name == "censoring":
        _require_may_lack(name)
    return f"~{key}"


def every_group(config: DictConfig) -> DictConfig:
    """The configuration of a command that compares or fits, with an empty group for each that was left out.

    Raises:
        InputError: for a group without which nothing can be done; says what to give.

    Examples:
        >>> options = dict.fromkeys(NEEDED, {}) | {"abundances": None}
        >>> every_group(DictConfig(options)).abundances
        {}
    """
    for name in NEEDED:
        if name != "censoring" and config.get(name) is None:  # that is the survey's
            _require_may_lack(name)
    return with_empty_groups(config)


def with_empty_groups(config: DictConfig) -> DictConfig:
    """The configuration with an empty group for each that was left out and of which there may be none.

    Examples:
        >>> with_empty_groups(DictConfig({"baselines": None})).baselines
        {}
    """
    config = config.copy()
    with open_dict(config):
        for name in EMPTY:
            if config.get(name) is None:
                config[name] = {}
    return config


def _require_may_lack(name: str) -> None:
    if name in NEEDED:
        raise InputError(f"{name}=null: {NEEDED[name]}")
