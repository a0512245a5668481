"""Files of APOGEE that people take for aspcapStar, named as what they are."""

from __future__ import annotations

import re
from typing import Any

from rsca_torch.survey.fits_files import UnusableFileError

__all__ = ["kind_by_name", "require_aspcapstar"]

#: How names begin -> what such a file is.
NAMES = {
    r"a[ps]Star-": "apStar, visits combined but not continuum-normalised",
    r"a[ps]Visit-": "apVisit, one visit, not continuum-normalised",
    r"mwmStar-": "mwmStar of SDSS-V, not continuum-normalised",
    r"mwmVisit-": "mwmVisit of SDSS-V, visits, not continuum-normalised",
    r"mwmAllStar|astraAllStar|allStar": "a catalogue of stars",
    r"allVisit": "a catalogue of visits",
}
APSTAR, APVISIT, MWMSTAR, *_ = NAMES.values()


def kind_by_name(name: str) -> str:
    """What a file's name says it is; '' where it may be aspcapStar.

    Example:
        >>> kind_by_name("asStar-dr17-2M03174068-7748459.fits.gz")
        'apStar, visits combined but not continuum-normalised'
    """
    return next((kind for start, kind in NAMES.items() if re.match(start, name)), "")


def require_aspcapstar(hdus: Any) -> None:  # noqa: ANN401  (astropy's HDUs are untyped)
    """Refuse a file that its HDUs tell to be of another kind, whatever it is called.

    Raises:
        UnusableFileError: with the name of the kind.
    """
    if kind := _kind(hdus):
        raise UnusableFileError(f"not an aspcapStar file but {kind}; fetch the star's aspcapStar")


def _kind(hdus: Any) -> str:  # noqa: ANN401  (as above)
    if len(hdus) < 2:
        return ""
    first = hdus[1]
    if not first.is_image:
        names = {name.lower() for name in getattr(first.columns, "names", ())}
        if {"flux", "ivar"} & names or {"sdss_id", "spectrum_flags"} & names:
            return MWMSTAR
        return "a catalogue of stars" if "apogee_id" in names else ""
    rows, pixels = (1, *first.shape)[-2:] if first.shape else (0, 0)
    unit = str(first.header.get("BUNIT", ""))
    if pixels in (2048, 4096):  # a detector's own pixels, on and off their half steps
        return APVISIT
    if (pixels == 8575 and rows > 1) or "erg" in unit:  # aspcapStar's flux has no unit
        return APSTAR
    return ""
