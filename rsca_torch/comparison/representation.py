"""What learners see of the stars: spectra in the latents of step 1, packed spectra, or the survey's own abundances."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from astropy.table import Table, vstack
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.comparison.teachers import (
    MakeLearner,
    as_many_as_there_are,
    sees_spectra,
    started,
    taught_by,
    told_of,
)
from rsca_torch.errors import InputError
from rsca_torch.layers.rsca import RSCA
from rsca_torch.learners.averaged import Averaged
from rsca_torch.learners.floor import Repeats
from rsca_torch.learners.learner import Learner
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.ppca.answers import Embedding
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.removal import Removal
from rsca_torch.spectra.packed import packed
from rsca_torch.spectra.stars import Stars
from rsca_torch.spectra.view import AnySpectra, sources_of
from rsca_torch.training.members import Members
from rsca_torch.training.pairs import compared_values

__all__ = ["AllowedPairs", "Candidates", "Representation", "Seen", "compared_values", "represent"]

Compressor = Callable[[AnySpectra, AnySpectra], MaskedPPCA]
AllowedPairs = Callable[..., Tensor]  # (member, field velocity, member, field extinction) -> (M, F)


class Seen(NamedTuple):
    """What one learner is given of a representation.

    It is latents in units of flux where its results depend on the units: then raw distances are those of the model
    spectra, as the authors' are (docs/maths.md, section 4). Learners that see spectra are given packed spectra.
    """

    make_learner: MakeLearner  # for these stars: of spectra it starts from step 1; several models' are averaged
    field: Tensor  # (F, K) or (F, 2, P)
    members: Tensor  # (M, K) or (M, 2, P)
    roots: Tensor | None = None  # (M, K, K), as in `training.members.Members`
    noise: Tensor | None = None  # likewise


@dataclass(frozen=True)
class Representation:
    """Field (F, K) and members (M, K) in latents or abundances, with their star tables.

    With several PPCA models their latents lie side by side, and K is the sum of theirs.

    Attributes:
        name: "spectra", or of the abundances.
        field: (F, K) float64.
        members: (M, K) float64.
        field_stars: F rows.
        member_stars: M rows.
        ppcas: step 1, where there was one.
        seconds: that step 1 took.
        aside: the bins that step 1 set aside, one row each (`_set_aside`).
        roots: (M, K, K) R with R R^T the covariance of each member's latents, eq. 1.3; None: not known.
        noise: (M, K, K) covariance that its errors give each member's latents as they are, eq. 13.3; None: not known.
        repeats: of each model (or of the abundances, one), what repeated observations of one star say, of the field or
            of groups; empty: there are none.
        groups: stars of groups besides clusters, in the same latents; None: there are none.
        no_floor: why no floor under the scatter of siblings is known, where it may be so; of abundances.
        spectra: of field and members, for learners that see spectra.
        group_spectra: likewise of the groups' stars.
        removal: what was taken out of the spectra before step 1.
        fewer: how a user lowers the number of dimensions, for messages.
    """

    name: str
    field: Tensor
    members: Tensor
    field_stars: Stars
    member_stars: Stars
    ppcas: tuple[MaskedPPCA, ...] = ()
    seconds: float = 0.0
    aside: Table | None = None
    roots: Tensor | None = None
    noise: Tensor | None = None
    repeats: tuple[Repeats, ...] = ()
    groups: Members | None = None
    no_floor: str = ""
    spectra: tuple[AnySpectra, AnySpectra] | None = None
    group_spectra: AnySpectra | None = None
    removal: Removal | None = None
    fewer: str = "lower n_components"

    @property
    def ppca(self) -> MaskedPPCA | None:
        """Step 1, where it is one model."""
        return self.ppcas[0] if len(self.ppcas) == 1 else None

    @property
    def clusters(self) -> NDArray[np.str_]:
        """(M,) labels."""
        return self.member_stars.group

    def seen_by(self, make_learner: MakeLearner) -> Seen:
        """What this learner is given of these stars.

        Raises:
            InputError: where it sees spectra, and there are none, more than one step 1, or too many to hold.
        """
        if sees_spectra(make_learner):
            if self.spectra is None:
                raise InputError(f"{self.name} are no spectra, which is what this learner sees: choose one of latents")
            if self.ppca is None:
                raise InputError("a learner of spectra starts from one step 1: give one n_components, not several")
            if self._packed_groups is not None:
                make_learner = partial(taught_by, make_learner, self._packed_groups)
            return Seen(partial(started, make_learner, self.ppca), *self._packed)
        if len(self.ppcas) > 1:
            make_learner = partial(Averaged, [ppca.n_components for ppca in self.ppcas], make_learner)
        if not self.ppcas:
            make_learner = partial(as_many_as_there_are, make_learner)
        if self.repeats:
            make_learner = partial(told_of, make_learner, self.repeats)
        in_flux = bool(self.ppcas) and getattr(make_learner(), "depends_on_units", True)
        if self.groups is not None:
            make_learner = partial(taught_by, make_learner, self._groups_in_flux if in_flux else self.groups)
        return Seen(make_learner, *(self._in_flux if in_flux else (self.field, self.members, self.roots, self.noise)))

    @cached_property
    def _packed(self) -> tuple[Tensor, Tensor]:
        assert self.spectra is not None
        field, members = (packed(spectra) for spectra in self.spectra)
        return field, members

    @cached_property
    def _packed_groups(self) -> Members | None:
        if self.groups is None or self.group_spectra is None:
            return None
        return Members(packed(self.group_spectra), self.groups.labels)

    @cached_property
    def _scales(self) -> Tensor:
        return torch.cat([ppca.scales for ppca in self.ppcas])

    @cached_property
    def _in_flux(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        nameless = np.full(len(self.members), "")
        members = _scaled(Members(self.members, nameless, None, self.roots, self.noise), self._scales)
        return self.field * self._scales, members.z, members.roots, members.noise

    @cached_property
    def _groups_in_flux(self) -> Members:
        assert self.groups is not None
        return _scaled(self.groups, self._scales)

    def layer(self, learner: Learner) -> RSCA | None:
        """Step 1 and the steps 2 to 4 of a learner fitted on this as one layer; None for learners of another kind."""
        if not isinstance(learner, ScaledComponents) or self.ppca is None or self.spectra is None:
            return None
        steps = learner.weight, learner.centre, learner.sigma_r
        field, members = self.spectra
        labels, sources = np.unique(self.clusters), sources_of(field, members)
        return RSCA(self.ppca, *steps, field.wavelength, self.removal, labels, sources)

    @torch.no_grad()
    def embedded(self, learner: Learner) -> tuple[Tensor, Tensor]:
        """(F, D) of the field and (M, D) of the members by a learner fitted on this, float64."""
        seen = self.seen_by(lambda: learner)
        return learner(seen.field).double(), learner(seen.members).double()

    def allowed(self, pairs: AllowedPairs) -> NDArray[np.bool_]:
        """(M, F) the pairs that may be compared.

        Raises:
            InputError: where `pairs` compares what the survey does not know, or gives something else.
        """
        members, field = (compared_values(pairs, stars) for stars in (self.member_stars, self.field_stars))
        allowed: Any = pairs(members[0], field[0], members[1], field[1])
        shape = (len(self.member_stars), len(self.field_stars))
        if not isinstance(allowed, Tensor) or allowed.shape != shape:
            got = f"{type(allowed).__name__} of shape {tuple(getattr(allowed, 'shape', ()))}"
            raise InputError(f"pairs must give a torch.Tensor of shape {shape}, one flag a pair, got {got}")
        return np.asarray(allowed.cpu(), dtype=bool)


Candidates = Mapping[int, Representation]  # by number of components, of the same stars


def _scaled(stars: Members, scales: Tensor) -> Members:
    """In other units: latents times (K,) scales."""
    roots = None if stars.roots is None else scales[:, None] * stars.roots
    noise = None if stars.noise is None else scales[:, None] * stars.noise * scales
    return replace(stars, z=stars.z * scales, roots=roots, noise=noise)


def represent(
    field: AnySpectra,
    members: AnySpectra,
    compressor: Compressor,
    repeats: AnySpectra | None = None,
    groups: AnySpectra | None = None,
) -> Representation:
    """Spectra in the latents of masked PPCA (step 1).

    Args:
        field: F spectra.
        members: M spectra.
        compressor: fits step 1 to these two.
        repeats: further observations of stars, of which those of the field's and of groups' stars are used: no
            observation of a member has a part in what judges it.
        groups: stars of groups besides clusters, which teach and do not judge.

    Raises:
        InputError: a star of a group is a field star or a member too.
    """
    if groups:
        groups.stars.require_groups(np.concatenate([field.stars.id, members.stars.id]))
    began = time.perf_counter()
    ppca = compressor(field, members)
    of_field, of_members = ppca.embed(field), ppca.embed(members, covariances=True)
    seconds = time.perf_counter() - began
    aside = [_set_aside(*of, ppca) for of in ((of_field, field), (of_members, members))]
    assert of_members.covariances is not None
    known, ids, taught = of_field.latents, field.stars.id, None
    if groups:
        others = ppca.embed(groups, covariances=True)
        assert others.covariances is not None
        roots = torch.linalg.cholesky(others.covariances)
        taught = Members(others.latents, groups.stars.group, None, roots, others.noise)
        known, ids = torch.cat([known, others.latents]), np.concatenate([ids, groups.stars.id])
    again = Repeats.of_spectra(ppca, known, ids, repeats)
    return Representation(
        "spectra",
        of_field.latents,
        of_members.latents,
        field.stars,
        members.stars,
        (ppca,),
        seconds,
        vstack(aside, metadata_conflicts="silent"),
        torch.linalg.cholesky(of_members.covariances),
        of_members.noise,
        () if again is None else (again,),
        taught,
        spectra=(field, members),
        group_spectra=groups,
        removal=field.removal if isinstance(field.removal, Removal) else None,
    )


def _set_aside(embedding: Embedding, spectra: AnySpectra, ppca: MaskedPPCA) -> Table:
    """One row for each bin that step 1 could not explain and did not use, eq. 1.12.

    Columns: the stars' ids; WAVELENGTH, Angstrom; DEVIATION, flux minus the model's in standard deviations;
    N_COMPONENTS.
    """
    return Table(
        {
            spectra.stars.roles["id"]: spectra.stars.id[embedding.stars.numpy()],
            "WAVELENGTH": spectra.wavelength[embedding.bins].numpy(),
            "DEVIATION": embedding.deviations.float().numpy(),
            "N_COMPONENTS": np.full(len(embedding.bins), ppca.n_components, dtype=np.int16),
        }
    )
