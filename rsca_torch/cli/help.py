"""`rsca COMMAND --help`: one line an option, with its value and what it means."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from rsca_torch.cli.meanings import Composed, Group, composed, first_sentence
from rsca_torch.learners.registry import CONFIG

__all__ = ["asks_for_help", "columns", "help_of"]

HELP = ("--help", "-h")
COLUMN, LEAST = 36, 16  # where meanings begin at most; columns that one needs in the line of its option
LONGEST, NARROW = 44, 77  # columns of a value, and of a key and its value
UNBOUNDED = 10_000
SHOWN = 3  # entries of a list in a value that is longer
#: An option whose value is the name of a YAML of another folder: what may be chosen there is told too.
BY_NAME = {"compressor.remove": "removal"}
wrapped = partial(textwrap.wrap, break_long_words=False, break_on_hyphens=False)
#: Groups with a name of their own on the command line.
SHORT = {"survey.censoring": "censoring"}


def columns() -> int:
    """How wide a line may be: as the terminal, or as the variable COLUMNS says; else an option takes one line."""
    return shutil.get_terminal_size((UNBOUNDED, 0)).columns


def asks_for_help(options: Sequence[str]) -> bool:
    """Whether the options of a command ask what there are."""
    return any(option in HELP for option in options)


def help_of(command: str, options: Sequence[str], width: int) -> str:
    """What a command does, and a line for each of its options, with the values that other options give them.

    Args:
        command: its name.
        options: as Hydra takes them, flags among them.
        width: columns of the terminal.

    Raises:
        HydraException: an option has no meaning.
    """
    overrides = _overrides(options)
    found = composed(command, overrides)
    if not found.values:
        return "\n".join([*wrapped(_ended(found.title), width), "", "It has no options."])
    given = " ".join(override for override in overrides if not override.startswith("hydra."))
    for place, name in SHORT.items():
        given = given.replace(f"{name}@{place}=", f"{name}=")
    values = f"the value that it has with {given}" if given else "its default"
    intro = [
        _ended(found.title),
        "",
        f"Options are key=value. Below each stands with {values}, and what it means. ??? must be given; null means "
        "none; a value that ends in ... is longer. GROUP=NAME chooses a group of options (* is what is chosen); "
        "GROUP._target_=my_package.MyClass is a class of your own.",
    ]
    lines = [line for part in intro for line in wrapped(part, width) or [""]]
    for group in [None, *_ordered(found)]:
        section = _section(found, group, width)
        lines += ["", *section] if section else []
    end = f"rsca {command} --cfg job shows every value in full; rsca {command} --hydra-help shows Hydra's own flags."
    return "\n".join([*lines, "", *wrapped(end, width)])


def _ended(sentence: str) -> str:
    """With a full stop, unless it asks."""
    return sentence if sentence.endswith("?") else f"{sentence}."


def _overrides(options: Sequence[str]) -> list[str]:
    """What is composed: without flags, without what a sweep varies, with the folder of --config-dir."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flags in (("--config-dir", "-cd"), ("--cfg", "-c"), ("--package", "-p"), ("--info", "-i")):
        parser.add_argument(*flags, nargs="?")
    known, rest = parser.parse_known_args([option for option in options if option not in HELP])
    overrides = [option for option in rest if not option.startswith("-")]
    if {"-m", "--multirun"} & {*rest}:
        read = OverridesParser.create().parse_overrides(overrides)
        overrides = [given.input_line or "" for given in read if not given.is_sweep_override()]
    if known.config_dir:
        overrides.append(f"hydra.searchpath=['file://{Path(known.config_dir).absolute()}']")
    return overrides


def _ordered(found: Composed) -> list[Group]:
    """Groups in the order of the configuration, each before those inside it."""
    order = {name: number for number, name in enumerate(found.values)}
    return sorted(
        found.groups, key=lambda group: (order.get(group.place.split(".")[0], len(order)), group.place.count("."))
    )


def _section(found: Composed, group: Group | None, width: int) -> list[str]:
    """Of a group, or of what is in none."""
    place = group.place if group else ""
    values: Any = found.values
    for part in place.split(".") if place else ():
        values = (values or {}).get(part)
    others = {other.place for other in found.groups} - {place}
    rows = list(_rows(found, values or {}, place, others))
    if group is None:
        return _table([("Options of its own", ""), *rows], width) if rows else []
    meaning, sentence = found.meanings.get(place, ""), group.said.get(group.choice, "")
    name = SHORT.get(place, place)
    if name != group.folder:  # one of several, under a name of its own
        return _table([(f"{group.folder}@{place}={group.choice}", meaning or sentence), *rows], width)
    choices = [(f"  {'*' if each == group.choice else ' '} {each}", said) for each, said in group.said.items()]
    return [*_table([(f"{name}=NAME", meaning), *choices], width), *_table(rows, width)]


def _rows(found: Composed, values: dict[str, Any], above: str, others: set[str]) -> Iterator[tuple[str, str]]:
    """(key=value, meaning) of each option, (key, meaning) of what holds several; without those of other groups."""
    for name, value in values.items():
        key = f"{above}.{name}" if above else str(name)
        if str(name).startswith("_") or key in others:
            continue
        has_groups = any(other.startswith(f"{key}.") for other in others)
        if isinstance(value, dict) and (has_groups or any(known.startswith(f"{key}.") for known in found.meanings)):
            if not has_groups:
                yield f"  {key}", found.meanings.get(key, "")
            yield from _rows(found, value, key, others)
            continue
        yield f"  {key}={_written(value, NARROW - len(key))}", found.meanings.get(key, "")
        if key in BY_NAME:
            yield from _by_name(BY_NAME[key], value)


def _by_name(folder: str, value: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401  (of an option)
    for path in sorted((CONFIG / folder).glob("*.yaml")):
        chosen = path.stem == value
        yield f"  {'*' if chosen else ' '} {path.stem}", first_sentence(path.read_text(encoding="utf-8"))
        if chosen:
            one = composed(None, [f"+{folder}={value}"])
            for name, each in one.values[folder].items():
                if not name.startswith("_"):
                    yield f"      {name}: {_written(each)}", one.meanings[f"{folder}.{name}"]


def _written(value: Any, room: int = LONGEST) -> str:  # noqa: ANN401  (of an option)
    """As it is typed; what is longer than that is cut short."""
    longest = min(room, LONGEST)
    texts = [_typed(value, shown) for shown in (None, *range(SHOWN, 0, -1))]
    return next((text for text in texts if len(text) <= longest), f"{texts[-1][: longest - 3]}...")


def _typed(value: Any, shown: int | None = None) -> str:  # noqa: ANN401  (of an option)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_typed(each, shown)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        rest = ["..."] if shown is not None and len(value) > shown else []
        return "[" + ", ".join([*(_typed(each, shown) for each in value[:shown]), *rest]) + "]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(rows: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Lines of two columns; what is too long for the first begins in it, and its meaning follows."""
    column = min(max((len(option) for option, _ in rows), default=0), COLUMN) + 2
    return [line for option, meaning in rows for line in _line(option, meaning, column, width)]


def _line(option: str, meaning: str, column: int, width: int) -> list[str]:
    if not meaning:
        return [option]
    start = f"{option:<{column - 2}}  "
    above: list[str] = []
    if width - len(start) < LEAST:
        above, start = [option], " " * column
    return [*above, *wrapped(meaning, width, initial_indent=start, subsequent_indent=" " * column)]
