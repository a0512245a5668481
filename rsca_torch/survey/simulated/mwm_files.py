"""DR19's files: astraAllStarASPCAP, a mwmStar of each star, and what may lie beside them (docs/dr19.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.survey.apogee import GRID, N_PIXELS
from rsca_torch.survey.mwm.catalogue import observatories
from rsca_torch.survey.simulated.checked_fits import checked_table, empty_table
from rsca_torch.survey.simulated.fits_bytes import card, primary
from rsca_torch.survey.simulated.mwm_labels import Columns, gaia, label_rows, labels, mean_fibre, single, texts
from rsca_torch.survey.simulated.spectra import LOG_START, LOG_STEP, Flux

__all__ = ["FURTHER", "MwmFiles"]

#: Files that are written where they are asked for.
FURTHER = ("visits", "aspcap")

#: HDUs of a star's file, in order.
NAMES = ("BOSS/APO", "BOSS/LCO", "APOGEE/APO", "APOGEE/LCO")

#: Where the continuum beside a co-add is not 0, half-open.
NMF_REGIONS = ((125, 3266), (3517, 6089), (6280, 8397))

ROOT = "dr19/spectro/astra/0.6.0"


@dataclass
class MwmFiles:
    """Writes the tree of one survey.

    Args:
        root: the folder.
        stars: N observations.
        measured: what the pipeline makes of them.
        further: of `FURTHER`, what is written besides.

    Raises:
        InputError: ``further`` names something else.
    """

    root: Path
    stars: Table
    measured: Table
    further: Sequence[str] = ()
    rows: Table = field(init=False)
    _waiting: dict[int, dict[int, dict[str, bytes]]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := set(self.further) - set(FURTHER):
            raise InputError(
                f"simulation.further_files may hold {', '.join(FURTHER)}, got {', '.join(sorted(map(str, unknown)))}"
            )
        self.rows = label_rows(self.stars)
        held = self.rows[np.asarray(self.rows["HELD"])]
        self._label = {int(row["STAR"]): row for row in held}
        self._of_star: dict[int, int] = {}
        for row in held:
            self._of_star[int(row["sdss_id"])] = self._of_star.get(int(row["sdss_id"]), 0) + 1

    def write_catalogue(self) -> None:
        """astraAllStarASPCAP: HDU 1 without rows, as BOSS has no ASPCAP; HDU 2 with all labels."""
        content = primary([card("V_ASTRA", "0.6.0")], bitpix=8) + empty_table("ASPCAP/BOSS")
        _write(
            self.root / f"{ROOT}/summary/astraAllStarASPCAP-0.6.0.fits",
            content + checked_table(labels(self.rows, self.stars, self.measured)),
        )

    def write_members(self, candidates: Sequence[tuple[Any, str, float]]) -> None:
        """OCCAM's list of DR19: what is at least 0.7 probable, under names and ids of its own."""
        likely = [row for row in candidates if row[2] >= 0.7]
        of = np.array([row[0] for row in likely])
        ids = dict(zip(self.rows["STAR"].tolist(), self.rows["sdss_id"].tolist(), strict=True))
        sdss_id = np.array([ids[row] for row in of.tolist()], dtype=np.int64)
        columns = {
            "Cluster": texts([row[1] for row in likely]),
            "SDSS_ID": sdss_id,
            "GaiaDR3_ID": gaia(sdss_id),
            "GaiaDR2_ID": gaia(sdss_id) - 1,
            "OBJ_ID": texts(np.asarray(self.stars["APOGEE_ID"])[of]),
            "V_RAD": np.asarray(self.stars["VHELIO"], np.float32)[of],
            "CG_Prob": np.array([row[2] for row in likely]),
            "EH_Prob": np.full(len(of), 0.9),
        }
        _write(self.root / "dr19/vac/mwm/apogee-occam/occam_member-DR19.fits", primary([]) + checked_table(columns))

    def write_spectra(self, rows: NDArray[np.int64], flux: Flux, error: Flux) -> None:
        """The files of some observations; a star's is written when all that it holds is there.

        Args:
            rows: (n,) of the stars.
            flux: (n, 8575), continuum 1.
            error: (n, 8575); negative under sky lines, infinite in bad pixels.
        """
        for n, row in enumerate(rows.tolist()):
            if row not in self._label:
                continue
            label = self._label[row]
            sdss_id = int(label["sdss_id"])
            site = NAMES.index(f"APOGEE/{observatories(np.array([label['telescope']]))[0]}")
            made = self._waiting.setdefault(sdss_id, {})
            made[site] = self._tables(row, label, flux[n].astype(np.float64), error[n].astype(np.float64), NAMES[site])
            if len(made) == self._of_star[sdss_id]:
                self._write_star(sdss_id, self._waiting.pop(sdss_id), str(label["SPOILT"]))

    def _write_star(self, sdss_id: int, made: dict[int, dict[str, bytes]], spoilt: str) -> None:
        cards = [card("V_ASTRA", "0.6.0"), card("SDSS_ID", sdss_id), card("HEALPIX", 8_191)]
        group = f"{sdss_id // 100 % 100:02d}/{sdss_id % 100:02d}"
        places = {
            "star": f"spectra/star/{group}/mwmStar-0.6.0-{sdss_id}.fits",
            "visits": f"spectra/visit/{group}/mwmVisit-0.6.0-{sdss_id}.fits",
            "aspcap": f"results/star/{group}/astraStarASPCAP-0.6.0-{sdss_id}.fits",
        }
        for kind, place in places.items():
            if (kind == "star" and spoilt != "missing") or kind in self.further:
                parts = [made[n][kind] if n in made else empty_table(name) for n, name in enumerate(NAMES)]
                _write(self.root / ROOT / place, b"".join([primary(cards, bitpix=8), *parts]))

    def _tables(self, row: int, label: Any, flux: NDArray[Any], error: NDArray[Any], name: str) -> dict[str, bytes]:  # noqa: ANN401  (a row of an untyped table)
        sdss_id = int(label["sdss_id"])
        random = np.random.default_rng([sdss_id, row])  # of what no other release shows
        continuum = _continuum(random)
        flags, observed, sigma = _as_the_telescope_saw(flux, error, random)
        release = "sdss5" if label["SPOILT"] == "other" else str(label["release"])
        told = self._told(row, label, release)
        pixels = _pixels(observed, sigma, flags, continuum, 0.0)
        tables = {"star": checked_table(told | pixels, name, _GRID_CARDS)}
        if "visits" in self.further:
            n = int(self.stars["NVISITS"][row])
            seen = [_pixels(*visit, flags, continuum, np.nan) for visit in _visits(observed, sigma, n, random)]
            stacked = {key: np.concatenate([each[key] for each in seen]) for key in pixels if key != "wavelength"}
            tables["visits"] = checked_table(self._of_visits(row, told, n) | stacked, name, _GRID_CARDS)
        if "aspcap" in self.further:
            both = ["dr17", "sdss5"] if release == "sdss5" else ["dr17"]
            # The continuum of the other co-add is another: its row is no use to this one.
            shape = [_aspcap(continuum * (1.0 if each == release else 1.07)) for each in both]
            columns = {key: np.repeat(told[key], len(both)) for key in ("sdss_id", "telescope")}
            columns |= {"release": texts(both), "continuum": np.stack(shape)}
            tables["aspcap"] = checked_table(columns, name, _GRID_CARDS)
        return tables

    def _told(self, row: int, label: Any, release: str) -> Columns:  # noqa: ANN401  (as above)
        star = self.stars[row]
        return {
            "spectrum_pk_id": np.array([1_000 + row]),
            "release": texts([release]),
            "filetype": texts(["apStar"]),
            "v_astra": texts(["0.6.0"]),
            "sdss_id": np.array([int(label["sdss_id"])]),
            "apred": texts(["1.3" if release == "sdss5" else "dr17"]),
            "obj": texts([str(star["APOGEE_ID"])]),
            "telescope": texts([str(label["telescope"])]),
            "n_visits": np.array([star["NVISITS"]], np.int32),
            "snr": np.array([label["snr"]], np.float32),
            "mean_fiber": np.array([mean_fibre(star)], np.float32),
            "spectrum_flags": np.array([0]),
            "v_rad": np.array([star["VHELIO"]], np.float32),
            "nmf_flags": np.array([0]),
        }

    def _of_visits(self, row: int, told: Columns, n: int) -> Columns:
        star = self.stars[row]
        columns = {key: np.repeat(told[key], n) for key in ("sdss_id", "apred", "telescope", "obj", "v_rad")}
        return columns | {
            "plate": texts([str(plate) for plate in star["PLATE"][:n]]),
            "fiber": np.asarray(star["FIBER"][:n], np.int32),
            "mjd": np.asarray(star["MJD"][:n], np.int32),
            "snr": np.full(n, told["snr"][0] / np.sqrt(n), np.float32),
            "spectrum_flags": np.zeros(n, np.int64),
        }


_GRID_CARDS = (
    card("CRVAL", LOG_START), card("CDELT", LOG_STEP), card("CRPIX", 1), card("CTYPE", "LOG-LINEAR"),
    card("NPIXELS", N_PIXELS),
)  # fmt: skip


def _continuum(random: np.random.Generator) -> NDArray[np.float64]:
    """(8575,) of a star, 1e-17 erg/s/cm2/Angstrom: a level, a slope and a bend."""
    level, slope, bend = 10 ** random.uniform(1, 4), random.normal(-0.3, 0.05), random.normal(0, 0.05)
    across = np.linspace(-1, 1, N_PIXELS)
    return np.asarray(level * (1 + slope * across + bend * across**2))


def _as_the_telescope_saw(
    flux: NDArray[Any], error: NDArray[Any], random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    """pixel_flags, flux and error of a co-add: errors as they are, and marks in the flags alone."""
    gap, bad, sky = ~GRID.usable(), ~np.isfinite(error), error < 0
    flags = np.where(sky, 1 << 12, 0)
    flags[bad] |= 1 << random.choice([0, 1, 2, 3, 4, 5, 6, 7, 14], bad.sum())
    flags |= np.where(random.random(N_PIXELS) < 0.1, 1 << random.choice([8, 9, 10, 11, 13], N_PIXELS), 0)  # no faults
    observed, sigma = flux.copy(), np.abs(error)
    observed[bad] = random.choice([np.nan, 0.0, -0.3], bad.sum())
    observed[gap], sigma[gap], flags[gap] = 0.0, np.inf, 1
    sigma[bad] = np.inf
    return flags, observed, sigma


def _visits(
    observed: NDArray[Any], sigma: NDArray[Any], n: int, random: np.random.Generator
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Flux and error of n visits of like S/N, whose mean is the co-add."""
    finite = np.isfinite(sigma)
    own = np.where(finite, np.sqrt(n) * np.where(finite, sigma, 0), np.inf)
    deviates = random.standard_normal((n, N_PIXELS))
    deviates -= deviates.mean(axis=0)
    return [(observed + np.where(finite, own, 0) * each, own) for each in deviates]


def _pixels(
    flux: NDArray[Any], sigma: NDArray[Any], flags: NDArray[np.int64], continuum: NDArray[Any], outside: float
) -> Columns:
    """The arrays of one row; ``outside``: the continuum outside the regions where there is one."""
    shown = np.full(N_PIXELS, outside)
    for region in NMF_REGIONS:
        shown[slice(*region)] = continuum[slice(*region)]
    with np.errstate(divide="ignore", invalid="ignore"):
        ivar = np.where(np.isfinite(sigma), 1 / (sigma * continuum) ** 2, 1e-20)  # a bad pixel's error is 1e10
    arrays = {"wavelength": GRID.wavelength, "flux": flux * continuum, "ivar": ivar, "pixel_flags": flags}
    return {name: single(values)[None] for name, values in {**arrays, "continuum": shown}.items()}


def _aspcap(continuum: NDArray[Any]) -> NDArray[np.float32]:
    return single(np.where(GRID.usable(), continuum, np.nan))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
