"""GALAH-like and LAMOST-like data: files in the surveys' real layouts, of drawn stars whose families are alike."""

from __future__ import annotations

import numpy as np
from astropy.io import fits
from astropy.table import Table

LIGHT = 299792.458
NUMBER = 4_611_686_018_427_387_904  # 2^62: a float of it would be another number for most stars
STRONG = (4862.68, 5891.58, 5897.56, 6564.61, 8500.36, 8544.44, 8664.52)


def drawn_stars(n_field=126, families="ABCD", size=6, seed=0):
    """(table, latents): families alike in two of three directions."""
    rng = np.random.default_rng(seed)
    family = np.array([""] * n_field + [name for name in families for _ in range(size)])
    latents = rng.normal(size=(len(family), 3))
    for name in families:
        rows = family == name
        latents[rows] = rng.normal(size=3) + rng.normal(size=(rows.sum(), 3)) * [0.05, 0.1, 1.0]
    table = Table({"family": family, "speed": np.round(rng.uniform(-60, 60, len(family)), 2)})
    return table, latents


def normalised_flux(wavelength, latents, width):
    """(P,) of one star: strong lines that all have, weak ones whose depths follow the latents. Vacuum, at rest."""
    rng = np.random.default_rng(5)
    flux = np.ones(len(wavelength))
    for line in STRONG:
        flux -= 0.5 * np.exp(-0.5 * ((wavelength / line - 1) * LIGHT / max(width, 25.0)) ** 2)
    lines = np.arange(4800.0, 7800.0, max(2.0, width / 8))
    depths = 0.1 + 0.02 * rng.normal(size=(len(lines), 3)) @ latents
    inside = (lines > wavelength[0] - 5) & (lines < wavelength[-1] + 5)
    for line, depth in zip(lines[inside], depths[inside], strict=True):
        flux -= depth * np.exp(-0.5 * ((wavelength / line - 1) * LIGHT / width) ** 2)
    return flux


def air_of(vacuum):
    """Air wavelengths, written here a second time: Birch & Downs as in Morton (2000), eq. 8."""
    s2 = (1e4 / vacuum) ** 2
    return vacuum / (1 + 8.34254e-5 + 2.406147e-2 / (130 - s2) + 1.5998e-4 / (38.9 - s2))


ARMS = {1: (4850.0, 4876.0), 2: (5880.0, 5906.0), 3: (6551.0, 6577.0), 4: (7710.0, 7730.0)}


def write_galah(root, noise=0.01, medium="air"):
    """Four files a star: HDU 4 normalised flux, HDU 1 relative error; camera 4's HDU 4 is shorter; own grids, air."""
    stars, latents = drawn_stars()
    rng = np.random.default_rng(1)
    root.mkdir()
    stars["sobject_id"] = NUMBER + np.arange(len(stars))
    for star, latent in zip(stars, latents, strict=True):
        doppler = 1 + star["speed"] / LIGHT
        for arm, (first, last) in ARMS.items():
            start, step = first + rng.uniform(0, 0.1), 0.1 * rng.uniform(0.98, 1.02)
            given = start + step * np.arange(int((last - first) / step))
            vacuum = given if medium == "vacuum" else vacuum_of(given)
            flux = normalised_flux(vacuum / doppler, latent, 12.0)
            error = np.full(len(given), noise)
            flux = flux + error * rng.normal(size=len(given))
            hdus = [fits.PrimaryHDU(100 * flux), *(fits.ImageHDU() for _ in range(3)), fits.ImageHDU()]
            hdus[1] = fits.ImageHDU(error / np.abs(flux))
            skip = 7 if arm == 4 else 0
            hdus[4] = fits.ImageHDU(flux[skip:])
            for number, offset in ((1, 0), (4, skip)):
                hdus[number].header.update(CRVAL1=start + offset * step, CDELT1=step, CRPIX1=1 if arm % 2 else 0)
            fits.HDUList(hdus).writeto(root / f"{star['sobject_id']}{arm}.fits")
    for column, error in (("fe_h", 0.05), ("Mg_fe", 0.03), ("Ti2_fe", 0.04)):
        stars[column] = np.round(rng.normal(-0.2, 0.2, len(stars)), 3)
        stars[f"e_{column}"], stars[f"flag_{column}"] = error, (rng.random(len(stars)) < 0.1).astype(np.int32)
    stars.rename_column("speed", "RV_GALAH")  # another case than the description's
    stars.write(root / "catalogue.fits")
    return stars


def vacuum_of(air):
    """By bisection on `air_of`."""
    low, high = air, air * 1.0005
    for _ in range(60):
        middle = (low + high) / 2
        low, high = np.where(air_of(middle) < air, middle, low), np.where(air_of(middle) < air, high, middle)
    return (low + high) / 2


def write_lamost(root, step=4e-4, noise=0.02):
    """A file a star, one row in HDU 1; vacuum, heliocentric, ivar, not normalised, lengths differ."""
    stars, latents = drawn_stars(seed=3)
    rng = np.random.default_rng(2)
    root.mkdir()
    stars["obsid"] = 1000 + np.arange(len(stars))
    stars["lmjd"], stars["planid"], stars["spid"] = 56000, "GAC1", 3
    stars["fiberid"] = np.arange(len(stars))
    for star, latent in zip(stars, latents, strict=True):
        n = 560 + rng.integers(0, 4)
        wavelength = 10 ** (np.log10(6200.0) + step / 4 * np.arange(n))
        flux = normalised_flux(wavelength / (1 + star["speed"] / LIGHT), latent, 80.0)
        level = 1000 * (wavelength / 6500) ** rng.uniform(-1, 1)
        error = noise * level
        flux = level * flux + error * rng.normal(size=n)
        ivar, mask = error**-2.0, np.zeros(n, dtype=np.int32)
        ivar[40], mask[50], flux[60] = 1e-20, 4, np.nan
        columns = {"FLUX": flux, "IVAR": ivar, "WAVELENGTH": wavelength, "ORMASK": mask}
        name = f"spec-56000-GAC1_sp03-{star['fiberid']:03d}.fits"
        Table({key: [value] for key, value in columns.items()}).write(root / name)
    stars.rename_column("speed", "rv")
    stars.write(root / "catalogue.fits")
    return stars
