"""What differs between the data releases that can be simulated: paths, dtypes, sentinels and marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsca_torch.survey.apogee import ELEMENTS

__all__ = ["RELEASES", "Release"]


@dataclass(frozen=True)
class Release:
    """One data release.

    Attributes:
        name: dr16 or dr17.
        folder: where all that the pipeline makes lies, below the root; version: how its catalogues' names end.
        image: dtype of the images in the files.
        missing: what stands for an unknown value; missing_error: for an unknown error.
        flag: dtype of ASPCAPFLAG.
        bad_flux, bad_error: what stands in a bad bin.
        highest_flux: the pipeline distrusts what is above.
        sky_peak: the error under a sky line's peak is so many times larger.
        gaussian: whether that falls off to the sides.
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

    @property
    def catalogue(self) -> str:
        """The allStar file's path below the root."""
        return f"{self.folder}/allStar-{self.version}.fits"

    @property
    def spectrum(self) -> str:
        """The path of an aspcapStar file below the root, with {TELESCOPE}, {FIELD} and {APOGEE_ID}."""
        return f"{self.folder}/{{TELESCOPE}}/{{FIELD}}/aspcapStar-{self.version.split('-')[0]}-{{APOGEE_ID}}.fits"

    @property
    def elements(self) -> list[str]:
        """The species of X_H, in order."""
        return ELEMENTS[self.name]

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
    ),
}
