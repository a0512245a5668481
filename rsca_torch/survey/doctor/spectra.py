"""Each spectrum of a tree by itself: whole, of the right kind, on the right grid, of the star that its name says."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rsca_torch.survey.apogee import read_spectrum
from rsca_torch.survey.aspcapstar_folder import RELEASES
from rsca_torch.survey.doctor.remarks import Remark, remark
from rsca_torch.survey.download.known_sums import KnownSums
from rsca_torch.survey.download.manifest import Manifest
from rsca_torch.survey.download.right_files import STRUCTURE, require_right
from rsca_torch.survey.fits_files import UnusableFileError, open_fits
from rsca_torch.survey.mwm.spectrum import HDUS, read_pixels

__all__ = ["AGAIN", "COMPANION", "Spectrum", "companion_remarks", "spectra_remarks"]

#: Of DR13 and DR14 the name has that of the stars' list too: aspcapStar-r6-l30e.2-2M00000000+0000000.fits.
ASPCAPSTAR = re.compile(r"aspcapStar-([^-]+)-(?:l\d+\w*\.\d+-)?(.+?)\.fits?(\.gz|\.fz)?$")
MWMSTAR = re.compile(r"mwmStar-([\d.]+)-(\d+)\.fits?(\.gz|\.fz)?$")
#: A header card whose value is NaN, which FITS does not allow (docs/data.md).
ILLEGAL = re.compile(rb"[A-Z_ ]{8}= +NAN\b")
AGAIN = "fetch them again (rsca download puts what is wrong aside)"
#: Beside mwmStar: what its co-adds are made of, and its fit. Whole or not is all that is asked of them.
COMPANION = re.compile(r"(mwmVisit|astraStarASPCAP)-.+\.fits?(\.gz|\.fz)?$")
ARRAYS = ("flux", "ivar", "pixel_flags", "continuum")  # of mwmStar


class Spectrum(NamedTuple):
    """A file with a star's spectrum, as its name tells.

    Attributes:
        file: relative to the tree.
        release: dr13 to dr17, or what stands there in its place; of mwmStar the version of Astra.
        star: its id, an sdss_id of mwmStar.
        is_mwm: it is mwmStar, of SDSS DR19.
    """

    file: str
    release: str
    star: str
    is_mwm: bool

    @classmethod
    def of(cls, file: str) -> Spectrum | None:
        """None: the name is that of something else.

        >>> Spectrum.of("dr13/4100/aspcapStar-r6-l30e.2-2M05204314-0032486.fits").star
        '2M05204314-0032486'
        """
        name = Path(file).name
        if match := ASPCAPSTAR.match(name):
            return cls(file, RELEASES.get(match[1], match[1]), match[2], False)
        if match := MWMSTAR.match(name):
            return cls(file, f"Astra {match[1]}", match[2], True)
        return None


def spectra_remarks(
    root: Path, spectra: Sequence[Spectrum], sha1sums: Iterable[Path], progress: Callable[[int, int], None]
) -> list[Remark]:
    """What is wrong with them.

    Args:
        root: of the tree.
        spectra: those that are read.
        sha1sums: the archive's lists of checksums.
        progress: is told how many of how many were read.
    """
    sums = KnownSums(Manifest(root, reading=True))
    lists = {path.parent: path for path in sha1sums}
    reasons, unsure, illegal, bare = defaultdict(list), list[str](), list[str](), list[str]()
    for number, spectrum in enumerate(spectra):
        file, path = spectrum.file, root / spectrum.file
        try:
            how = require_right(path, _sum_of(path, file, lists, sums))
            if spectrum.is_mwm:
                bare += [] if _coadds(path, spectrum) else [file]
            else:
                read_spectrum(path)
            with path.open("rb") as content:
                if ILLEGAL.search(content.read(5760)):
                    illegal.append(file)
            if how == STRUCTURE:
                unsure.append(file)
        except UnusableFileError as error:
            reasons[re.sub(r"\d{4,}|0x\w+", "N", str(error))].append(file)
        progress(number + 1, len(spectra))
    total = len(spectra)
    remarks = []
    for reason, found in reasons.items():
        grid = reason.startswith("wrong grid")
        cure = "spectra of one store have one grid: leave them out" if grid else AGAIN
        remarks += remark(reason, found, total, cure, True)
    remarks += remark("no checksum, neither a list nor in the file: its structure alone was checked", unsure, total)
    remarks += remark(
        "a header card is NaN, which FITS does not allow", illegal, total, "nothing to do: it is not read"
    )
    return remarks + remark("mwmStar without a spectrum of APOGEE", bare, total, "not used: BOSS alone saw the star")


def companion_remarks(root: Path, files: Sequence[str]) -> list[Remark]:
    """Which of the files beside mwmStar are not whole."""
    reasons = defaultdict(list)
    for file in files:
        try:
            require_right(root / file)
        except UnusableFileError as error:
            reasons[str(error)].append(file)
    return [each for reason, found in reasons.items() for each in remark(reason, found, len(files), AGAIN, True)]


def _coadds(path: Path, spectrum: Spectrum) -> int:
    """How many co-adds of APOGEE an mwmStar has, each of which can be read.

    Raises:
        UnusableFileError: one cannot, or the file is another star's, or of another version than its name says.
    """
    with open_fits(path) as hdus:
        told = str(hdus[0].header.get("V_ASTRA", spectrum.release.removeprefix("Astra ")))
        names = [hdu.name.upper() for hdu in hdus]
        if lacking := [f"APOGEE/{site}" for site in HDUS if f"APOGEE/{site}" not in names]:
            raise UnusableFileError(f"no HDU {' and '.join(lacking)}, as mwmStar has it")
        sites = [site for site in HDUS if hdus[names.index(f"APOGEE/{site}")].header.get("NAXIS2")]
    if f"Astra {told}" != spectrum.release:
        raise UnusableFileError("its header names another version of Astra than its name")
    for site in sites:
        read_pixels(path, f"{site.lower()}25m", int(spectrum.star), lambda _: 0, *ARRAYS)
    return len(sites)


def _sum_of(path: Path, file: str, lists: dict[Path, Path], sums: KnownSums) -> str:
    if known := sums.known(file):
        return known
    if path.parent not in lists:
        return ""
    for line in lists[path.parent].read_text(encoding="utf-8", errors="replace").splitlines():
        sha1, _, name = line.partition(" ")
        if name.strip(" *").rpartition("/")[2] == path.name:
            return sha1
    return ""
