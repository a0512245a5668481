"""The survey's own abundances as a representation, to compare with (paper, section 4.5)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.comparison.representation import Representation
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.learners.floor import Repeats
from rsca_torch.spectra.stars import Stars, abundance_column, error_column
from rsca_torch.training.members import Members

__all__ = ["abundances"]

LEAST_KNOWN = 0.5  # share of the field stars, and of the members, that must have all elements that are used


def abundances(
    name: str,
    field: Stars,
    members: Stars,
    elements: Sequence[str],
    relative_to_iron: bool = False,
    repeats: Stars | None = None,
    groups: Stars | None = None,
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
        repeats: further observations of stars, of which those of the field's and of groups' stars are used. None: there
            are none.
        groups: stars of groups besides clusters, which teach and do not judge. None: there are none.

    What members scatter by as the catalogue's errors (columns such as FE_H_ERR) say is known as `noise`. An error that
    is not known is taken for the field's, the mean of its squares.

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
    noise_of, unknown = _noise(name, field_stars, kept, relative_to_iron)
    taught = None if groups is None or not len(groups) else _groups(groups, kept, relative_to_iron, noise_of)
    again = _repeats(field_stars, groups, repeats, kept, relative_to_iron)
    seen_again = "no star was observed again"
    if again is not None:
        seen_again = f"repeats have {again.freedom} degrees of freedom for {len(kept)} elements"
    _, sizes = np.unique(member_stars.group, return_counts=True)
    if not kept or (sizes > 1).sum() < 2:
        raise InputError(f"{len(kept)} elements are known, in {(sizes > 1).sum()} clusters with two members: too few")
    fewer = f"give fewer elements, abundances.{name}.elements=[...]"
    return Representation(
        name,
        field_values,
        member_values,
        field_stars,
        member_stars,
        noise=None if noise_of is None else noise_of(member_stars),
        repeats=() if again is None else (again,),
        groups=taught,
        no_floor=f"{unknown}, and {seen_again}" if unknown else "",
        fewer=fewer,
    )


def _noise(
    name: str, field: Stars, elements: Sequence[str], relative_to_iron: bool
) -> tuple[Callable[[Stars], Tensor] | None, str]:
    """What gives stars (n, E, E) covariances of their abundances' errors; None and why, where they are not known."""
    needed = [*elements, *(["Fe"] if relative_to_iron and "Fe" not in elements else [])]
    columns = [error_column(element) for element in needed]
    lacking = [column for column in columns if column not in field.colnames or not len(_squares(field, [column])[1])]
    if lacking:
        return None, f"the star table has no errors of abundances ({', '.join(lacking)})"
    usual = np.array([_squares(field, [column])[1].mean() for column in columns])
    # What is taken from each abundance: itself, and iron where it is relative to that.
    taken = np.eye(len(elements), len(needed))
    if relative_to_iron:
        taken[[element != "Fe" for element in elements], needed.index("Fe")] -= 1

    def covariances(stars: Stars) -> Tensor:
        squares, _ = _squares(stars, columns)
        unknown = np.isnan(squares)
        if unknown.any():
            _warn(
                f"{name}: {unknown.sum()} of {unknown.size} errors of abundances are not known: taken for the field's "
                "mean"
            )
        squares = np.where(unknown, usual, squares)
        return torch.from_numpy(np.einsum("ek,nk,fk->nef", taken, squares, taken))

    return covariances, ""


def _squares(stars: Stars, columns: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, columns) squared errors, NaN where one is not known or not positive; and those that are known."""
    errors = np.stack([np.asarray(stars.values(column), dtype=float) for column in columns], axis=1)
    squares = np.where(np.isfinite(errors) & (errors > 0), errors, np.nan) ** 2
    return squares, squares[np.isfinite(squares)]


def _known(stars: Stars, elements: Sequence[str], relative_to_iron: bool) -> tuple[Tensor, Stars]:
    """The abundances of the stars that have all of them, and these."""
    values = _values(stars, elements, relative_to_iron)
    there = np.isfinite(values).all(axis=1)
    return torch.from_numpy(values[there]), stars[there]


def _groups(
    stars: Stars, elements: Sequence[str], relative_to_iron: bool, noise_of: Callable[[Stars], Tensor] | None
) -> Members:
    values, stars = _known(stars, elements, relative_to_iron)
    return Members(values, stars.group, noise=None if noise_of is None else noise_of(stars))


def _repeats(
    field: Stars, groups: Stars | None, repeats: Stars | None, elements: Sequence[str], relative_to_iron: bool
) -> Repeats | None:
    """What repeats of the field's and of the groups' stars say; no observation of a member has a part in it."""
    if repeats is None or not len(repeats) or repeats.are_parts:  # a visit has no abundances of its own
        return None
    of = [_known(stars, elements, relative_to_iron) for stars in (field, groups) if stars is not None and len(stars)]
    again, rows = _known(repeats, elements, relative_to_iron)
    values, ids = torch.cat([each for each, _ in of]), np.concatenate([stars.id for _, stars in of])
    return Repeats.of_some(values, ids, again, rows.repeat_of)


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
