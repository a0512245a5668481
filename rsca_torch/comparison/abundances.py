"""The survey's own abundances as a representation, to compare with (paper, section 4.5)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rsca_torch.comparison.representation import Representation
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.spectra.stars import Stars, abundance_column

__all__ = ["abundances"]

LEAST_KNOWN = 0.5  # share of the field stars, and of the members, that must have all elements that are used


def abundances(
    name: str, field: Stars, members: Stars, elements: Sequence[str], relative_to_iron: bool = False
) -> Representation:
    """The survey's own abundances, dex: [X/H], or [X/Fe] with iron as [Fe/H].

    Where fewer than half of the field stars or of the members have them all, the element that most of them lack is left
    out, and so on down to one; then stars that lack one of the others are left out.

    Args:
        name: of the representation.
        field: F rows.
        members: M rows.
        elements: columns are named e.g. FE_H.
        relative_to_iron: [X/Fe] in place of [X/H].

    Raises:
        InputError: where an element has no column, or what is left has fewer than two clusters with two members.

    Warns:
        NumericalWarning: names the elements that are left out, with how many stars lack them, and counts the stars.
    """
    choose = f"abundances.{name}.elements=[...] chooses others"
    absent = [element for element in elements if abundance_column(element) not in field.colnames]
    if absent:
        raise InputError(
            f"the star table has no abundances of {', '.join(absent)}: columns are named e.g. FE_H; {choose}"
        )
    parts = [_values(stars, elements, relative_to_iron) for stars in (field, members)]
    used = _used([np.isfinite(values) for values in parts])
    if not used.all():
        lacking = np.isnan(np.concatenate(parts)).sum(axis=0)
        said = _counted(elements, lacking, ~used)
        _warn(f"{name}: of {len(field) + len(members)} stars too many lack {said}: elements left out; {choose}")
    kept = [element for element, is_used in zip(elements, used, strict=True) if is_used]
    known = [np.asarray(np.isfinite(values[:, used]).all(axis=1)) for values in parts]
    for values, there, what in zip(parts, known, ("field stars", "members"), strict=True):
        if not there.all():
            said = _counted(elements, np.isnan(values).sum(axis=0), used)
            _warn(
                f"{name}: {(~there).sum()} of {len(there)} {what} lack an abundance and are left out: {said}; {choose}"
            )
    field_values, member_values = (
        torch.from_numpy(values[there][:, used]) for values, there in zip(parts, known, strict=True)
    )
    field_stars, member_stars = (stars[there] for stars, there in zip((field, members), known, strict=True))
    _, sizes = np.unique(member_stars.group, return_counts=True)
    if not kept or (sizes > 1).sum() < 2:
        raise InputError(f"{len(kept)} elements are known, in {(sizes > 1).sum()} clusters with two members: too few")
    fewer = f"give fewer elements, abundances.{name}.elements=[...]"
    return Representation(name, field_values, member_values, field_stars, member_stars, fewer=fewer)


def _values(stars: Stars, elements: Sequence[str], relative_to_iron: bool) -> NDArray[np.float64]:
    """(n, elements) dex, NaN where a star lacks one, or iron that it is relative to."""
    iron = _abundance(stars, "Fe") if relative_to_iron else np.zeros(len(stars))
    each = [_abundance(stars, element) - iron * (element != "Fe") for element in elements]
    return np.stack(each, axis=1) if each else np.empty((len(stars), 0))


def _used(known: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """(elements,) which are used, by what is known (n, elements) of the field's and of the members' stars."""
    used = np.ones(known[0].shape[1], dtype=bool)
    while used.sum() > 1 and min(part[:, used].all(axis=1).mean() for part in known if len(part)) < LEAST_KNOWN:
        lacking = np.max([(~part).mean(axis=0) for part in known if len(part)], axis=0)
        used[np.argmax(np.where(used, lacking, -1))] = False
    return used


def _counted(elements: Sequence[str], lacking: NDArray[np.int64], of: NDArray[np.bool_]) -> str:
    """Elements with the numbers of stars that lack them."""
    told = zip(elements, lacking.tolist(), of.tolist(), strict=True)
    return ", ".join(f"{element} ({count})" for element, count, is_told in told if is_told and count)


def _abundance(stars: Stars, element: str) -> NDArray[np.float64]:
    return np.asarray(stars.values(abundance_column(element)), dtype=float)


def _warn(message: str) -> None:
    warnings.warn(message, NumericalWarning, stacklevel=3)
