"""Where learners come from: conf/learner, installed packages (entry points), or a class by its dotted name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from rsca_torch.errors import InputError
from rsca_torch.learners.learner import Learner
from rsca_torch.learners.scaled_components import ScaledComponents

__all__ = ["CONFIG", "GROUP", "Plugin", "builtin", "installed", "learner_class", "maker", "offered_targets", "register"]

#: Inside an installed package conf/ lies in it, in a checkout beside it.
CONFIG = next(p for p in (Path(__file__).parents[1] / "conf", Path(__file__).parents[2] / "conf") if p.is_dir())
#: The entry point group under which a package offers learners: name = "module:Class".
GROUP = "rsca_torch.learners"


@dataclass(frozen=True)
class Plugin:
    """A learner that can be chosen by its name.

    Attributes:
        name: as in `rsca compare learner=NAME`.
        target: its class, dotted.
        source: "built in", or the package and its version.
        paper: where it is from.
        problem: why it cannot be used; empty where it can.
    """

    name: str
    target: str
    source: str
    paper: str = ""
    problem: str = ""


def builtin() -> list[Plugin]:
    """The learners of this package, by name: one for each YAML in conf/learner."""
    return [_looked_at(plugin) for plugin in _configured()]


def installed() -> list[Plugin]:
    """The learners that installed packages offer (entry points `rsca_torch.learners`), by name.

    One that cannot be imported is there too, with its problem: it harms no other.
    """
    return [_looked_at(plugin) for plugin in _offered()]


def register() -> None:
    """Make `learner=NAME` work for what installed packages offer. Nothing of theirs is imported before it is chosen."""
    for plugin in _offered():
        if not plugin.problem:
            # Not struct: which options the class has, this package cannot know.
            node = OmegaConf.create({"_target_": plugin.target}, flags={"struct": False})
            ConfigStore.instance().store(plugin.name, node, group="learner", provider=plugin.source)


def offered_targets() -> set[str]:
    """The dotted names of what installed packages offer; nothing of theirs is imported."""
    return {plugin.target for plugin in _offered()}


def learner_class(target: str) -> type[Learner]:
    """The class of that dotted name.

    Raises:
        InputError: where it does not import (says which part, and what is near it), or is no learner.
    """
    try:
        return _imported(target)
    except InputError as error:
        raise InputError(f"learner._target_={target} {error}") from error


def maker(learner: DictConfig) -> Callable[[], Learner]:
    """Makes fresh learners; options of the default learner that another class does not know are not for it."""
    unknown = (
        signature(ScaledComponents).parameters.keys() - signature(learner_class(learner._target_)).parameters.keys()
    )
    return partial(hydra.utils.instantiate, {name: value for name, value in learner.items() if name not in unknown})


def _configured() -> Iterator[Plugin]:
    for path in sorted((CONFIG / "learner").glob("*.yaml")):
        config: Any = OmegaConf.load(path)
        yield Plugin(path.stem, str(config["_target_"]), "built in")


def _offered() -> Iterator[Plugin]:
    """What entry points say, of which nothing is imported; of two of one name only the first can be chosen by it."""
    taken = {plugin.name: plugin.source for plugin in _configured()}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, _package(point), point.value)):
        target = ".".join(part for part in (point.module, point.attr) if part)
        problem = ""
        if not point.attr:
            problem = f"names no class: module:Class expected, got {point.value}"
        elif point.name in taken:
            problem = f"the name is taken ({taken[point.name]}): choose it by learner._target_={target}"
        taken.setdefault(point.name, _package(point))
        yield Plugin(point.name, target, _package(point), problem=problem)


def _package(point: EntryPoint) -> str:
    return "an unknown package" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _looked_at(plugin: Plugin) -> Plugin:
    """With its paper or its problem."""
    if plugin.problem:
        return plugin
    try:
        return replace(plugin, paper=str(_imported(plugin.target).paper))
    except InputError as error:
        return replace(plugin, problem=str(error))


def _imported(target: str) -> type[Learner]:
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise InputError(f"is no dotted name of a class: module.Class expected{_near(target)}")
    found: Any = None
    for number, part in enumerate(parts):
        inside = getattr(found, part, None)  # before a module of that name, as in Hydra
        if inside is None and (number == 0 or isinstance(found, ModuleType)):
            inside = _module(".".join(parts[: number + 1]))
        if inside is None:
            above = ".".join(parts[:number])
            what = f"{above} has no {part}" if above else f"there is no module {part}"
            near = _near(target, above, found, part)
            if not above and (Path(part).is_dir() or Path(f"{part}.py").is_file()):
                near = "; it lies in this folder: PYTHONPATH=. rsca finds it"
            raise InputError(f"cannot be imported: {what}{near}")
        found = inside
    if not (isinstance(found, type) and issubclass(found, Learner)):
        kind = "another class" if isinstance(found, type) else f"a {type(found).__name__}"
        raise InputError(f"is no learner: a subclass of rsca_torch.Learner expected, got {kind}")
    if found.forward is Learner.forward:
        raise InputError(f"is no learner yet: {found.__name__} must define forward(z)")
    return found


def _module(name: str) -> ModuleType | None:
    """The module of that name; None where there is none."""
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever importing somebody's module raises
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            return None
        raise InputError(
            f"cannot be imported: importing {name} raised {type(error).__name__}: {error or 'without a word'}"
        ) from error


def _near(target: str, above: str = "", found: Any = None, part: str = "") -> str:  # noqa: ANN401  (whatever above is)
    """What may have been meant: a learner that is known, or in place of `part` another name inside what was found."""
    modules = pkgutil.iter_modules(getattr(found, "__path__", []) if above else None)
    inside = {*getattr(found, "__dict__", ()), *(module.name for module in modules)}
    public = sorted(name for name in inside if not name.startswith("_"))
    known = {plugin.target for plugin in (*_configured(), *_offered())} - {target}
    names = {each.rpartition(".")[2].lower(): each for each in sorted(known)}
    by_name = difflib.get_close_matches(target.rpartition(".")[2].lower(), names, 1)
    place = f"{above}." if above else ""
    meant = [f"{place}{name}" for name in difflib.get_close_matches(part, public, 2)]
    meant += [names[name] for name in by_name if names[name] not in meant]
    return f"; did you mean {' or '.join(meant)}?" if meant else ""
