"""The column VISITS of a star table: when a star was observed (docs/data.md, section 1)."""

from __future__ import annotations

import re
from typing import NamedTuple

from rsca_torch.errors import InputError

__all__ = ["Visit", "visits_of"]

ONE_METRE = "apo1m"
PLATE_VISIT = re.compile(r"[^-]+-(?P<plate>\d+)-(?P<night>\d+)-\d+")  # reduction, plate, night, fibre
ONE_METRE_VISIT = re.compile(r"[^-]+-(?P<night>\d+)-.+")  # reduction, night, the object's name, which may hold a minus


class Visit(NamedTuple):
    """One exposure of a star.

    Attributes:
        telescope: apo25m, lco25m or apo1m; '' where the survey does not say it.
        plate: '' at the 1 m telescope, which has none.
        night: MJD.
    """

    telescope: str
    plate: str
    night: int


def visits_of(text: str, telescope: str = "") -> list[Visit]:
    """The visits that VISITS lists, separated by commas; none where it is blank.

    Args:
        text: `r12-<plate>-<night>-<fibre>`, and at the 1 m telescope `r12-<night>-<name>`.
        telescope: the star's TELESCOPE. '': whichever form fits.

    Raises:
        InputError: where a visit has neither form.
    """
    forms = {ONE_METRE: [ONE_METRE_VISIT], "": [PLATE_VISIT, ONE_METRE_VISIT]}.get(telescope, [PLATE_VISIT])
    return [_visit(visit.strip(), telescope, forms) for visit in text.split(",") if visit.strip()]


def _visit(text: str, telescope: str, forms: list[re.Pattern[str]]) -> Visit:
    found = next((match for form in forms if (match := form.fullmatch(text))), None)
    if found is None:
        raise InputError(
            f"VISITS of a star of {telescope or 'an unknown telescope'} holds {text!r}: r12-PLATE-NIGHT-FIBRE "
            f"expected, or r12-NIGHT-NAME of {ONE_METRE}; ingest a catalogue of DR13 to DR16 as it was published"
        )
    return Visit(telescope, found.groupdict().get("plate", ""), int(found["night"]))
