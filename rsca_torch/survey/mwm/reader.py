"""The reader of SDSS DR19's tree: stars from astraAllStarASPCAP, spectra from mwmStar, their visits from mwmVisit."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from astropy.table import Row, Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.survey.apogee import GRID, N_PIXELS
from rsca_torch.survey.apogee_catalogue import find_catalogue
from rsca_torch.survey.below_root import below_root
from rsca_torch.survey.fits_files import UnusableFileError
from rsca_torch.survey.mwm.catalogue import observatories, of_another_coadd, read_labels
from rsca_torch.survey.mwm.spectrum import BAD_BITS, HDUS, OTHER_COADD, measured, read_pixels
from rsca_torch.survey.mwm.visits import visits_of_stars
from rsca_torch.survey.reader import Listing, Measured, Reader, Visits
from rsca_torch.survey.visits import MEAN_FIBRE

__all__ = ["MwmReader"]

log = logging.getLogger(__name__)

EXTINCTION = "A_K"  # made from one column of E(B-V)
CO_ADDS = "CO_ADDS"  # rows of the catalogue that say the same of release and observatory

#: What a star table says of a star besides its abundances, and where the catalogue must not have it, if it is there.
DESCRIBING = ("release", "telescope", "snr", "v_rad", "teff", "logg")
OPTIONAL = (
    "obj", "sdss4_apogee_id", "gaia_dr2_source_id", "gaia_dr3_source_id", "field", "std_v_rad", "e_v_rad", "m_h_atm",
    "alpha_m_atm", "n_visits", "mean_fiber", "spectrum_flags", "result_flags", "flag_bad",
)  # fmt: skip


class _Place(NamedTuple):
    """What FILE says: ``path[HDU]``, or ``path[HDU][row]`` of a visit, as cfitsio writes it."""

    path: str
    visit: int | None

    @classmethod
    def of(cls, file: str) -> _Place:
        found = re.fullmatch(r"(.*?)\[\d+\](?:\[(\d+)\])?", file)
        assert found, file
        return cls(found[1], None if found[2] is None else int(found[2]))


class MwmReader(Reader):
    """SDSS DR19's APOGEE stars; DR20's are the same.

    Args:
        root: the folder that holds the archive's tree.
        catalogue: paths of astraAllStarASPCAP below root, of which the first that exists is read; .gz too.
        spectrum: path of a star's mwmStar below root; {sdss_id}, {g1}, {g2} (two digits of the id each), {release} and
            {v_astra} are filled in. All paths here may have these.
        visit: likewise of its mwmVisit.
        aspcap: likewise of its astraStarASPCAP, for ``continuum="aspcap"``.
        release: dr19 or dr20, the tree's first folder.
        v_astra: of Astra, in folders' and files' names.
        continuum: by which flux is divided: "nmf", beside it in mwmStar, or "aspcap", in a second file.
        reddening: column of E(B-V); of one kind for all stars, as `ebv` is not.
        a_k_per_ebv: A_K over it.
        abundance_bits: an abundance with one of these bits in its flags is missing.
        bad_bits: a pixel with one of these bits in pixel_flags is not used.
        failed_continuum: leave_out spectra whose NMF continuum failed by their nmf_flags, or use them all the same.
        error_floor: smallest error, share of the continuum. Files have none; those of DR13 to DR17 have 0.005.

    Raises:
        InputError: an option cannot have that value.
    """

    roles: ClassVar = {"id": "sdss_id", "group": "CLUSTER", "velocity": "v_rad", "extinction": EXTINCTION, "snr": "snr"}
    grid = GRID

    def __init__(
        self,
        root: str | Path,
        catalogue: str | Sequence[str],
        spectrum: str,
        visit: str | None = None,
        aspcap: str | None = None,
        release: str = "dr19",
        v_astra: str = "0.6.0",
        continuum: str = "nmf",
        reddening: str = "ebv_rjce_allwise",
        a_k_per_ebv: float = 0.352,
        abundance_bits: Sequence[int] = (),
        bad_bits: Sequence[int] = BAD_BITS,
        error_floor: float = 0.005,
        failed_continuum: str = "leave_out",
    ) -> None:
        super().__init__(root)
        if continuum not in ("nmf", "aspcap"):
            raise InputError(f"survey.continuum must be nmf or aspcap, got {continuum!r}")
        if continuum == "aspcap" and not aspcap:
            raise InputError("survey.continuum=aspcap needs survey.aspcap, the path of a star's astraStarASPCAP")
        if failed_continuum not in ("leave_out", "use"):
            raise InputError(f"survey.failed_continuum must be leave_out or use, got {failed_continuum!r}")
        if not a_k_per_ebv > 0 or not error_floor >= 0:
            raise InputError(
                "survey.a_k_per_ebv must be positive and survey.error_floor not negative, got "
                f"{a_k_per_ebv} and {error_floor}"
            )
        if reddening.lower() == "ebv":
            log.warning("survey.reddening=ebv mixes several scales, star by star (ebv_flags): pairs of like extinction "
                        "are pairs of like method too")  # fmt: skip
        named = {"release": release, "v_astra": v_astra}
        given = (catalogue,) if isinstance(catalogue, str) else tuple(catalogue)
        self.catalogue = [_filled("catalogue", path, **named) for path in given]
        self.templates = {"spectrum": spectrum, "visit": visit, "aspcap": aspcap}
        self.named, self.continuum, self.failed_continuum = named, continuum, failed_continuum
        self.reddening, self.a_k_per_ebv = reddening, a_k_per_ebv
        self.abundance_bits, self.error_floor = tuple(abundance_bits), error_floor
        self.bad_bits = sum(1 << bit for bit in set(bad_bits))

    def list_stars(self, columns: Sequence[str]) -> Listing:
        """Every row whose co-add mwmStar can hold; the others are left out."""
        made = {"FILE", "ROW", CO_ADDS, "CLUSTER"}
        wanted = ["sdss_id", "release", "telescope", "snr", *columns]
        stars = self._labels([name for name in dict.fromkeys(wanted) if name not in made])
        stars["ROW"] = np.arange(len(stars))
        other = of_another_coadd(stars)
        sites = observatories(np.asarray(stars["telescope"]))
        elsewhere = ~other & (sites == "")
        left_out = [
            (str(star), f"{self.catalogue_name}, row {row}: {problem}")
            for rows, problem in ((other, OTHER_COADD), (elsewhere, "a telescope of neither observatory"))
            for row, star in zip(stars["ROW"][rows], stars["sdss_id"][rows], strict=True)
        ]
        kept = ~other & ~elsewhere
        stars, sites = stars[kept], sites[kept]
        key = np.char.add(np.asarray(stars["sdss_id"]).astype(str), sites)
        _, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
        stars[CO_ADDS] = counts[inverse]
        unusable = OTHER_COADD if left_out else ""
        return Listing(stars, unusable=unusable, catalogue=self.catalogue_name, left_out=left_out)

    def describe(self, stars: Table, rows: NDArray[np.intp], columns: Sequence[str]) -> Table:
        """The catalogue's columns, A_K, the abundances and their errors, MEANFIB, FILE."""
        del rows
        wanted = dict.fromkeys([*DESCRIBING, *(name for name in columns if name not in (EXTINCTION, "CLUSTER"))])
        order = np.argsort(stars["ROW"])
        places = np.asarray(stars["ROW"])[order]
        described = self._labels([*wanted, EXTINCTION, "X_H", "X_H_ERR"], places, OPTIONAL)[np.argsort(order)]
        ids = np.asarray(stars["sdss_id"])
        described["sdss_id"] = ids.astype(str)  # text, as those of repeats are
        described[CO_ADDS] = stars[CO_ADDS]
        sites = observatories(np.asarray(stars["telescope"]))
        described["FILE"] = [
            f"{self._path('spectrum', int(star))}[{HDUS[site]}]" for star, site in zip(ids, sites, strict=True)
        ]
        if "mean_fiber" in described.colnames:
            described[MEAN_FIBRE] = described["mean_fiber"]
        described["CLUSTER"] = ""
        return described

    @property
    def catalogue_name(self) -> str:
        """Of the catalogue that there is."""
        return find_catalogue(self.root, self.catalogue).name

    def _labels(
        self, columns: Sequence[str], rows: NDArray[np.intp] | None = None, optional: Sequence[str] = ()
    ) -> Table:
        path = find_catalogue(self.root, self.catalogue)
        wanted = [self.reddening if name == EXTINCTION else name for name in columns]
        labels = read_labels(path, wanted, optional, rows, self.abundance_bits)
        if EXTINCTION in columns:
            labels[EXTINCTION] = self.a_k_per_ebv * np.asarray(labels[self.reddening])
        return labels

    def _path(self, of: str, sdss_id: int) -> str:
        template = self.templates[of]
        if template is None:
            raise InputError(f"survey.{of}=null: the path of a star's file below survey.root expected")
        digits = f"{sdss_id % 10_000:04d}"
        return _filled(of, template, sdss_id=sdss_id, g1=digits[:2], g2=digits[2:], **self.named)

    def visits(self, stars: Table) -> Visits:
        """Those in mwmVisit."""
        return visits_of_stars(self.root, stars, lambda star: self._path("visit", star))

    def files(self, stars: Table) -> list[str]:
        """The mwmStar or mwmVisit of each row, and where it is asked for the file with ASPCAP's continuum."""
        named = [_Place.of(str(file)).path for file in stars["FILE"]]
        if self.continuum != "aspcap":
            return named
        return [*named, *(self._path("aspcap", int(str(star).split("#")[0])) for star in stars["sdss_id"])]

    def read(self, star: Row) -> Measured:
        """A co-add of mwmStar, or a visit of mwmVisit."""
        place = _Place.of(str(star["FILE"]))
        sdss_id = int(str(star["sdss_id"]).split("#")[0])
        columns = ["flux", "ivar", "pixel_flags", "continuum"]

        def chosen(rows: list[dict[str, Any]]) -> int:
            return _coadd(rows, star) if place.visit is None else place.visit

        pixels = read_pixels(below_root(self.root, place.path), str(star["telescope"]), sdss_id, chosen, *columns)
        if self.continuum == "nmf" and self.failed_continuum == "leave_out" and pixels.get("nmf_flags", 0) != 0:
            said = "survey.failed_continuum=use takes it all the same"
            raise UnusableFileError(f"its NMF continuum failed (nmf_flags={int(pixels['nmf_flags'])}; {said})")
        continuum = pixels["continuum"] if self.continuum == "nmf" else self._aspcap_continuum(star, sdss_id)
        if not (np.isfinite(continuum) & (continuum > 0)).any():
            raise UnusableFileError(f"no continuum ({self.continuum}); survey.continuum names another")
        return measured(pixels, continuum, self.bad_bits, self.error_floor)

    def _aspcap_continuum(self, star: Row, sdss_id: int) -> NDArray[np.float64]:
        def chosen(rows: list[dict[str, Any]]) -> int:
            for number, row in enumerate(rows):
                if _same(row, star, "release") and _same(row, star, "telescope"):
                    return number
            raise UnusableFileError(f"no ASPCAP continuum of the co-add {star['release']}, {star['telescope']}")

        path = self.root / self._path("aspcap", sdss_id)
        try:
            continuum: NDArray[np.float64] = read_pixels(path, str(star["telescope"]), sdss_id, chosen, "continuum")[
                "continuum"
            ]
        except UnusableFileError as error:
            raise UnusableFileError(f"{error} (in {path.name})") from None
        assert continuum.shape == (N_PIXELS,)
        return continuum


def _same(row: dict[str, Any], star: Row, name: str) -> bool:
    return name not in row or str(row[name]) == str(star[name])


def _coadd(rows: list[dict[str, Any]], star: Row) -> int:
    """The row of mwmStar, which must be the co-add that the labels are of."""
    row = rows[0]
    same = _same(row, star, "release") and _same(row, star, "telescope")
    if same and star[CO_ADDS] > 1 and "snr" in row:  # the catalogue has several of these: of other fields
        same = bool(np.isclose(row["snr"], star["snr"], rtol=1e-3))
    if not same:
        held, wanted = (f"{each['release']} of {each['telescope']} at S/N {each['snr']:.4g}" for each in (row, star))
        raise UnusableFileError(f"{OTHER_COADD}: {wanted}; the file holds {held}")
    return 0


def _filled(option: str, template: str, **values: Any) -> str:
    try:
        return template.format(**values)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"survey.{option}={template} may name {', '.join(values)} in braces, got {error}") from None
