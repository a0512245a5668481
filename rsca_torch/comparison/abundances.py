"""The survey's own abundances as a representation, to compare with (paper, section 4.5)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rsca_torch.comparison.representation import Representation
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.spectra.stars import Stars, abundance_column

__all__ = ["abundances"]

LEAST_KNOWN = 0.5  # share of the field stars that must have an element for it to be used


def abundances(
    name: str, field: Stars, members: Stars, elements: Sequence[str], relative_to_iron: bool = False
) -> Representation:
    """The survey's own abundances, dex: [X/H], or [X/Fe] with iron as [Fe/H].

    An element that most field stars lack is left out; then stars that lack one of the others are.

    Args:
        name: of the representation.
        field: F rows.
        members: M rows.
        elements: columns are named e.g. FE_H.
        relative_to_iron: [X/Fe] in place of [X/H].

    Raises:
        InputError: where an element has no column, or what is left has fewer than two clusters with two members.

    Warns:
        NumericalWarning: names the elements and counts the stars that are left out.
    """
    absent = [element for element in elements if abundance_column(element) not in field.colnames]
    if absent:
        raise InputError(f"the star table has no abundances of {', '.join(absent)}: columns are named e.g. FE_H")
    rare = [element for element in elements if np.isfinite(_abundance(field, element)).mean() < LEAST_KNOWN]
    if rare:
        _warn(f"{name}: most field stars lack {', '.join(rare)}: left out")
    kept = [element for element in elements if element not in rare]
    field_values, field_stars = _known(name, field, kept, relative_to_iron)
    member_values, member_stars = _known(name, members, kept, relative_to_iron)
    _, sizes = np.unique(member_stars.group, return_counts=True)
    if not kept or (sizes > 1).sum() < 2:
        raise InputError(f"{len(kept)} elements are known, in {(sizes > 1).sum()} clusters with two members: too few")
    fewer = f"give fewer elements, abundances.{name}.elements=[...]"
    return Representation(name, field_values, member_values, field_stars, member_stars, fewer=fewer)


def _known(name: str, stars: Stars, elements: Sequence[str], relative_to_iron: bool) -> tuple[Tensor, Stars]:
    """(n, elements) abundances of the stars that have them all, and their rows."""
    values = np.empty((len(stars), len(elements)))
    for place, element in enumerate(elements):
        values[:, place] = _abundance(stars, element)
        if relative_to_iron and element != "Fe":
            values[:, place] -= _abundance(stars, "Fe")
    known = np.asarray(np.isfinite(values).all(axis=1))
    if not known.all():
        _warn(f"{name}: {(~known).sum()} of {len(known)} stars lack an abundance and are left out")
    return torch.from_numpy(values[known]), stars[known]


def _abundance(stars: Stars, element: str) -> np.ndarray:
    return np.asarray(stars.values(abundance_column(element)), dtype=float)


def _warn(message: str) -> None:
    warnings.warn(message, NumericalWarning, stacklevel=3)
