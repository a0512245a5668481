"""What learners see of the stars: spectra in the coordinates of step 1, and the survey's own abundances."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from astropy.table import Table, vstack
from torch import Tensor

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.learners.averaged import Averaged
from rsca_torch.learners.learner import Learner
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.ppca.model import Embedding, MaskedPPCA
from rsca_torch.removal import Removal, Removed
from rsca_torch.rsca import RSCA, AnySpectra
from rsca_torch.spectra.packed import PACKED, packed
from rsca_torch.spectra.stars import Stars, abundance_column

__all__ = [
    "AllowedPairs",
    "Compressor",
    "MakeLearner",
    "Representation",
    "abundances",
    "compared_values",
    "represent",
    "represent_with_each",
    "sees_spectra",
    "set_aside",
    "side_by_side",
]

MOST = 0.5  # of the field stars must have an element for it to be used
MakeLearner = Callable[[], Learner]
Compressor = Callable[[AnySpectra, AnySpectra], MaskedPPCA]
AllowedPairs = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Representation:
    """What a learner sees: field (F, K) and members (M, K) with their star tables, and step 1 where there was one.

    Of a learner of spectra (`seen_by`) they are packed spectra (F, 2, P) and (M, 2, P).

    With several PPCA models their latents lie side by side, and K is the sum of theirs.
    """

    name: str
    field: Tensor
    members: Tensor
    field_stars: Stars
    member_stars: Stars
    ppcas: tuple[MaskedPPCA, ...] = ()
    seconds: float = 0.0  # that step 1 took
    aside: Table | None = None  # of `set_aside`
    roots: Tensor | None = None  # (M, K, K), as in `learning.Members`
    spectra: tuple[AnySpectra, AnySpectra] | None = None  # of field and members, for learners that see spectra
    removal: Removal | None = None  # what was taken out of the spectra before step 1

    @property
    def ppca(self) -> MaskedPPCA | None:
        """Step 1, where it is one model."""
        return self.ppcas[0] if len(self.ppcas) == 1 else None

    def seen_by(self, make_learner: MakeLearner) -> Representation:
        """The same stars as this learner sees them: as they are, or packed spectra in place of latents.

        Raises:
            InputError: where it sees spectra, and there are none, more than one step 1, or too many to hold.
        """
        if self.field.ndim == PACKED or not sees_spectra(make_learner):
            return self
        if self.spectra is None:
            raise InputError(f"{self.name} are no spectra, which is what this learner sees: choose one of latents")
        if self.ppca is None:
            raise InputError("a learner of spectra starts from one step 1: give one n_components, not several")
        return self._packed

    @cached_property
    def _packed(self) -> Representation:
        assert self.spectra is not None
        field, members = (packed(spectra) for spectra in self.spectra)
        return replace(self, field=field, members=members, roots=None)

    def suited(self, make_learner: MakeLearner) -> MakeLearner:
        """What makes the learner for these stars: of spectra it starts from step 1; several models' are averaged."""
        if self.field.ndim == PACKED and self.ppca is not None:
            return partial(_started, make_learner, self.ppca)
        if len(self.ppcas) < 2:
            return make_learner
        return partial(Averaged, [ppca.n_components for ppca in self.ppcas], make_learner)

    def layer(self, learner: Learner, wavelength: Tensor) -> RSCA | None:
        """Step 1 and a learner's steps 2 to 4 as one layer; None for learners of another kind.

        Args:
            learner: fitted on these latents.
            wavelength: (P,) Angstrom, of the bins of step 1.
        """
        if not isinstance(learner, ScaledComponents) or self.ppca is None:
            return None
        scales = self.ppca.scales  # from units of flux back to latents
        rotation, centre = learner.weight * scales, learner.centre / scales
        return RSCA(self.ppca, rotation, centre, learner.sigma_r, wavelength, self.removal)

    @property
    def clusters(self) -> np.ndarray:
        """(M,) labels."""
        return self.member_stars.group

    def allowed(self, pairs: AllowedPairs) -> Tensor:
        """(M, F) bool: the pairs that may be compared."""
        members, field = (compared_values(pairs, stars) for stars in (self.member_stars, self.field_stars))
        return pairs(members[0], field[0], members[1], field[1])


def compared_values(pairs: AllowedPairs, stars: Stars) -> list[Tensor]:
    """[(N,) velocities, (N,) extinctions] of stars whose pairs are to be judged; NaN where `pairs` compares none.

    Raises:
        InputError: no column plays a role that is compared, i.e. whose limit is not None.
    """
    limits = inspect.signature(pairs).parameters
    values = []
    for role in ("velocity", "extinction"):
        idle = f"max_{role}" in limits and limits[f"max_{role}"].default is None
        values.append(np.full(len(stars), np.nan) if idle else stars.values(role))
    return [torch.from_numpy(each) for each in values]


def sees_spectra(make_learner: MakeLearner) -> bool:
    """Whether the learner is one of spectra; the others are of latents."""
    return getattr(make_learner(), "sees", "latents") == "spectra"  # any module with the methods will do


def _started(make_learner: MakeLearner, ppca: MaskedPPCA) -> Learner:
    learner = make_learner()
    learner.start_from(ppca)
    return learner


def represent(field: AnySpectra, members: AnySpectra, compressor: Compressor) -> Representation:
    """Spectra in the principal coordinates of masked PPCA (step 1), in units of flux.

    The latents times `MaskedPPCA.scales`, so that raw distances are those of the model spectra, as the authors' are
    (docs/maths.md, section 4). RSCA does not depend on the units.
    """
    started = time.perf_counter()
    ppca = compressor(field, members)
    of_field, of_members = (ppca.embed(part) for part in (field, members))
    seconds = time.perf_counter() - started
    latents = (of_field.latents * ppca.scales, of_members.latents * ppca.scales)
    parts = zip((of_field, of_members), (field.stars, members.stars), strict=True)
    aside = vstack([set_aside(embedding, stars, field.wavelength, ppca) for embedding, stars in parts])
    roots = _roots(ppca, members)
    removal = field.removal if isinstance(field, Removed) else None
    stars = (field.stars, members.stars)
    return Representation("spectra", *latents, *stars, (ppca,), seconds, aside, roots, (field, members), removal)


def _roots(ppca: MaskedPPCA, members: AnySpectra) -> Tensor:
    """(M, K, K) R with R R^T the covariance of each star's latents in units of flux, eq. 1.3."""
    covariances = torch.cat([posterior.covariance() for posterior in ppca.posteriors(members)])
    roots: Tensor = ppca.scales[:, None] * torch.linalg.cholesky(covariances)
    return roots


def set_aside(embedding: Embedding, stars: Stars, wavelength: Tensor, ppca: MaskedPPCA) -> Table:
    """One row for each bin that step 1 could not explain and did not use, eq. 1.12.

    Columns: the star's id, named as in its table; WAVELENGTH, Angstrom; DEVIATION, flux minus the model's in standard
    deviations; N_COMPONENTS.
    """
    return Table(
        {
            stars.roles["id"]: stars.id[embedding.stars.numpy()],
            "WAVELENGTH": wavelength[embedding.bins].numpy(),
            "DEVIATION": embedding.deviations.float().numpy(),
            "N_COMPONENTS": np.full(len(embedding.bins), ppca.n_components, dtype=np.int16),
        }
    )


def represent_with_each(
    field: AnySpectra, members: AnySpectra, compressor: Callable[..., MaskedPPCA], numbers: Sequence[int]
) -> dict[int, Representation]:
    """Spectra with every number of components, the largest first: each smaller fit starts from the larger model.

    Args:
        field: F spectra.
        members: M spectra of the same bins.
        compressor: as `rsca.compress` with all but n_components and start bound.
        numbers: of components.
    """
    given: dict[int, Representation] = {}
    larger: MaskedPPCA | None = None
    for number in sorted(numbers, reverse=True):
        given[number] = represent(field, members, partial(compressor, n_components=number, start=larger))
        larger = given[number].ppca
    return given


def side_by_side(parts: Sequence[Representation]) -> Representation:
    """One representation (N, K1 + K2 + ...) of the same stars by several models; of one its own."""
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[0],
        field=torch.cat([part.field for part in parts], dim=1),
        members=torch.cat([part.members for part in parts], dim=1),
        ppcas=tuple(ppca for part in parts for ppca in part.ppcas),
        seconds=sum(part.seconds for part in parts),
        roots=_blocks_on_a_diagonal([part.roots for part in parts if part.roots is not None]),
        aside=vstack([part.aside for part in parts]),
    )


def _blocks_on_a_diagonal(parts: Sequence[Tensor]) -> Tensor | None:
    """(M, K1, K1), (M, K2, K2), ... -> (M, K1 + K2 + ..., K1 + K2 + ...)."""
    if not parts:
        return None
    sizes = [part.shape[1] for part in parts]
    whole = parts[0].new_zeros(len(parts[0]), sum(sizes), sum(sizes))
    for part, last in zip(parts, np.cumsum(sizes), strict=True):
        here = slice(last - part.shape[1], last)
        whole[:, here, here] = part
    return whole


def abundances(
    name: str, field: Stars, members: Stars, elements: Sequence[str], relative_to_iron: bool = False
) -> Representation:
    """The survey's own abundances, dex: [X/H], or [X/Fe] with iron as [Fe/H] (paper, section 4.5).

    An element that most field stars lack is left out; then stars that lack one of the others are.

    Raises:
        InputError: where an element has no column, or what is left has fewer than two clusters with two members.

    Warns:
        NumericalWarning: names the elements and counts the stars that are left out.
    """
    absent = [element for element in elements if abundance_column(element) not in field.colnames]
    if absent:
        raise InputError(f"the star table has no abundances of {', '.join(absent)}: columns are named e.g. FE_H")
    rare = [element for element in elements if np.isfinite(_column(field, element)).mean() < MOST]
    if rare:
        _warn(f"{name}: most field stars lack {', '.join(rare)}: left out")
    kept = [element for element in elements if element not in rare]
    field_values, field_stars = _known(name, field, kept, relative_to_iron)
    member_values, member_stars = _known(name, members, kept, relative_to_iron)
    _, sizes = np.unique(member_stars.group, return_counts=True)
    if not kept or (sizes > 1).sum() < 2:
        raise InputError(f"{len(kept)} elements are known, in {(sizes > 1).sum()} clusters with two members: too few")
    return Representation(name, field_values, member_values, field_stars, member_stars)


def _known(name: str, stars: Stars, elements: Sequence[str], relative_to_iron: bool) -> tuple[Tensor, Stars]:
    """(n, elements) abundances of the stars that have them all, and their rows."""
    values = np.empty((len(stars), len(elements)))
    for place, element in enumerate(elements):
        values[:, place] = _column(stars, element)
        if relative_to_iron and element != "Fe":
            values[:, place] -= _column(stars, "Fe")
    known = np.asarray(np.isfinite(values).all(axis=1))
    if not known.all():
        _warn(f"{name}: {(~known).sum()} of {len(known)} stars lack an abundance and are left out")
    return torch.from_numpy(values[known]), stars[known]


def _column(stars: Stars, element: str) -> np.ndarray:
    return np.asarray(stars[abundance_column(element)], dtype=float)


def _warn(message: str) -> None:
    warnings.warn(message, NumericalWarning, stacklevel=3)
