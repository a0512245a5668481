"""Which `_target_` may be called where a configuration is data: this package's, few others', plugins'."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rsca_torch.errors import InputError
from rsca_torch.learners.registry import CONFIG, learner_class, offered_targets

__all__ = ["is_trusted", "require_trusted", "require_trusted_files", "targets_in"]

#: Of other packages: where classes lie, and of which kinds they must be. Loggers that write to other machines are none.
CLASSES = {
    "torch.nn.": ("torch.nn.Module",),
    "torch.optim.": ("torch.optim.Optimizer", "torch.optim.lr_scheduler.LRScheduler"),
    "pytorch_metric_learning.": ("torch.nn.Module",),
    "lightning.": (
        "lightning.Trainer",
        "lightning.Callback",
        "lightning.pytorch.loggers.CSVLogger",
        "lightning.pytorch.loggers.TensorBoardLogger",
    ),
}
TARGET = re.compile(r"_target_:\s*([\w.]+)")
CURE = (
    "trust=any takes it, and runs what its author wrote: only where you trust him as you would a program of his "
    "(docs/security.md)"
)


def is_trusted(target: str) -> bool:
    """Whether it is called where a configuration came out of a folder of results.

    That is: what conf/ of this package names, a learner of this package, what an installed package offers as a plugin,
    and classes of few kinds of torch, Lightning and pytorch-metric-learning. A function that is none of these, as
    torch.load, is not.

    >>> [is_trusted(each) for each in ("rsca_torch.learners.LDA", "torch.nn.Linear", "lightning.Trainer")]
    [True, True, True]
    >>> [is_trusted(each) for each in ("os.system", "torch.load", "torch.os.system", "torch.nn.Module.eval")]
    [False, False, False, False]
    """
    if target in _shipped() or target in offered_targets():
        return True
    module, _, name = target.rpartition(".")
    if not name.isidentifier() or any(part.startswith("_") for part in target.split(".")):
        return False
    if target.startswith("rsca_torch."):
        return _is_learner(target)
    kinds = next((kinds for start, kinds in CLASSES.items() if target.startswith(start)), None)
    return kinds is not None and _is_of(module, name, kinds)


def _is_learner(target: str) -> bool:
    try:
        found = learner_class(target)
    except InputError:
        return False
    return found.__module__.startswith("rsca_torch.")


def _is_of(module: str, name: str, kinds: tuple[str, ...]) -> bool:
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception:  # whatever importing raises: it is not there
        return False
    known = tuple(getattr(importlib.import_module(kind.rpartition(".")[0]), kind.rpartition(".")[2]) for kind in kinds)
    same_package = isinstance(found, type) and found.__module__.partition(".")[0] == module.partition(".")[0]
    return same_package and issubclass(found, known)  # type: ignore[arg-type]  # the line above says that it is a class


@cache
def _shipped() -> frozenset[str]:
    """All that conf/ names."""
    texts = (path.read_text(encoding="utf-8") for path in CONFIG.rglob("*.yaml"))
    return frozenset(target for text in texts for target in TARGET.findall(text))


def targets_in(node: Any, above: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401  (whatever YAML or JSON holds)
    """(Option, target) of all that a configuration would call.

    >>> list(targets_in({"learner": {"_target_": "a.B"}, "more": [{"_target_": "c.D"}]}))
    [('learner', 'a.B'), ('more.0', 'c.D')]
    """
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in entries:
        if name == "_target_":
            yield above, str(value)
        else:
            yield from targets_in(value, f"{above}.{name}" if above else str(name))


def require_trusted(config: Any, where: str) -> None:  # noqa: ANN401  (whatever YAML or JSON holds)
    """Refuse a configuration that would call anything else; nothing of what it names is imported before.

    Args:
        config: mappings and lists.
        where: it is from.

    Raises:
        InputError: names the option and the target.
    """
    for option, target in targets_in(config):
        if not is_trusted(target):
            raise InputError(
                f"{where}: {option}._target_={target!r:.100} is no class of rsca_torch, torch, lightning, "
                f"pytorch_metric_learning or an installed plugin that is taken from there; {CURE}"
            )


def require_trusted_files(folder: Path) -> None:
    """Refuse a folder of YAML that would call anything else, or that sets options of Hydra's own, which can too.

    Raises:
        InputError: names the file.
    """
    for path in sorted(folder.rglob("*.y*ml")):
        try:
            text = path.read_text(encoding="utf-8")
            content = yaml.safe_load(text)
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise InputError(f"{path} cannot be read ({type(error).__name__}); {CURE}") from error
        if "hydra" in text.lower() or "hydra" in str(path.relative_to(folder)).lower():
            raise InputError(f"{path} sets options of Hydra's own, by which it can run anything; {CURE}")
        require_trusted(content, str(path))
