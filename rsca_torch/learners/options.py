"""Options of learners: what is out of range is refused with the range."""

from __future__ import annotations

from math import inf
from typing import Any

from rsca_torch.errors import InputError

__all__ = ["require_choice", "require_number", "require_whole"]


def require_whole(name: str, value: Any, at_least: int = 1, meaning: str = "") -> None:  # noqa: ANN401  (whatever was given)
    """Refuse what is no whole number of at least so many; `meaning`: of what.

    Raises:
        InputError: says the range.
    """
    if not isinstance(value, int) or value < at_least:
        raise InputError(f"{name} must be a whole number of at least {at_least}{meaning}, got {value!r}")


def require_number(name: str, value: float, at_least: float = 0.0, below: float = inf, above: float = -inf) -> None:
    """Refuse a number out of range.

    Raises:
        InputError: says the range.
    """
    if not (isinstance(value, int | float) and at_least <= value < below and value > above):
        lower = f"above {above}" if above >= at_least else f"at least {at_least}"
        upper = "finite" if below == inf else f"below {below}"
        raise InputError(f"{name} must be a number {lower} and {upper}, got {value!r}")


def require_choice(name: str, value: str, *words: str) -> None:
    """Refuse what is none of some words.

    Raises:
        InputError: says them all.
    """
    if value not in words:
        *most, last = (f'"{word}"' for word in words)
        raise InputError(f"{name} must be {', '.join(most)} or {last}, got {value!r}")
