"""aspcapStar files of catalogue rows, drawn by the simulator's model of spectra at the rows' own labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table
from mini_archive import write_spectrum

from rsca_torch.spectra.stars import Stars, abundance_column
from rsca_torch.survey.simulated.chemistry import ELEMENT_INDEX
from rsca_torch.survey.simulated.detector import Detector
from rsca_torch.survey.simulated.release import RELEASES
from rsca_torch.survey.simulated.spectra import Synthesis

MIDDLE = 150.0  # of the fibres, where the catalogue knows none


def draw_spectra(root: Path, stars: Stars, release: str, seed: int = 0) -> None:
    """Write the file of each row: its temperature, gravity, abundances, velocity, extinction, fibre and S/N.

    An abundance that the row lacks is that of its iron. Files of releases before DR16 are written as DR16's are.
    """
    labels, random = labels_of(stars), np.random.default_rng(seed)
    synthesis = Synthesis()
    own = synthesis.draw_own(len(labels), random)
    flux = synthesis.stellar(labels, own)
    flux = flux * synthesis.systematic(labels, synthesis.draw_nights(len(labels), random), own, random)
    of = RELEASES.get(release, RELEASES["dr16"])
    for file, spectrum, error in zip(stars["FILE"], *Detector().expose(flux, labels, of, random), strict=True):
        write_spectrum(root / file, spectrum, error, dtype=of.image)


def labels_of(stars: Stars) -> Table:
    """What the simulator's model asks for, of each row of a star table."""
    n, iron = len(stars), np.asarray(stars["FE_H"], dtype=float)
    x_h = np.repeat(iron[:, None], len(ELEMENT_INDEX), axis=1)
    for element, place in ELEMENT_INDEX.items():
        column = stars[abundance_column(element)] if abundance_column(element) in stars.colnames else iron
        x_h[:, place] = np.where(np.isfinite(column), column, iron)
    velocity = np.asarray(stars["VHELIO_AVG"], dtype=float)
    fibre = np.nan_to_num(np.asarray(stars["MEANFIB"], dtype=float), nan=MIDDLE)
    told = {name: np.asarray(stars[name], dtype=float) for name in ("TEFF", "LOGG", "ALPHA_M", "SNR")}
    return Table(
        told
        | {"FE_H": iron, "PRESENT_X_H": x_h, "VHELIO": velocity, "V_GAS": velocity / 3}
        | {"AK": np.maximum(stars["AK_TARG"], 0), "FIBER": fibre[:, None], "BC": np.zeros((n, 1))}
        | {"NVISITS": np.ones(n, dtype=int), "NIGHT": np.arange(n)[:, None]}
    )
