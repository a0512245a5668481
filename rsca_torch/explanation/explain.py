"""Explanations of a feature, of a pair's distance and of a star, as tables whose shares add up to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from astropy.table import Table
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.explanation.asked import Asked, stars_of
from rsca_torch.explanation.contributions import OfStars, of_field, of_stars
from rsca_torch.explanation.labels import correlations
from rsca_torch.explanation.naming import Names
from rsca_torch.layers.rsca import RSCA
from rsca_torch.removal import without
from rsca_torch.spectra.bins import lacking
from rsca_torch.spectra.view import AnySpectra, View
from rsca_torch.survey.store import Store

__all__ = ["Explained", "Question"]

LARGEST = 3  # features of a star that are told line by line
NAMED = 3  # lines that are named beside a feature


@dataclass(frozen=True)
class Explained:
    """What carries a feature, a distance or a star's place.

    Attributes:
        title: one line.
        carried: what the shares are shares of.
        bins: a row a bin (of a star: and feature): WAVELENGTH, SHARE, ELEMENT, LINE, SOURCE, WINDOWS and more.
        lines: a row a line: ELEMENT, LINE, SHARE, BINS, SOURCE.
        windows: a row an element: ELEMENT, SHARE, BINS.
        further: of a feature its correlations, of a pair or a star the features.
        notes: what else a reader must know, a sentence each.
        simulated: whether the stars are.
    """

    title: str
    carried: str
    bins: Table
    lines: Table
    windows: Table
    further: Table
    notes: list[str] = field(default_factory=list)
    simulated: bool = False


class Question:
    """What can be asked of a model and a store.

    Args:
        model: a fitted RSCA.
        store: spectra of the same grid.
        names: gives bins' lines and windows.
        most: field stars that a feature's shares, spread and correlations are taken from, evenly spaced. None: all.

    Raises:
        InputError: the store is on another grid than the model, or has no two field stars with a valid bin.

    Example:
        >>> import tempfile
        >>> from rsca_torch import Spectra
        >>> from rsca_torch.survey.described.arrays import store_of
        >>> from rsca_torch.survey.line_list import LineList
        >>> random = np.random.default_rng(0)
        >>> axes, of = random.normal(size=(2, 20)) / 20, np.repeat(["A", "B", "C", ""], [4, 4, 4, 60])
        >>> centres = {name: random.normal(size=2) for name in "ABC"}
        >>> births = [centres[name] if name else random.normal(size=2) for name in of]
        >>> latents = np.array(births) + random.normal(size=(72, 2)) / 5
        >>> flux = 0.9 + latents @ axes + random.normal(size=(72, 20)) / 100
        >>> stars = {"id": [f"star {n}" for n in range(72)], "group": of, "first": latents[:, 0]}
        >>> spectra = Spectra(flux, sigma=np.full(flux.shape, 0.01), wavelength=np.arange(20.0) + 15000, stars=stars)
        >>> model = RSCA.fit(spectra.take(of == ""), spectra.take(of != ""), n_components=2)
        >>> lines = LineList(np.array([15005.0]), np.array(["Mg"]), np.array(["me"]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = store_of(spectra, f"{folder}/store")
        ...     names = Names(model.wavelength.numpy(), lines, {}, reach=1.0)
        ...     told = Question(model, store, names).pair("star 0", "star 1")
        >>> round(float(told.lines["SHARE"].sum()), 9), told.lines["ELEMENT"].tolist()
        (1.0, ['between lines', 'Mg'])
    """

    def __init__(self, model: RSCA, store: Store, names: Names, most: int | None = None) -> None:
        self.model, self.store, self.names = model, store, names
        lacks = lacking(torch.from_numpy(store.wavelength), model.wavelength.cpu())
        step = 1 if most is None else max(1, -(-len(store.field) // most))
        sample = self._read(store.field.take(slice(None, None, step)))
        seeing = _valid_bins(sample) > 0
        if seeing.sum() < 2:
            raise InputError(
                f"{seeing.sum()} of {len(sample)} field stars of the store {store.path} have a valid bin among the "
                "model's: two are needed, as answers are told beside the field"
            )
        self.field = sample if seeing.all() else sample.take(seeing)
        self.features = model.from_latents(model.ppca.latents(self.field))
        self.notes: list[str] = [lacks] if lacks else []
        if step > 1:
            self.notes.append(
                f"{len(sample):,} of {len(store.field):,} field stars, evenly spaced, stand for the field"
            )
        if not seeing.all():
            self.notes.append(f"{(~seeing).sum()} field stars without a valid bin are left out")

    def feature(self, number: int) -> Explained:
        """What carries a feature, from 1, the most important.

        Raises:
            InputError: there is no such feature, or it tells nothing.
        """
        column = self._column(number)
        (shared,) = of_field(self.model, self.field, [column])
        share = shared.share.numpy()
        bins = self.names.bins(share)
        bins["WEIGHT"] = self.model.weight[column].numpy()
        bins["VALID"] = shared.valid.numpy()
        found = correlations(self.features[:, column].numpy(), self.field.stars)
        notes = [*self.notes, *([f"of the star table {found}"] if str(found) else [])]
        title = f"Feature {number} of {len(self.model.sigma_r)}"
        carried = f"variance of feature {number} in the field"
        return self._told(title, carried, share, bins, found.table, notes)

    def pair(self, first: str, second: str) -> Explained:
        """What carries the squared distance of two stars.

        Raises:
            InputError: a star is not there, has no valid bin, or both are one, or their distance is 0.
        """
        asked = stars_of(self.store, [first, second])
        if asked[0].id == asked[1].id:
            raise InputError(f"pair: two different stars expected, got {asked[0].id!r:.60} twice")
        found = self._of(asked)
        parts, apart = found.distance_parts, found.features[0] - found.features[1]
        square = float(apart.square().sum())
        if not square > 0:
            raise InputError(
                f"pair: the distance of {asked[0].id!r:.60} and {asked[1].id!r:.60} is 0: nothing to explain"
            )
        share = (parts / square).numpy()
        bins = self.names.bins(share)
        bins["VALID"] = found.valid.sum(0).int().numpy()
        one, none = (float(share[bins["VALID"] == number].sum()) for number in (1, 0))
        assert none == 0, "a bin that neither star has adds nothing"
        nearer = float((self._from(found.features[0]) < square**0.5).double().mean())
        features = Table(
            {
                "FEATURE": np.arange(1, len(apart) + 1),
                "SHARE": (apart.square() / square).numpy(),
                "FIRST": found.features[0].numpy(),
                "SECOND": found.features[1].numpy(),
            }
        )
        neither, alone, both = np.bincount(bins["VALID"], minlength=3)
        notes = [
            f"distance {square**0.5:.3f}",
            f"{100 * nearer:.2f} % of {len(self.features):,} field stars are nearer to the first than the second is",
            f"{both} bins are used in both stars, {alone} in one alone (their share: {one:.3f}), {neither} in neither",
            *self.notes,
        ]
        title = f"{asked[0].id} ({asked[0].said}) and {asked[1].id} ({asked[1].said})"
        order = np.argsort(-features["SHARE"], kind="stable")
        return self._told(title, "squared distance of the pair", share, bins, features[order], notes)

    def star(self, name: str) -> Explained:
        """What makes a star stand out: its largest features in units of the field's spread, and what carries them.

        The shares are of what the largest feature exceeds the field's mean by; `further` names the lines of each.

        Raises:
            InputError: the star is not there, or has no valid bin.
        """
        (asked,) = stars_of(self.store, [name])
        found = self._of([asked])
        mean, spread = self.features.mean(0), self.features.std(0)
        telling = self.model.sigma_r.isfinite() & (spread > 0)
        units = torch.where(telling, (found.features[0] - mean) / spread, 0.0)
        order = units.abs().argsort(descending=True, stable=True)
        top = [int(column) for column in order[:LARGEST] if units[column] != 0]
        if not top:
            raise InputError(f"star {asked.id!r:.60} is at the field's mean in every feature: nothing to explain")
        usual = of_field(self.model, self.field, top)
        shares = [
            ((found.parts[0, column] - of.mean) / (found.features[0, column] - mean[column])).numpy()
            for column, of in zip(top, usual, strict=True)
        ]
        beyond = ((self.features - mean).abs() >= (found.features[0] - mean).abs()).double().mean(0)
        lines = {column: self._lines_of(share) for column, share in zip(top, shares, strict=True)}
        features = Table(
            {
                "FEATURE": order.numpy() + 1,
                "UNITS": units[order].numpy(),
                "AS_FAR": beyond[order].numpy(),
                "VALUE": found.features[0, order].numpy(),
                "LINES": [lines.get(int(column), "") for column in order],
            }
        )
        tables = []
        for column, share in zip(top, shares, strict=True):
            table = self.names.bins(share)
            table.add_column(np.full(len(table), column + 1), index=0, name="FEATURE")
            table["VALID"] = found.valid[0].int().numpy()
            tables.append(table)
        bins = Table({name: np.concatenate([table[name] for table in tables]) for name in tables[0].colnames})
        used = int(found.valid[0].sum())
        notes = [f"{used} of the model's {found.valid.shape[1]} bins are used in this star", *self.notes]
        far = f"feature {top[0] + 1} is {float(units[top[0]]):+.1f} spreads from the field's mean"
        title = f"{asked.id} ({asked.said}): {far}"
        carried = f"distance of feature {top[0] + 1} from the field's mean"
        return self._told(title, carried, shares[0], bins, features, notes)

    def _told(
        self, title: str, carried: str, share: NDArray[np.float64], bins: Table, further: Table, notes: Sequence[str]
    ) -> Explained:
        lines, windows = self.names.by_line(share), self.names.by_window(share)
        simulated = bool(self.store.origin["simulated"])
        return Explained(title, carried, bins, lines, windows, further, list(notes), simulated)

    def _column(self, number: int) -> int:
        there = len(self.model.sigma_r)
        telling = int(self.model.sigma_r.isfinite().sum())
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= there:
            raise InputError(f"feature={number!r:.40}: the model has features 1 to {there}, 1 the most important")
        if number > telling:
            raise InputError(
                f"feature={number}: it tells nothing about siblings (its weights are 0): 1 to {telling} of {there} do"
            )
        return number - 1

    def _of(self, asked: list[Asked]) -> OfStars:
        spectra = [self._read(star.spectrum) for star in asked]
        for star, one in zip(asked, spectra, strict=True):
            if not _valid_bins(one).any():
                raise InputError(
                    f"star {star.id!r:.60} has no valid bin among the model's {len(self.model.wavelength)}: its "
                    "features are the prior's, and there is nothing to explain"
                )
        each = [of_stars(self.model, one) for one in spectra]
        return OfStars(*(torch.cat([getattr(of, name) for of in each]) for name in ("parts", "features", "valid")))

    def _read(self, spectra: View) -> AnySpectra:
        return without(spectra.on(self.model.wavelength), self.model.removal)

    def _from(self, features: Tensor) -> Tensor:
        distances: Tensor = torch.linalg.vector_norm(self.features - features, dim=1)
        return distances

    def _lines_of(self, share: NDArray[np.float64]) -> str:
        rows = self.names.by_line(share)
        known = rows[np.isfinite(rows["LINE"])][:NAMED]
        return ", ".join(f"{row['ELEMENT']} {row['LINE']:.1f}" for row in known)


def _valid_bins(spectra: AnySpectra) -> NDArray[np.int64]:
    """(N,) how many bins of each star are valid, read some stars at a time."""
    counts = []
    for first in range(0, len(spectra), 256):
        flux, valid, _ = spectra.read(slice(first, first + 256))
        counts.append((flux.isfinite() if valid is None else valid).sum(1).numpy())
    return np.concatenate(counts) if counts else np.zeros(0, dtype=np.int64)
