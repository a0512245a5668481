"""What differs between the data releases that can be simulated: paths, dtypes, sentinels and marks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsca_torch.survey.apogee import ELEMENTS

__all__ = ["RELEASES", "Release"]


@dataclass(frozen=True)
class Release:
    """One data release.

    Attributes:
        name: dr13, dr14, dr16, dr17 or dr19.
        folder: where all that the pipeline makes lies, below the root; version: how its catalogues' names end.
        image: dtype of the images in the files.
        missing: what stands for an unknown value; missing_error: for an unknown error.
        flag: dtype of ASPCAPFLAG.
        bad_flux, bad_error: what stands in a bad bin.
        highest_flux: the pipeline distrusts what is above.
        sky_peak: the error under a sky line's peak is so many times larger.
        gaussian: whether that falls off to the sides.
        spectra: how the name of a spectrum's file begins, and the folder of one: {TELESCOPE}/{FIELD} or {LOCATION_ID}.
        occam: the release whose list of members is used.
        never: species that are never measured; has_floor: whether the files' errors have a floor.
    """

    name: str
    folder: str
    version: str
    image: str
    missing: float
    missing_error: float
    flag: Any
    bad_flux: float
    bad_error: float
    highest_flux: float
    sky_peak: float
    gaussian: bool
    spectra: str
    occam: str
    never: tuple[str, ...] = ()
    has_floor: bool = True

    @property
    def catalogue(self) -> str:
        """The allStar file's path below the root."""
        return f"{self.folder}/allStar-{self.version}.fits"

    @property
    def spectrum(self) -> str:
        """The path of an aspcapStar file below the root: {TELESCOPE} and {FIELD}, or {LOCATION_ID}; {APOGEE_ID}."""
        return f"{self.folder}/{self.spectra}-{{APOGEE_ID}}.fits"

    @property
    def elements(self) -> list[str]:
        """The species of X_H, in order."""
        return ELEMENTS["dr16" if self.name == "dr19" else self.name]

    def sky_error(self, sky: NDArray[np.float32]) -> NDArray[np.float32]:
        """What sky lines multiply the error with; ``sky`` is 1 at a line's peak and 0 away from lines."""
        return 1 + np.float32(self.sky_peak) * (sky if self.gaussian else (sky > 0).astype(np.float32))


RELEASES = {
    "dr16": Release(
        name="dr16",
        folder="dr16/apogee/spectro/aspcap/r12/l33",
        version="r12-l33",
        image=">f4",
        missing=-9999.99,
        missing_error=-999.99,
        flag=np.int32,
        bad_flux=0.0,
        bad_error=10.0,
        highest_flux=2.0,
        sky_peak=1000.0,
        gaussian=True,
        spectra="{TELESCOPE}/{FIELD}/aspcapStar-r12",
        occam="dr16",
    ),
    "dr17": Release(
        name="dr17",
        folder="dr17/apogee/spectro/aspcap/dr17/synspec_rev1",
        version="dr17-synspec_rev1",
        image=">f8",
        missing=np.nan,
        missing_error=np.nan,
        flag=np.int64,
        bad_flux=1e-4,
        bad_error=1e10,
        highest_flux=np.inf,
        sky_peak=99.0,
        gaussian=False,
        spectra="{TELESCOPE}/{FIELD}/aspcapStar-dr17",
        occam="dr17",
    ),
}
#: They differ from DR16 in paths, in the order of elements, and in what the pipeline believes.
for _name, _version, _start in (("dr13", "l30e.2", "r6"), ("dr14", "l31c.2", "r8")):
    RELEASES[_name] = replace(
        RELEASES["dr16"],
        name=_name,
        folder=f"{_name}/apogee/spectro/redux/{_start}/stars/{_version[:4]}/{_version}",
        version=_version,
        missing=-9999.0,
        missing_error=-9999.0,
        highest_flux=1.1,
        spectra=f"{{LOCATION_ID}}/aspcapStar-{_start}-{_version}",
        never=("Ce", "Cu"),
    )
#: What marks a pixel is no error there: a negative one stands for a sky line, an infinite one for a bad pixel, until
#: `MwmFiles` makes flags of them.
RELEASES["dr19"] = replace(
    RELEASES["dr17"], name="dr19", bad_flux=0.0, bad_error=np.inf, sky_peak=-2.0, occam="dr19", has_floor=False
)
