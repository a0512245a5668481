"""Catalogues of stars and lists of members in FITS: what they lack, and how well they match."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsca_torch.spectra.labels import as_text
from rsca_torch.survey.apogee import ELEMENTS
from rsca_torch.survey.doctor.remarks import Remark, remark
from rsca_torch.survey.download.right_files import require_right
from rsca_torch.survey.fits_files import UnusableFileError, native, open_fits
from rsca_torch.survey.member_ids import ids_meant

__all__ = ["Read", "read_tables", "table_remarks"]

#: Columns of the star that a row is of, the first that is there, and their kind (`id_kinds`).
KEYS = {"APOGEE_ID": "apogee", "SDSS_ID": "sdss_id"}
#: Catalogues' columns of other ids, by which lists may name stars; in DR16 that of Gaia does not tell its release.
OTHERS = {
    "GAIA_SOURCE_ID": "gaia_dr2",
    "GAIAEDR3_SOURCE_ID": "gaia_dr3",
    "GAIA_DR2_SOURCE_ID": "gaia_dr2",
    "GAIA_DR3_SOURCE_ID": "gaia_dr3",
    "SDSS4_APOGEE_ID": "apogee",
}
WANTED = {*KEYS, *OTHERS, "X_H", "VISITS", "CLUSTER", "CG_PROB"}
#: Elements that nobody demands: the paper has the other 21.
RARE = {"P", "Ge", "Rb", "Y", "Nd", "Yb", "C13"}
#: A share of listed ids, below which a list and a catalogue are not of the same stars.
FEW = 0.5


class Read(NamedTuple):
    """A table of stars, as far as it is looked at.

    Attributes:
        file: relative to the tree.
        kind: of the ids, of `KEYS`.
        ids: (N,) APOGEE_ID or sdss_id, as text.
        columns: names of all columns, upper case.
        values: name -> (N, ...) of those that are looked at.
    """

    file: str
    kind: str
    ids: NDArray[np.str_]
    columns: set[str]
    values: dict[str, NDArray[Any]]

    @property
    def is_list(self) -> bool:
        """Whether it says who is in which cluster, and no abundances."""
        return "CLUSTER" in self.columns and not self.is_catalogue

    @property
    def is_catalogue(self) -> bool:
        """Whether it has what a catalogue has and a list has not."""
        return {"TEFF", "LOGG"} <= self.columns

    @property
    def release(self) -> str:
        """As the name of the file tells it, or the folder; '' where neither does."""
        told = re.search(r"dr(\d\d)", Path(self.file).name.lower())
        names = {"l30e": "dr13", "l31c": "dr14", "r12-l33": "dr16"}
        other = next((release for sign, release in names.items() if sign in self.file), "")
        folder = re.match(r"(?:.*/)?(dr\d\d)/", self.file)
        return told[0] if told else other or (folder[1] if folder else "")

    def others(self) -> dict[str, NDArray[Any]]:
        """Kind -> (N,) its ids of that kind."""
        return {self.kind: self.ids} | {kind: self.values[name] for name, kind in OTHERS.items() if name in self.values}


def read_tables(root: Path, files: Sequence[str]) -> tuple[list[Read], dict[str, list[str]]]:
    """The tables of stars among files, and reason -> files that cannot be used. Files without ids are left out."""
    tables, unusable = [], defaultdict(list)
    for file in files:
        try:
            require_right(root / file)
            with open_fits(root / file, memmap=True) as hdus:
                for hdu in hdus[1:3]:  # astraAllStarASPCAP has APOGEE's rows in the second, and none in the first
                    names = {} if hdu.is_image else {name.upper(): name for name in hdu.columns.names}
                    key = next((name for name in KEYS if name in names), None)
                    if key is None or not hdu.header["NAXIS2"]:
                        continue
                    values = {name: native(hdu.data[names[name]]) for name in sorted(WANTED & names.keys())}
                    tables.append(Read(file, KEYS[key], as_text(values[key]), {*names}, values))
                    break
        except UnusableFileError as error:
            unusable[str(error)].append(file)
    return tables, unusable


def table_remarks(tables: Sequence[Read]) -> list[Remark]:
    """What they lack, and how well lists match the catalogues of their release, or all where there is none of it."""
    remarks: list[Remark] = []
    for table in tables:
        remarks += _catalogue(table) if table.is_catalogue else _list(table) if table.is_list else []
    catalogues = [table for table in tables if table.is_catalogue]
    for listed in (table for table in tables if table.is_list):
        same = [table for table in catalogues if table.release == listed.release]
        for catalogue in same:
            remarks += _match(listed, catalogue)
    return remarks


def _catalogue(table: Read) -> list[Remark]:
    remarks = []
    elements = ELEMENTS.get(table.release, [])
    x_h = table.values.get("X_H")
    if x_h is not None and len(x_h):
        x_h = x_h.reshape(len(x_h), -1)
        if elements and x_h.shape[1] != len(elements):
            what = f"X_H of {table.file} has {x_h.shape[1]} abundances, {table.release} has {len(elements)}"
            remarks.append(Remark(what, 1, cure="is it of another release?", matters=True))
        elif elements:
            missing = np.isnan(x_h).all(0)
            empty = [name for name, gone in zip(elements, missing, strict=True) if gone and name not in RARE]
            remarks += remark(f"elements without any abundance in {table.file}", empty, cure="no cut may demand them")
    visits = table.values.get("VISITS")
    if visits is not None:
        odd = [str(star) for star, text in zip(table.ids, visits, strict=True) if ".fits" in str(text)]
        what = f"entries of VISITS in {table.file} end in .fits"
        remarks += remark(what, odd, len(table.ids), "nothing to do: the ending is not read")
    elif table.release in ("dr13", "dr14", "dr16"):
        cure = "enough for all but rsca reproduce figure8"
        remarks += remark("no VISITS, as in allStarLite", [table.file], cure=cure)
    unnamed = [str(row) for row in np.flatnonzero(np.isin(table.ids, ["", "-1"]))]
    return remarks + remark(f"rows of {table.file} without an id", unnamed, len(table.ids), "they are not used")


def _list(table: Read) -> list[Remark]:
    told: defaultdict[str, set[str]] = defaultdict(set)
    for star, cluster in zip(table.ids.tolist(), table.values["CLUSTER"].tolist(), strict=True):
        told[star].add(re.sub(r"[\s_]+", " ", cluster))
    several = [star for star, clusters in told.items() if len(clusters) > 1]
    cure = "survey.membership chooses; who is in two even so is left out"
    remarks = remark(f"stars in more than one cluster in {table.file}", several, len(told), cure)
    if "CG_PROB" not in table.columns:
        cure = "survey.membership names the column that says who is a member"
        remarks += remark("no CG_PROB, which surveys that ship look at", [table.file], cure=cure)
    return remarks


def _match(listed: Read, catalogue: Read) -> list[Remark]:
    if listed.kind not in (there := catalogue.others()):
        return []
    wanted, stars = dict.fromkeys(listed.ids.tolist()), set(as_text(there[listed.kind]).tolist())
    found = len(ids_meant(wanted, stars, listed.kind))
    if found == len(wanted):
        return []
    excerpt = len(stars) < len(wanted)  # of a catalogue, which cannot have them all
    missing = len(wanted) - found
    what = f"stars on {Path(listed.file).name} are not in {Path(catalogue.file).name}"
    cure = "an excerpt: survey.most_missing=1 takes it" if excerpt else "is the list of the same release?"
    return [Remark(what, missing, len(wanted), cure=cure, matters=not excerpt and missing > FEW * len(wanted))]
