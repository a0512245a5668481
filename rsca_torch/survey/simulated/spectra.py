"""Noise-free spectra: a giant's absorption lines through an instrument, and what air and gas leave in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.survey.apogee import CHIPS, N_PIXELS, wavelength
from rsca_torch.survey.simulated.chemistry import ELEMENT_INDEX, expected, present
from rsca_torch.survey.simulated.tables import LINES

__all__ = [
    "LIGHT",
    "LINE_WIDTH",
    "LOG_START",
    "LOG_STEP",
    "Flux",
    "OfStar",
    "Synthesis",
    "bin_at",
    "imprint",
    "product",
]

Array = NDArray[np.float64]
Flux = NDArray[np.float32]

LIGHT = 299_792.458  # km/s
LOG_START, LOG_STEP = 4.179, 6e-6  # log10 Angstrom, of the pixels
LINE_WIDTH = 0.40  # Angstrom, of the table's Gaussians
_REACH = 12  # pixels on either side of a line

#: Molecules need two elements: how much a line of the species follows each abundance. All others follow their own.
_MOLECULES = {"C": {"C": 1.0, "O": 0.5}, "N": {"N": 1.0, "C": 0.6}}


class OfStar(NamedTuple):
    """What is a star's own and no label says, each a standard normal deviate.

    Attributes:
        turbulence: (n, 1).
        broadening: (n,) of the line width.
        continuum: (n, 15) of the normalisation's error, one a polynomial.
    """

    turbulence: Array
    broadening: Array
    continuum: Array


@dataclass(frozen=True)
class Synthesis:
    """How a star's labels become flux.

    Attributes:
        steepest: largest relative change of a line's optical depth per +100 K, +1 dex of log g, [M/H], [alpha/M]; the
            table's faintest lines have slopes that are noise.
        saturation: optical depth at which a line follows its element's abundance half as fast as a weak one.
        turbulence: star-to-star spread (natural logarithm) of the optical depth of saturated lines; a line's own share
            grows with its depth.
        broadening: star-to-star spread of the line width (rotation, macroturbulence), relative.
        line_spread: relative change of the line width across the 300 fibres, per chip.
        continuum: spread of the normalisation's error at S/N 100, in each of five polynomials a chip.
        night: spread of what a night leaves in all its spectra.
        velocity_error: spread of the error of an observation's velocity, km/s, by which its lines are displaced.
        persistence: typical rise at the blue edge in fibres above 200.
        telluric_bands: first line, end and spacing of the air's bands, Angstrom in the observer's frame.
        telluric: spread of the depth that is left of them.
        interstellar: centre and width (vacuum Angstrom), strength (Angstrom per magnitude of A_V) of the bands.
        a_k_per_a_v: extinction law.

    What is a share has the continuum as its unit.
    """

    steepest: tuple[float, float, float, float] = (0.4, 1.0, 3.0, 3.0)
    saturation: float = 0.5
    turbulence: float = 0.06
    broadening: float = 0.02
    line_spread: tuple[float, float, float] = (0.10, 0.07, 0.12)
    continuum: float = 0.004
    night: float = 0.001
    velocity_error: float = 0.0
    persistence: float = 0.015
    telluric_bands: tuple[tuple[float, float, float], ...] = (
        (15160.0, 15260.0, 11.0),
        (15690.0, 15830.0, 3.9),
        (15990.0, 16140.0, 3.9),
        (16360.0, 16900.0, 13.0),
    )
    telluric: float = 0.004
    interstellar: tuple[tuple[float, float, float], ...] = (
        (15272.42, 1.6, 0.1),
        (15617.0, 1.6, 0.0125),
        (15653.0, 1.6, 0.0125),
        (15673.0, 1.6, 0.0125),
    )
    a_k_per_a_v: float = 0.11

    def draw_own(self, n: int, rng: np.random.Generator) -> OfStar:
        """What is each of n stars' own."""
        normal = rng.standard_normal
        return OfStar(normal((n, 1)), normal(n), normal((n, len(_polynomials()))))

    def stellar(self, stars: Table, own: OfStar) -> Flux:
        """(n, 8575) the stars alone, as the survey's fibres spread them; the continuum is 1.

        Args:
            stars: n observations.
            own: the result of `draw_own`.
        """
        depth = self._optical_depth(stars)
        stirred = self.turbulence * own.turbulence
        depth = (depth * np.exp(stirred * depth / (depth + self.saturation))).astype(np.float32)
        tau, tau_wider = np.zeros((2, len(stars), N_PIXELS), dtype=np.float32)
        for line, (start, profile, wider) in enumerate(zip(*_profiles(), strict=True)):
            pixels = slice(start, start + len(profile))
            tau[:, pixels] += depth[:, line, None] * profile
            tau_wider[:, pixels] += depth[:, line, None] * wider
        wider_by = self.broadening * own.broadening
        if "BROADER" in stars.colnames:
            wider_by = wider_by + np.asarray(stars["BROADER"])
        fibre = np.mean(stars["FIBER"], axis=1) / 150 - 1
        for chip, amplitude in zip(CHIPS.values(), self.line_spread, strict=True):
            # Wider lines to first order; sharpest in the middle of the slit head.
            spread = (wider_by + amplitude * (1.5 * fibre**2 - 0.5 + 0.4 * fibre)).astype(np.float32)
            tau[:, slice(*chip)] += spread[:, None] * tau_wider[:, slice(*chip)]
        return np.asarray(np.exp(-tau), dtype=np.float32)

    def draw_nights(self, n: int, rng: np.random.Generator) -> Array:
        """(n, 15 + bands) how much of each polynomial and each band of the air n nights leave, in its spread."""
        return rng.standard_normal((n, len(_polynomials()) + len(self.telluric_bands)))

    def displace(self, flux: Flux, rng: np.random.Generator) -> Flux:
        """(n, 8575) spectra brought to rest with a velocity that is a little wrong."""
        if not self.velocity_error:
            return flux
        pixels = rng.normal(0, self.velocity_error, (len(flux), 1)) / (LIGHT * LOG_STEP * np.log(10))
        return np.asarray(flux - pixels * np.gradient(flux, axis=1), dtype=np.float32)

    def systematic(self, stars: Table, nights: Array, own: OfStar, rng: np.random.Generator) -> Flux:
        """What comes on top of the star: gas, air, normalisation and persistence.

        Args:
            stars: n observations.
            nights: the result of `draw_nights`, one row a night.
            own: the result of `draw_own`.
            rng: source of what is each observation's own.

        Returns:
            (n, 8575) what the flux is to be multiplied with.
        """
        n = len(stars)
        visit = np.arange(stars["NIGHT"].shape[1]) < np.asarray(stars["NVISITS"])[:, None]
        shared = np.where(visit[..., None], nights[stars["NIGHT"]], 0).sum(axis=1) / visit.sum(axis=1)[:, None]
        polynomials = _polynomials()
        error = self.continuum * (100 / np.asarray(stars["SNR"])) ** 0.5
        normalised = own.continuum * error[:, None]
        factor = 1 + product(normalised + self.night * shared[:, : len(polynomials)], polynomials).astype(np.float32)
        bands = self.telluric * (rng.standard_normal((n, len(self.telluric_bands))) + shared[:, len(polynomials) :])
        for band, (start, end, spacing) in enumerate(self.telluric_bands):
            air = np.arange(start, end, spacing)
            centre = bin_at(air / (1 + np.mean(velocity(stars), axis=1)[:, None] / LIGHT))
            imprint(factor, centre, np.broadcast_to(-bands[:, band, None], centre.shape), 2.5, 8)
        self._interstellar(factor, stars)
        affected = np.mean(stars["FIBER"], axis=1) > 200
        factor[:, slice(*CHIPS["blue"])] += (affected * rng.exponential(self.persistence, n))[:, None] * _blue_third()
        return np.asarray(factor, dtype=np.float32)

    def _optical_depth(self, stars: Table) -> Array:
        depth = LINES["depth"]
        tau = -np.log1p(-depth)
        steps = np.stack(
            [(stars["TEFF"] - 4500) / 100, stars["LOGG"] - 2.0, stars["FE_H"] + 0.3, stars["ALPHA_M"] - 0.05], axis=1
        )
        slope = np.stack([LINES[name] for name in ("d_teff_100k", "d_logg", "d_m_h", "d_alpha_m")], axis=1)
        relative = slope / ((1 - depth) * tau)[:, None]
        relative = np.clip(relative, -np.array(self.steepest), self.steepest)
        # A parabola of the labels, not a line: it stays positive, and a quadratic model of real giants asks for it.
        bulk = np.maximum(1 + product(steps, relative.T) / 2, 0.0) ** 2
        response = np.log(10) / (1 + tau * bulk / self.saturation)
        return np.asarray(tau * bulk * np.exp(response * product(_individual(stars), _followed())))

    def _interstellar(self, factor: Flux, stars: Table) -> None:
        rest, width, strength = np.reshape(self.interstellar, (-1, 3)).T  # there may be none
        shift = (stars["V_GAS"] - stars["VHELIO"]) / LIGHT
        area = strength * (np.asarray(stars["AK"]) / self.a_k_per_a_v)[:, None]
        depth = area / (width * np.sqrt(2 * np.pi))
        bins = width / (rest * np.log(10) * LOG_STEP)
        imprint(factor, bin_at(rest * (1 + shift[:, None])), -depth, bins, 28)


def velocity(stars: Table) -> Array:
    """(n, visits) velocity to the telescope, km/s; a visit that was not made repeats the first."""
    made = np.arange(stars["BC"].shape[1]) < np.asarray(stars["NVISITS"])[:, None]
    return np.asarray(np.asarray(stars["VHELIO"])[:, None] - np.where(made, stars["BC"], stars["BC"][:, :1]))


def bin_at(angstrom: Array) -> Array:
    """The fractional pixel of a vacuum wavelength."""
    return np.asarray((np.log10(angstrom) - LOG_START) / LOG_STEP)


def imprint(
    target: Flux, centre: Array, height: Array, width: float | Array, reach: int, strongest: bool = False
) -> None:
    """Add Gaussians to rows of ``target`` in place.

    Args:
        target: (n, P) what to change.
        centre: (n, L) fractional pixels; Gaussians off the grid are cut off.
        height: (n, L) peak values.
        width: standard deviation, pixels; one for all or (L,) one a column.
        reach: pixels on either side of the peak that are touched.
        strongest: keep the largest value where Gaussians overlap, instead of adding them.
    """
    middle = np.round(centre).astype(np.int64)
    wide = np.broadcast_to(width, centre.shape)
    for offset in range(-reach, reach + 1):
        pixel = middle + offset
        row, line = np.nonzero((pixel >= 0) & (pixel < target.shape[1]) & (height != 0))
        column = pixel[row, line]
        value = height[row, line] * np.exp(-0.5 * ((column - centre[row, line]) / wide[row, line]) ** 2)
        (np.maximum if strongest else np.add).at(target, (row, column), value.astype(np.float32))


def _individual(stars: Table) -> Array:
    """(n, 26) [X/H] beyond what goes with [Fe/H], [alpha/M] and the branch in the mean giant."""
    at_birth = expected(np.asarray(stars["FE_H"]), np.asarray(stars["ALPHA_M"]))
    return np.asarray(stars["PRESENT_X_H"] - present(at_birth, np.asarray(stars["LOGG"]), mass=1.3, clump=False))


def _followed() -> Array:
    """(26, lines) how much each line follows each species."""
    share = np.zeros((len(ELEMENT_INDEX), len(LINES)))
    for line, species in enumerate(LINES["species"]):
        for element, weight in _MOLECULES.get(str(species), {str(species): 1.0}).items():
            share[ELEMENT_INDEX[element], line] = weight
    return share


def _profiles() -> tuple[NDArray[np.int64], Flux, Flux]:
    """The first pixel of each line, its Gaussian of unit height, and that one's change with width at constant area.

    The last two are (lines, 25): six standard deviations on either side.
    """
    centre = LINES["wavelength"]
    start = np.round(bin_at(centre)).astype(np.int64) - _REACH
    pixels = start[:, None] + np.arange(2 * _REACH + 1)
    distance = ((wavelength()[pixels] - centre[:, None]) / LINE_WIDTH) ** 2
    profile = np.exp(-0.5 * distance)
    return start, profile.astype(np.float32), (profile * (distance - 1)).astype(np.float32)


def product(left: Array, right: Array) -> Array:
    """A matrix product whose last digits do not depend on how many threads BLAS has: the same seed, the same bytes."""
    return np.asarray(np.einsum("nk,kp->np", left, right, optimize=False))


def _polynomials() -> Array:
    """(15, 8575) Legendre polynomials of order 0 to 4 on each chip, higher ones weaker."""
    rows = np.zeros((len(CHIPS), 5, N_PIXELS))
    for chip, (start, end) in enumerate(CHIPS.values()):
        x = np.linspace(-1, 1, end - start)
        rows[chip, :, start:end] = np.polynomial.legendre.legvander(x, 4).T / np.arange(1, 6)[:, None] ** 0.5
    return rows.reshape(-1, N_PIXELS)


def _blue_third() -> Flux:
    """(3028,) 1 at the blue end of the blue chip, 0 from a third of it on."""
    start, end = CHIPS["blue"]
    return np.clip(1 - 3 * np.arange(end - start) / (end - start), 0, 1).astype(np.float32)
