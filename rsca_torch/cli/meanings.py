"""What options mean: the comments at their keys in the YAML files that a command's configuration is composed of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from rsca_torch.learners.registry import CONFIG

__all__ = ["Composed", "Group", "comments", "composed", "first_sentence"]


class Group(NamedTuple):
    """Options of which one YAML of a folder is chosen.

    Attributes:
        place: where they are, dotted.
        folder: of conf/.
        choice: the name of the YAML.
        said: name of each YAML that may be chosen -> its first sentence.
    """

    place: str
    folder: str
    choice: str
    said: dict[str, str]


class Composed(NamedTuple):
    """The configuration of a command, and what is known of it.

    Attributes:
        title: the first sentence of the command's own YAML.
        values: nested; ${...} as it is written.
        meanings: dotted name -> comment, '' for none.
        groups: those that are chosen.
    """

    title: str
    values: dict[str, Any]
    meanings: dict[str, str]
    groups: list[Group]


def composed(command: str | None, overrides: Sequence[str]) -> Composed:
    """The configuration of a command with overrides, its meanings from every YAML that has a part in it.

    Args:
        command: its name; None: what the overrides add, with + before them, is all.
        overrides: Hydra's.

    Raises:
        HydraException: an override has no meaning.
    """
    given = list(overrides)
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        values: Any = OmegaConf.to_container(hydra.compose(command, given, return_hydra_config=True), resolve=False)
        loader = GlobalHydra.instance().config_loader()
        parts = loader.compute_defaults_list(command, given, RunMode.RUN).defaults
        own = [part for part in parts if part.config_path and not part.config_path.startswith(("hydra/", "_"))]
        names = {
            folder: sorted(loader.get_group_options(folder, config_name=command, overrides=given))
            for part in own
            if (folder := part.config_path.rpartition("/")[0])
        }
    sources = values.pop("hydra")["runtime"]["config_sources"]
    folders = [Path(source["path"]) for source in sources if source["schema"] == "file"]
    meanings: dict[str, str] = {}
    chosen: dict[str, Group] = {}
    for part in own:
        place, (folder, _, choice) = part.package or "", part.config_path.rpartition("/")
        for key, comment in comments(_text(folders, part.config_path)).items():
            name = f"{place}.{key}" if place else key
            meanings[name] = comment or meanings.get(name, "")
        if folder:
            said = {name: first_sentence(_text(folders, f"{folder}/{name}")) for name in names[folder]}
            chosen[place] = Group(place, folder, choice, said)
    title = first_sentence(_text(folders, command)) if command else ""
    return Composed(title, values, meanings, list(chosen.values()))


def _text(folders: Sequence[Path], path: str) -> str:
    """Of a YAML, wherever it lies; '' for what an installed package offers, which has none."""
    files = (folder / f"{path}.yaml" for folder in folders)
    return next((file.read_text(encoding="utf-8") for file in files if file.is_file()), "")


def first_sentence(text: str) -> str:
    r"""Of the comment at the head of a YAML, without the full stop; '' where it has none.

    Example:
        >>> first_sentence("# A survey (Smith et al. 2020). With\n# more.\nname: x")
        'A survey (Smith et al. 2020)'
    """
    head: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            head.append(line.lstrip("# "))
    return re.split(r"\.(?=\s+[^a-z0-9\s]|$)", " ".join(head).strip())[0]


def comments(text: str) -> dict[str, str]:
    r"""The comment of each key of a YAML: in its line, else in the lines above; '' for none.

    Keys that Hydra or a class reads for itself (`_target_`) are left out, and so are those inside {...}, which is one
    option; what stands in the defaults list is known by the place where its options go.

    Example:
        >>> comments("defaults:\n- pairs@p: all # which\na: # both\n  # one\n  b: 1\n  c: {d: 2} # two")
        {'p': 'which', 'a': 'both', 'a.b': 'one', 'a.c': 'two'}
    """
    root = yaml.compose(text)
    return dict(_comments(root, text.splitlines(), "")) if isinstance(root, yaml.MappingNode) else {}


def _comments(mapping: yaml.MappingNode, lines: Sequence[str], above: str) -> Iterator[tuple[str, str]]:
    for key, value in mapping.value:
        name = f"{above}{key.value}"
        if name == "defaults":
            items = [item.value[0] for item in value.value if isinstance(item, yaml.MappingNode)]
            for group, choice in items:
                place = group.value.rpartition("@")[2].removeprefix("override ").removeprefix("/")
                yield place, _comment(lines, choice.end_mark)
        elif not key.value.startswith("_"):
            block = isinstance(value, yaml.CollectionNode) and not value.flow_style
            yield name, _comment(lines, key.end_mark if block else value.end_mark) or _above(lines, key.start_mark)
            if block and isinstance(value, yaml.MappingNode):
                yield from _comments(value, lines, f"{name}.")


def _comment(lines: Sequence[str], mark: yaml.Mark) -> str:
    """What stands behind a place in its line."""
    found = re.fullmatch(r":?\s*#\s*(.*?)\s*", lines[mark.line][mark.column :]) if mark.line < len(lines) else None
    return found[1] if found else ""


def _above(lines: Sequence[str], mark: yaml.Mark) -> str:
    """The comment in the lines directly above a key, as far in as the key."""
    start, found = f"{' ' * mark.column}#", list[str]()
    for line in reversed(lines[: mark.line]):
        if not line.startswith(start):
            break
        found.append(line.strip("# "))
    return " ".join(reversed(found))
