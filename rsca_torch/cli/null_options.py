"""Options that were set to null: those that what takes them can do without, as its own annotations say."""

from __future__ import annotations

from inspect import Parameter, signature
from types import NoneType
from typing import Any, get_args

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from rsca_torch.errors import InputError

__all__ = ["require_values"]


def require_values(config: DictConfig, default: DictConfig, above: str = "") -> None:
    """Refuse null for an option that cannot do without a value.

    What a class or a function takes (`_target_`) may be null where its annotation or its default says so, and whatever
    is null by default may. Of a command's own options, numbers and switches may not.

    Args:
        config: as given.
        default: with the same groups, but no other options.
        above: the dotted name of the group that both are, with a dot at its end.

    Raises:
        InputError: names the option, and a value that it may have.
    """
    parameters = _parameters(str(config["_target_"])) if "_target_" in config else {}
    for name in config:
        if OmegaConf.is_missing(config, name):
            continue
        key, value = f"{above}{name!s}", config[name]
        has_usual = name in default and not OmegaConf.is_missing(default, name)
        usual: Any = default[name] if has_usual else None
        if has_usual and usual is None:
            continue
        if isinstance(value, DictConfig):
            require_values(value, usual if isinstance(usual, DictConfig) else OmegaConf.create(), f"{key}.")
        elif value is None and (
            not _may_be_null(parameters[str(name)])
            if str(name) in parameters
            else not above and type(usual) in (int, float, bool)
        ):
            like = f"a value like {usual}" if usual is not None else "a value"
            raise InputError(f"{key}=null: {like} expected")


def _parameters(target: str) -> dict[str, Parameter]:
    """What it takes; {} of what cannot be imported or looked at, which who needs it will say."""
    try:
        return dict(signature(get_object(target), eval_str=True).parameters)
    except Exception:  # whatever importing somebody's module raises
        return {}


def _may_be_null(parameter: Parameter) -> bool:
    kind = parameter.annotation
    if parameter.default is None or kind in (Parameter.empty, Any, object, NoneType):
        return True
    return NoneType in get_args(kind)
