"""The column VISITS of a star table: when a star was observed, with which fibres (docs/data.md, section 1)."""

from __future__ import annotations

import logging
import re
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError

__all__ = ["MEAN_FIBRE", "Visit", "mean_fibres", "visits_of"]

log = logging.getLogger(__name__)

ONE_METRE, MEAN_FIBRE, FIBRES = "apo1m", "MEANFIB", 300
#: DR16 lists some visits by the whole names of their files.
FILE_NAME = re.compile(r"(?:a[ps]Visit-)?(.*?)(?:\.fits(?:\.gz|\.fz)?)?")
PLATE_VISIT = re.compile(r"[^-]+-(?P<plate>\d+)-(?P<night>\d+)-(?P<fibre>\d+)")  # reduction, plate, night, fibre
ONE_METRE_VISIT = re.compile(r"[^-]+-(?P<night>\d+)-.+")  # reduction, night, the object's name, which may hold a minus


class Visit(NamedTuple):
    """One exposure of a star.

    Attributes:
        telescope: apo25m, lco25m or apo1m; '' where the survey does not say it.
        plate: '' at the 1 m telescope, which has none.
        night: MJD.
        fibre: 1 to 300; None at the 1 m telescope.
    """

    telescope: str
    plate: str
    night: int
    fibre: int | None = None


def visits_of(text: str, telescope: str = "") -> list[Visit]:
    """The visits that VISITS lists, separated by commas; none where it is blank.

    Args:
        text: `r12-<plate>-<night>-<fibre>`, and at the 1 m telescope `r12-<night>-<name>`; the ending `.fits` and the
            `apVisit-` of a file's name may be there.
        telescope: the star's TELESCOPE. '': whichever form fits.

    Raises:
        InputError: where a visit has neither form.

    Example:
        >>> visits_of("r12-5583-56257-279", "apo25m")
        [Visit(telescope='apo25m', plate='5583', night=56257, fibre=279)]
    """
    forms = {ONE_METRE: [ONE_METRE_VISIT], "": [PLATE_VISIT, ONE_METRE_VISIT]}.get(telescope, [PLATE_VISIT])
    return [_visit(visit.strip(), telescope, forms) for visit in text.split(",") if visit.strip()]


def _visit(text: str, telescope: str, forms: list[re.Pattern[str]]) -> Visit:
    bare = FILE_NAME.fullmatch(text)
    found = next((match for form in forms if bare and (match := form.fullmatch(bare[1]))), None)
    if found is None:
        raise InputError(
            f"VISITS of a star of {telescope or 'an unknown telescope'} holds {text!r}: r12-PLATE-NIGHT-FIBRE "
            f"expected, or r12-NIGHT-NAME of {ONE_METRE}; ingest a catalogue of DR13 to DR16 as it was published"
        )
    told = found.groupdict()
    fibre = int(told["fibre"]) if "fibre" in told else None
    return Visit(telescope, told.get("plate", ""), int(told["night"]), fibre)


def mean_fibres(stars: Table) -> NDArray[np.float64]:
    """(N,) the mean fibre (1 to 300) of each star's visits; NaN where none is known, as at the 1 m telescope.

    Args:
        stars: columns VISITS, TELESCOPE and MEANFIB, where there. What VISITS says counts, and where it says nothing
            what MEANFIB does. What cannot be read counts as unknown, which is logged.
    """
    means, unreadable = np.full(len(stars), np.nan), list[str]()
    if MEAN_FIBRE in stars.colnames:
        told = np.asarray(stars[MEAN_FIBRE], dtype=float)
        means = np.where((told >= 1) & (told <= FIBRES), told, np.nan)
    if "VISITS" not in stars.colnames:
        return means
    telescopes = stars["TELESCOPE"] if "TELESCOPE" in stars.colnames else [""] * len(stars)
    for row, (text, telescope) in enumerate(zip(stars["VISITS"], telescopes, strict=True)):
        try:
            fibres = [visit.fibre for visit in visits_of(str(text), str(telescope)) if visit.fibre is not None]
        except InputError as error:
            if np.isnan(means[row]):
                unreadable.append(str(error))
            continue
        if fibres:
            means[row] = np.mean(fibres)
    if unreadable:
        log.warning("%d stars have no fibre; the first: %s", len(unreadable), unreadable[0])
    return means
