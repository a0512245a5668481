"""The visits of stars, from mwmVisit: each an observation of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.spectra.stars import PART_OF_COADD
from rsca_torch.survey.fits_files import UnusableFileError, native, open_fits
from rsca_torch.survey.mwm.catalogue import observatories
from rsca_torch.survey.mwm.spectrum import HDUS, table_rows
from rsca_torch.survey.reader import Visits
from rsca_torch.survey.visits import MEAN_FIBRE

__all__ = ["visits_of_stars"]

#: What a visit says of itself; the star's other columns are the co-add's.
OF_A_VISIT = ("snr", "spectrum_flags", "mjd", "plate", "fiber")


def visits_of_stars(root: Path, stars: Table, file: Callable[[int], str]) -> Visits:
    """The visits of stars, at the observatory and in the reduction of the co-add that is used.

    Args:
        root: the folder that files are below.
        stars: n stars, as the reader describes them.
        file: the path of a star's file below root.

    Returns:
        One row a visit: the star's columns with `OF_A_VISIT` its own, and FILE as ``path[HDU][row]``.
    """
    of, own, problems = list[int](), list[dict[str, object]](), list[tuple[str, str]]()
    sites = observatories(np.asarray(stars["telescope"]))
    for row, site in enumerate(sites.tolist()):
        path = file(int(str(stars["sdss_id"][row])))
        try:
            told = _table(root / path, HDUS[site], str(stars["release"][row]))
        except UnusableFileError as problem:
            problems.append((path, str(problem)))
            continue
        of += [row] * len(told)
        own += [{**dict(zip(told.colnames, visit, strict=True)), "FILE": f"{path}[{HDUS[site]}][{visit['ROW']}]"}
                for visit in told]  # fmt: skip
    visits = Table(stars[of], copy=True)
    names = [name for name in OF_A_VISIT if own and all(name in visit for visit in own)]
    for name in (*names, "FILE") if own else ():
        visits[name] = [visit[name] for visit in own]
    if own and "fiber" in names:
        visits[MEAN_FIBRE] = np.where(np.asarray(visits["fiber"]) > 0, visits["fiber"], np.nan)
    visits[PART_OF_COADD] = np.ones(len(visits), dtype=bool)
    return Visits(visits, np.array(of, dtype=np.intp), names, problems)


def _table(path: Path, number: int, release: str) -> Table:
    with open_fits(path) as hdus:
        data = table_rows(hdus, number, "visits")
        names = {name.lower(): name for name in data.dtype.names or ()}
        kept = np.ones(len(data), dtype=bool)
        if "in_stack" in names:  # of later versions of Astra
            kept &= data[names["in_stack"]] == b"T"
        kept &= _of_release(native(data[names["apred"]]) if "apred" in names else np.array([]), release, len(data))
        visits = Table({name: native(data[names[name]])[kept] for name in OF_A_VISIT if name in names})
        visits["ROW"] = np.flatnonzero(kept)
        return visits


def _of_release(apred: NDArray[np.str_], release: str, n: int) -> NDArray[np.bool_]:
    """(n,) visits of that reduction: DR17's are in the file too, of the same nights as SDSS-V's own."""
    if not len(apred):
        return np.ones(n, dtype=bool)
    return np.asarray((apred == "dr17") == (release == "dr17"))
