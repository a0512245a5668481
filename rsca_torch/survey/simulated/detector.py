"""From a noise-free spectrum to what a file holds: noise, quoted errors, and the bins that must not be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.signal import lfilter

from rsca_torch.errors import InputError
from rsca_torch.survey.apogee import CHIPS, GRID, N_PIXELS
from rsca_torch.survey.simulated.release import Release
from rsca_torch.survey.simulated.spectra import LIGHT, Flux, bin_at, imprint, velocity
from rsca_torch.survey.simulated.tables import SKY_LINES

__all__ = ["Detector"]


@dataclass(frozen=True)
class Detector:
    """Noise and censoring.

    Attributes:
        noise: error of a bin of unit flux times S/N, in the blue, green and red chip.
        floor: the smallest error that is quoted; the noise itself goes on falling.
        sky_width: standard deviation of a sky line's mark, pixels; sky_reach: pixels marked on either side.
        sky_fade: how sharply a line's marks set in as S/N falls (power of S/N).
        sky_residual: spread of the flux under a mark at its peak, share of the continuum.
        bad_runs: mean number of runs of bad pixels a star; bad_length: their mean length, pixels.
        cosmic_rays: mean number of hits that nobody flagged; cosmic_height: their mean height.
        trusted: smallest flux that the pipeline believes.
        misquoted: the quoted error is the true one times a factor between these two, drawn for every observation and
            chip (uniform in the logarithm).
        correlation: of the noise of neighbouring bins; that of bins k apart is its k-th power.

    Raises:
        InputError: a factor that is not positive, or a correlation that is not at least 0 and below 1.
    """

    noise: tuple[float, float, float] = (0.93, 0.93, 1.12)
    floor: float = 0.005
    sky_width: float = 3.0
    sky_reach: int = 10
    sky_fade: float = 4.0
    sky_residual: float = 0.05
    bad_runs: float = 24.0
    bad_length: float = 5.0
    cosmic_rays: float = 2.0
    cosmic_height: float = 0.15
    trusted: float = 0.001
    misquoted: tuple[float, float] = (1.0, 1.0)
    correlation: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.misquoted[0] <= self.misquoted[1]:
            raise InputError(f"detector.misquoted must be two rising positive factors, got {list(self.misquoted)}")
        if not 0 <= self.correlation < 1:
            raise InputError(f"detector.correlation must be at least 0 and below 1, got {self.correlation}")

    def expose(self, flux: Flux, stars: Table, release: Release, rng: np.random.Generator) -> tuple[Flux, Flux]:
        """Add noise and censor.

        Args:
            flux: (n, 8575) noise-free, continuum 1.
            stars: n observations, with SNR, VHELIO, BC and NVISITS.
            release: what stands in a bad bin, and how sky lines are marked.
            rng: source of every draw.

        Returns:
            flux and quoted error as the release's files hold them, each (n, 8575).
        """
        noise = np.zeros(N_PIXELS)
        for value, chip in zip(self.noise, CHIPS.values(), strict=True):
            noise[slice(*chip)] = value
        sigma = (noise / np.asarray(stars["SNR"])[:, None]).astype(np.float32)
        sky = self._sky(stars, rng)
        deviates = self._correlated(rng.standard_normal(flux.shape, dtype=np.float32))
        observed = flux + np.hypot(sigma, self.sky_residual * sky) * deviates
        self._add_cosmic_rays(observed, rng)
        floor = np.float32(self.floor if release.has_floor else 0)
        error = np.maximum(self._quoted(sigma, rng), floor) * release.sky_error(sky)
        bad = self._bad_runs(len(stars), rng) | (observed < self.trusted) | (observed > release.highest_flux)
        observed[bad], error[bad] = release.bad_flux, release.bad_error
        gap = ~GRID.usable()
        observed[:, gap] = error[:, gap] = 0
        return observed, error

    def _sky(self, stars: Table, rng: np.random.Generator) -> Flux:
        """(n, 8575) 1 at the peak of a marked sky line, 0 where there is none; it stays put while the star moves."""
        ratio = np.asarray(stars["SNR"])[:, None] / SKY_LINES["half_at"]
        marked = rng.random(ratio.shape) < 1 / (1 + ratio**self.sky_fade)
        sky = np.zeros((len(stars), N_PIXELS), dtype=np.float32)
        for visit in velocity(stars).T:
            centre = bin_at(SKY_LINES["wavelength"] / (1 + visit[:, None] / LIGHT))
            imprint(sky, centre, marked.astype(float), self.sky_width, self.sky_reach, strongest=True)
        return sky

    def _correlated(self, deviates: Flux) -> Flux:
        """(n, 8575) of unit variance still, each bin with something of the one before."""
        if not self.correlation:
            return deviates
        fresh = deviates * np.sqrt(1 - self.correlation**2)
        fresh[:, 0] = deviates[:, 0]
        return np.asarray(lfilter([1.0], [1.0, -self.correlation], fresh, axis=1), dtype=np.float32)

    def _quoted(self, sigma: Flux, rng: np.random.Generator) -> Flux:
        low, high = np.log(self.misquoted)
        if low == high == 0:
            return sigma
        quoted = sigma.copy()
        for chip in CHIPS.values():
            quoted[:, slice(*chip)] *= np.exp(rng.uniform(low, high, (len(sigma), 1))).astype(np.float32)
        return quoted

    def _bad_runs(self, n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        row = np.repeat(np.arange(n), rng.poisson(self.bad_runs, n))
        start = rng.integers(0, N_PIXELS, len(row))
        end = np.minimum(start + rng.geometric(1 / self.bad_length, len(row)), N_PIXELS)
        edges = np.zeros((n, N_PIXELS + 1), dtype=np.int32)
        np.add.at(edges, (row, start), 1)
        np.add.at(edges, (row, end), -1)
        return np.asarray(edges.cumsum(axis=1)[:, :-1] > 0)

    def _add_cosmic_rays(self, flux: Flux, rng: np.random.Generator) -> None:
        row = np.repeat(np.arange(len(flux)), rng.poisson(self.cosmic_rays, len(flux)))
        height = 0.05 + rng.exponential(self.cosmic_height, len(row))
        np.add.at(flux, (row, rng.integers(0, N_PIXELS, len(row))), height.astype(np.float32))
