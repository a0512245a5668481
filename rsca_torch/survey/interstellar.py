"""Diffuse interstellar bands: found in the survey's own spectra and censored (docs/maths.md, "Finding features")."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.ppca.fit import fit_ppca
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.spectra.blocks import Source
from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.store import Store

__all__ = ["Feature", "FoundCensoring", "InterstellarFinder", "Residuals", "Side", "require_apart", "residuals", "side"]

log = logging.getLogger(__name__)


class Side(NamedTuple):
    """The stars on one side of a cut.

    Attributes:
        rows: which, (n,).
        said: which, in words.
    """

    rows: NDArray[np.intp]
    said: str


def side(
    values: NDArray[np.floating], name: str, bound: float, fewest: int, make_up: bool, *, above: bool = False
) -> Side:
    """The stars on one side of a bound.

    Args:
        values: (N,) of a column; NaN where it is not known.
        name: what they are called.
        bound: of the values.
        fewest: stars that are needed.
        make_up: where the bound leaves fewer, take so many of the lowest (highest) values.
        above: the stars of larger values; else those of smaller ones.

    Raises:
        InputError: too few stars.
    """
    sign, sense, extreme, reach = (-1, ">", "highest", "down to") if above else (1, "<", "lowest", "up to")
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(sign * values[known], kind="stable")]
    inside = int((sign * values[known] < sign * bound).sum())
    cut = f"{name} {sense} {bound:g}"
    if inside >= fewest:
        return Side(np.sort(order[:inside]), f"the {inside:,} stars with {cut}")
    if len(known) < fewest or not make_up:
        cure = f"{len(known):,} have a value at all" if len(known) < fewest else "move the cut, or give make_up=true"
        raise InputError(f"{cut} leaves {inside:,} of {len(values):,} stars, {fewest:,} are needed: {cure}")
    last = values[order[fewest - 1]]
    said = f"the {fewest:,} stars with the {extreme} {name}, {reach} {last:.3g} ({cut} leaves {inside:,})"
    return Side(np.sort(order[:fewest]), said)


def require_apart(one: Side, other: Side) -> None:
    """Raises InputError where a star is on both sides: too few stars to make up both."""
    if both := len(np.intersect1d(one.rows, other.rows)):
        raise InputError(f"{both} stars are among both {one.said} and {other.said}: the survey has too few for this")


class Residuals(NamedTuple):
    """What a plane fitted on other stars leaves of some, bin by bin; (P,) float64, NaN where too few stars tell."""

    stars: Tensor  # how many have a valid bin in the window about it
    mean: Tensor  # of flux minus the model's
    absolute: Tensor  # mean of its absolute value
    smooth: Tensor  # mean over stars of each star's mean in a window about the bin
    error: Tensor  # standard error of `smooth`


def residuals(ppca: MaskedPPCA, source: Source, wavelength: Tensor, width: float) -> Residuals:
    """Means over stars, read block by block, of what the model leaves of them.

    Args:
        ppca: of other stars.
        source: N spectra.
        wavelength: (P,) rising, Angstrom.
        width: of the window, Angstrom.
    """
    sums = torch.zeros(6, len(wavelength), dtype=torch.float64)
    for residual, valid, _ in ppca.misfits(source):
        smooth, told = smoothed(residual, valid, wavelength, width)
        parts = (told, smooth, smooth.square(), valid, residual, residual.abs())
        sums += torch.stack([part.sum(0).double() for part in parts]).cpu()
    stars, smooth, squares, valid_stars, total, absolute = sums
    smooth = smooth / stars
    variance = (squares - stars * smooth.square()).clamp(min=0) / (stars - 1)
    error = torch.where(stars > 1, (variance / stars).sqrt(), torch.nan)
    return Residuals(stars, total / valid_stars, absolute / valid_stars, smooth, error)


def smoothed(residual: Tensor, valid: Tensor, wavelength: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """(n, P) means over each star's valid bins in the window about a bin, 0 where it has none; whether it has any.

    Args:
        residual: (n, P), 0 where not valid.
        valid: (n, P) bool.
        wavelength: (P,) rising, Angstrom.
        width: of the window, Angstrom.
    """
    first = torch.searchsorted(wavelength, wavelength - width / 2)
    end = torch.searchsorted(wavelength, wavelength + width / 2, right=True)

    def within(values: Tensor) -> Tensor:
        running = torch.nn.functional.pad(values.double().cumsum(1), (1, 0))
        return running[:, end] - running[:, first]

    bins = within(valid).round()
    return torch.where(bins > 0, within(residual) / bins.clamp(min=1), 0), bins > 0


class Feature(NamedTuple):
    """An interval in which light is lacking; Angstrom, and shares of the continuum."""

    first: float
    end: float
    deepest: float  # where it is deepest
    depth: float  # there
    error: float  # standard error of the depth
    band: float  # the nearest known band

    @property
    def significance(self) -> float:
        """Depth in standard errors."""
        return self.depth / self.error


@dataclass(frozen=True)
class InterstellarFinder:
    """What high extinction adds to spectra, and the intervals to censor for it (paper, Appendix A).

    Attributes:
        low: mag; the plane is fitted on stars with an extinction below it.
        high: mag; bands are looked for in stars above it.
        fewest_low: stars of low extinction that are needed.
        fewest_high: stars of high extinction that are needed.
        make_up: where a cut leaves fewer, take so many of the lowest or highest extinction.
        width: Angstrom, of the window in which each star's residuals are averaged.
        depth: share of the continuum that must be lacking in a bin, in the mean.
        significance: the same, in standard errors.
        fewest_stars: that must tell of a bin.
        padding: Angstrom, added on either side of what is found.
        bands: centres of known bands, Angstrom, to name what is found.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    low: float
    high: float
    fewest_low: int
    fewest_high: int
    make_up: bool
    width: float
    depth: float
    significance: float
    fewest_stars: int
    padding: float
    bands: Sequence[float]

    def __post_init__(self) -> None:
        if not (self.low < self.high and self.width > 0 and self.depth > 0 and self.significance > 0):
            raise InputError(
                "low < high and a positive width, depth and significance expected, got "
                f"{self.low}, {self.high}, {self.width}, {self.depth} and {self.significance}"
            )
        if not (self.padding > 0 and self.fewest_stars > 1 and self.bands):
            raise InputError(
                "padding > 0, fewest_stars > 1 and some bands expected, got "
                f"{self.padding}, {self.fewest_stars} and {list(self.bands)}"
            )

    def sides(self, stars: Stars) -> tuple[Side, Side]:
        """(Stars of low extinction, stars of high extinction).

        Raises:
            InputError: too few stars, or the extinction of none is known.
        """
        values = stars.extinction
        column = stars.roles["extinction"]
        if not np.isfinite(values).any():
            raise InputError(f"the column {column} of the star table has no value: ingest a catalogue that has it")
        low = side(values, column, self.low, self.fewest_low, self.make_up)
        high = side(values, column, self.high, self.fewest_high, self.make_up, above=True)
        require_apart(low, high)
        return low, high

    def features(self, found: Residuals, wavelength: Tensor) -> list[Feature]:
        """The intervals in which stars of high extinction lack light, by wavelength.

        Args:
            found: of stars of high extinction, about a plane of stars of low extinction.
            wavelength: (P,) Angstrom, of the bins.
        """
        lacking = -found.smooth
        seen = (lacking > self.depth) & (lacking > self.significance * found.error) & (found.stars >= self.fewest_stars)
        places = seen.nonzero()[:, 0]
        if not len(places):
            return []
        gaps = wavelength[places].diff() > 2 * self.padding  # intervals that meet are one
        runs = places.tensor_split((gaps.nonzero()[:, 0] + 1).tolist())
        return [self._feature(run, lacking, found.error, wavelength) for run in runs]

    def _feature(self, run: Tensor, lacking: Tensor, error: Tensor, wavelength: Tensor) -> Feature:
        deepest = run[lacking[run].argmax()]
        first = max(float(wavelength[run[0]]) - self.padding, float(wavelength[0]))
        end = min(float(wavelength[run[-1]]) + self.padding, float(wavelength[-1]))
        angstrom = float(wavelength[deepest])
        band = min(self.bands, key=lambda band: abs(band - angstrom))
        return Feature(first, end, angstrom, float(lacking[deepest]), float(error[deepest]), band)


@dataclass(frozen=True, kw_only=True)
class FoundCensoring(Censoring):
    """A rule some of whose interstellar ranges are yet to be found (`rsca ingest censoring=found`).

    Attributes:
        finder: finds them.
        ppca: n_components, noise and further options of `fit_ppca`, for the plane of stars of low extinction.
    """

    finder: InterstellarFinder
    ppca: Mapping[str, Any] = field(default_factory=dict)

    def with_ranges(self, found: Sequence[Feature]) -> Censoring:
        """The rule that a store can hold: what was given, and what was found."""
        ranges = [*self.interstellar_angstrom, *([feature.first, feature.end] for feature in found)]
        return Censoring(self.max_error, self.min_flux, self.interstellar_pixels, ranges)

    def find(self, store: Store) -> list[Feature]:
        """The intervals to censor.

        Args:
            store: of the survey, censored but for what is to be found.

        Raises:
            InputError: too few stars of low or of high extinction, or of whom it is known.
        """
        spectra = store.select(~store.is_member)
        low, high = self.finder.sides(spectra.stars)
        log.info("interstellar features: a plane of %s, residuals of %s", low.said, high.said)
        fields = spectra.take(low.rows), spectra.take(high.rows)
        plane = fit_ppca(fields[0], **self.ppca, wavelength=spectra.wavelength)
        found = residuals(plane, fields[1], spectra.wavelength, self.finder.width)
        return self.finder.features(found, spectra.wavelength)
