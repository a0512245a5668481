"""What an option does to what ships, beyond what it says: a list replaces all of another, a mapping leaves the rest."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from rsca_torch.errors import InputError

__all__ = ["CUTS", "is_empty", "tell_replaced"]

log = logging.getLogger(__name__)

CUTS = "survey.cuts"
SHOWN = 6  # entries of a list


def is_empty(value: str) -> bool:
    """Whether the value of an option is a mapping without a key."""
    return "".join(value.split()) == "{}"


def tell_replaced(given: Sequence[str], config: DictConfig, default: DictConfig) -> None:
    """Say what Hydra does without a word: a list replaces one that ships, a mapping leaves what it does not name.

    Args:
        given: the options, as Hydra takes them.
        config: made of them.
        default: with the same groups, but no other options.

    Raises:
        InputError: an option is {} for a group of options, which would change nothing.
    """
    for option in given:
        _tell_kept(option, default)
    ours: Any = OmegaConf.to_container(config, resolve=False)
    theirs: Any = OmegaConf.to_container(default, resolve=False)
    _tell_cuts(*(each.get("survey") or {} for each in (ours, theirs)))
    for name, lost, kept in _lost_entries(ours, theirs):
        shown = ", ".join(map(str, lost[:SHOWN])) + (", ..." if len(lost) > SHOWN else "")
        log.info("%s: the list given replaces %d of %d entries: %s", name, len(lost), len(lost) + kept, shown)


def _tell_kept(option: str, default: DictConfig) -> None:
    key, _, value = option.partition("=")
    name = key.lstrip("+")
    usual = OmegaConf.select(default, name, throw_on_missing=False) if value.startswith("{") else None
    if not isinstance(usual, DictConfig) or not len(usual) or name == CUTS:
        return
    if is_empty(value):
        raise InputError(f"{option} would change nothing, as {name} keeps what it has; {name}=null does without it")
    given: Any = OverridesParser.create().parse_override(option).value()
    there: Any = OmegaConf.to_container(usual, resolve=False)
    own = [each for each in there if each not in given and not each.startswith("_") and there[each] is not None]
    if own:
        log.info("%s keeps %s", name, ", ".join(f"{each}={there[each]}" for each in own))


def _tell_cuts(survey: dict[str, Any], usual: dict[str, Any]) -> None:
    cuts, shipped = survey.get("cuts"), usual.get("cuts")
    if not shipped or isinstance(cuts, dict) or cuts == shipped:
        return
    names = [str(each.get("name")) if isinstance(each, dict) else str(each) for each in shipped]
    log.warning(
        "warning: %s: the %d cuts of survey=%s (%s) are %s; +%s.NAME={column: SNR, above: 100} adds one to them, "
        "%s.NAME=null leaves one out",
        *(CUTS, len(names), survey.get("name"), ", ".join(names)),
        "replaced by those given" if cuts else "all left out",
        *(CUTS, CUTS),
    )


def _lost_entries(config: Any, default: Any, above: str = "") -> Iterator[tuple[str, list[Any], int]]:  # noqa: ANN401  (nested containers)
    """The name of each list that lacks entries of its default, those, and how many are still there; not of cuts."""
    for name in [each for each in config if each in default]:
        key, value, usual = f"{above}{name}", config[name], default[name]
        if isinstance(value, dict) and isinstance(usual, dict):
            yield from _lost_entries(value, usual, f"{key}.")
        elif isinstance(value, list) and isinstance(usual, list) and key != CUTS:
            lost = [each for each in usual if each not in value]
            if lost:
                yield key, lost, len(usual) - len(lost)
