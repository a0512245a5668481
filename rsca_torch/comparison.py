"""Learners side by side: the same stars, folds and pairs for every representation and learner (paper, Figure 4)."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.table import Table, vstack
from torch import Tensor

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.fold_files import FoldFiles
from rsca_torch.learners.averaged import Averaged
from rsca_torch.learners.learner import Learner, Recipe
from rsca_torch.loco import Difference, LOCOResult, leave_one_cluster_out, paired_difference
from rsca_torch.nested import NestedResult, nested_leave_one_cluster_out
from rsca_torch.ppca import Embedding, MaskedPPCA
from rsca_torch.rsca import AnySpectra

__all__ = [
    "Comparison",
    "HowToTrain",
    "Representation",
    "Result",
    "abundances",
    "compare",
    "learner_name",
    "represent",
    "represent_with_each",
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

    With several PPCA models their latents lie side by side, and K is the sum of theirs.
    """

    name: str
    field: Tensor
    members: Tensor
    field_stars: Table
    member_stars: Table
    ppcas: tuple[MaskedPPCA, ...] = ()
    seconds: float = 0.0  # that step 1 took
    aside: Table | None = None  # of `set_aside`
    roots: Tensor | None = None  # (M, K, K), as in `learning.Members`

    @property
    def ppca(self) -> MaskedPPCA | None:
        """Step 1, where it is one model."""
        return self.ppcas[0] if len(self.ppcas) == 1 else None

    def suited(self, make_learner: MakeLearner) -> MakeLearner:
        """What makes the learner for these latents: with several models one part for each, averaged."""
        if len(self.ppcas) < 2:
            return make_learner
        return partial(Averaged, [ppca.n_components for ppca in self.ppcas], make_learner)

    @property
    def clusters(self) -> np.ndarray:
        """(M,) labels."""
        return np.asarray(self.member_stars["CLUSTER"], dtype=str)

    def allowed(self, pairs: AllowedPairs) -> Tensor:
        """(M, F) bool: the pairs that may be compared."""
        velocity, extinction = (
            [torch.from_numpy(np.asarray(stars[name], dtype=float)) for stars in (self.member_stars, self.field_stars)]
            for name in ("VHELIO_AVG", "AK_TARG")
        )
        return pairs(*velocity, *extinction)


@dataclass(frozen=True)
class HowToTrain:
    """Of learners that are trained; closed forms take milliseconds and need none of it.

    Attributes:
        folder: where finished folds are kept. None: nowhere.
        content: what tells this run's settings from another's, for the folds' folder.
        processes: that fit folds side by side.
        logger: gives a Lightning logger for (representation, learner, cluster left out). None: no log.
    """

    folder: Path | None = None
    content: str = ""
    processes: int = 1
    logger: Callable[[str, str, str], Any] | None = None

    def options(
        self, make_learner: MakeLearner, on: Representation, allowed: Tensor, held_out: bool, seed: int
    ) -> dict[str, Any]:
        """Further arguments of `leave_one_cluster_out`."""
        learner = make_learner()
        recipe: Recipe | None = getattr(learner, "recipe", None)
        if recipe is None or recipe.epochs == 0:
            return {}
        if recipe.noise and on.roots is None:
            _warn(f"{on.name} come without errors: {learner_name(learner)} is trained on them without noise")
        options: dict[str, Any] = {"processes": self.processes if held_out else 1, "roots": on.roots}
        if self.logger is not None:
            options["logger"] = partial(self.logger, on.name, learner_name(learner))
        if self.folder is not None:
            total = hashlib.sha256(f"{self.content} {on.name} {held_out} {seed}".encode())
            for tensor in (on.field, on.members, allowed):
                total.update(tensor.cpu().contiguous().numpy().tobytes())
            total.update("\n".join(on.clusters.tolist()).encode())
            options["kept"] = FoldFiles(self.folder / f"{learner_name(learner)}-{total.hexdigest()[:16]}")
        return options


Candidates = Mapping[int, Representation]  # by number of components, of the same stars


@dataclass(frozen=True)
class Result:
    """The rates of one learner on one representation, and the wall time of its folds.

    Where it chose its number of components, `representation` is the choice over all clusters and `nested` how it came
    about; `loco` has every cluster judged with the choice that was made without it.
    """

    representation: Representation
    learner: str
    loco: LOCOResult
    seconds: float
    nested: NestedResult | None = None


@dataclass(frozen=True)
class Comparison:
    """All results; the first of a representation is the judged learner's, the others are its baselines."""

    results: list[Result]

    def of(self, representation: str, learner: str, held_out: bool = True) -> Result:
        """The result of that name."""
        for result in self.results:
            if (result.representation.name, result.learner, result.loco.held_out) == (
                representation,
                learner,
                held_out,
            ):
                return result
        raise KeyError(f"no result of {learner} on {representation}")

    def difference(self, result: Result) -> Difference | None:
        """Its rate less the first result's over the clusters that both judged with the same members; None: none."""
        judged = self.results[0]
        if result is judged or not result.loco.held_out:
            return None
        try:
            return paired_difference(result.loco, judged.loco)
        except InputError:  # no cluster in common: nothing to say, rather than nothing at all
            return None


def compare(
    representations: Sequence[Representation | Candidates],
    learners: Sequence[MakeLearner],
    pairs: AllowedPairs,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
    training: HowToTrain | None = None,
) -> Comparison:
    """Leave-one-cluster-out rates of every learner on every representation, and of the first without cross-validation.

    Args:
        representations: the first is the one that matters (spectra). One of the same stars for each number of
            components: every learner chooses among them, nested, and its in-sample rate is that of its choice.
        learners: each gives a fresh learner; the first is the judged one, the others are baselines.
        pairs: (member velocity, field velocity, member extinction, field extinction) -> allowed (M, F).
        seed: of torch's random numbers in every fold.
        progress: called with (what runs, folds done, folds).
        training: where folds are kept and logged, and how many processes fit them.

    Raises:
        InputError: as `leave_one_cluster_out` does, and where a cluster has members in the field.
    """
    names = [learner_name(make()) for make in learners]
    if len(set(names)) < len(names):
        raise InputError(f"every learner needs a name of its own, got {', '.join(names)}: give the class a `name`")
    results = []
    for representation in representations:
        one = representation if isinstance(representation, Representation) else next(iter(representation.values()))
        _require_separate(one)
        allowed = one.allowed(pairs)
        said: set[str] = set()
        how = training or HowToTrain()
        judge = partial(_judge, allowed=allowed, seed=seed, said=said, progress=progress, how=how)
        results += [judge(learner, representation, held_out=True) for learner in learners]
        if representation is representations[0]:
            results.append(judge(learners[0], results[0].representation, held_out=False))
    return Comparison(results)


def _judge(
    make_learner: MakeLearner,
    on: Representation | Candidates,
    allowed: Tensor,
    held_out: bool,
    seed: int,
    said: set[str],
    progress: Callable[[str, int, int], None] | None,
    how: HowToTrain,
) -> Result:
    """One result; of its warnings those that no earlier learner on the same representation `said`."""
    name = learner_name(make_learner())
    one = on if isinstance(on, Representation) else next(iter(on.values()))
    what = f"{name} on {one.name}{'' if held_out else ', in-sample'}"
    show = None if progress is None else partial(progress, what)
    started = time.perf_counter()
    nested = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if isinstance(on, Representation):
            loco = leave_one_cluster_out(
                on.suited(make_learner),
                on.field,
                on.members,
                on.clusters,
                allowed,
                held_out,
                seed,
                keep_distances=True,
                progress=show,
                **how.options(make_learner, on, allowed, held_out, seed),
            )
        else:
            latents = {number: (each.field, each.members) for number, each in on.items()}
            nested = nested_leave_one_cluster_out(
                make_learner, latents, one.clusters, allowed, seed, keep_distances=True, progress=show
            )
            loco, one = nested.loco, on[nested.best]
    for warning in caught:
        if str(warning.message) not in said:
            said.add(str(warning.message))
            warnings.warn(f"{what}: {warning.message}", warning.category, stacklevel=3)
    return Result(one, name, loco, time.perf_counter() - started, nested)


def _require_separate(on: Representation) -> None:
    """Refuse members among the strangers."""
    if "CLUSTER" not in on.field_stars.colnames:
        return
    both = sorted({*np.asarray(on.field_stars["CLUSTER"], dtype=str).tolist()} & {*on.clusters.tolist()} - {""})
    if both:
        raise InputError(
            f"{len(both)} clusters have stars both in the field and among the members: {', '.join(both[:10])}; a "
            "sibling among the strangers makes every rate wrong: move those stars to the members, or out of the field"
        )


def learner_name(learner: Learner) -> str:
    """What tables call it: its `name`, else its class."""
    return getattr(learner, "name", "") or type(learner).__name__


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
    return Representation("spectra", *latents, field.stars, members.stars, (ppca,), seconds, aside, roots)


def _roots(ppca: MaskedPPCA, members: AnySpectra) -> Tensor:
    """(M, K, K) R with R R^T the covariance of each star's latents in units of flux, eq. 1.3."""
    covariances = torch.cat([posterior.covariance() for posterior in ppca.posteriors(members)])
    roots: Tensor = ppca.scales[:, None] * torch.linalg.cholesky(covariances)
    return roots


def set_aside(embedding: Embedding, stars: Table, wavelength: Tensor, ppca: MaskedPPCA) -> Table:
    """One row for each bin that step 1 could not explain and did not use, eq. 1.12.

    Columns: APOGEE_ID; WAVELENGTH, Angstrom; DEVIATION, flux less the model's in standard deviations; N_COMPONENTS.
    """
    return Table(
        {
            "APOGEE_ID": np.asarray(stars["APOGEE_ID"], dtype=str)[embedding.stars.numpy()],
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
    name: str, field: Table, members: Table, elements: Sequence[str], relative_to_iron: bool = False
) -> Representation:
    """The survey's own abundances, dex: [X/H], or [X/Fe] with iron as [Fe/H] (paper, section 4.5).

    An element that most field stars lack is left out; then stars that lack one of the others are.

    Raises:
        InputError: where an element has no column, or what is left has fewer than two clusters with two members.

    Warns:
        NumericalWarning: names the elements and counts the stars that are left out.
    """
    absent = [element for element in elements if f"{element.upper()}_H" not in field.colnames]
    if absent:
        raise InputError(f"the star table has no abundances of {', '.join(absent)}: columns are named e.g. FE_H")
    rare = [element for element in elements if np.isfinite(_column(field, element)).mean() < MOST]
    if rare:
        _warn(f"{name}: most field stars lack {', '.join(rare)}: left out")
    kept = [element for element in elements if element not in rare]
    field_values, field_stars = _known(name, field, kept, relative_to_iron)
    member_values, member_stars = _known(name, members, kept, relative_to_iron)
    _, sizes = np.unique(np.asarray(member_stars["CLUSTER"], dtype=str), return_counts=True)
    if not kept or (sizes > 1).sum() < 2:
        raise InputError(f"{len(kept)} elements are known, in {(sizes > 1).sum()} clusters with two members: too few")
    return Representation(name, field_values, member_values, field_stars, member_stars)


def _known(name: str, stars: Table, elements: Sequence[str], relative_to_iron: bool) -> tuple[Tensor, Table]:
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


def _column(stars: Table, element: str) -> np.ndarray:
    return np.asarray(stars[f"{element.upper()}_H"], dtype=float)


def _warn(message: str) -> None:
    warnings.warn(message, NumericalWarning, stacklevel=3)
