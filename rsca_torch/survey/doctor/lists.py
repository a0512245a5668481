"""Lists of members that are no FITS tables: CSV, ECSV, VOTable, Parquet, columns of fixed width."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import as_text, has_name
from rsca_torch.survey.doctor.remarks import Remark, remark
from rsca_torch.survey.doctor.tables import Read
from rsca_torch.survey.id_kinds import kind_of_column
from rsca_torch.survey.list_formats import read_columns
from rsca_torch.survey.listed_stars import texts_of
from rsca_torch.survey.member_ids import ids_meant

__all__ = ["LISTS", "list_remarks"]

LISTS = re.compile(r".+\.(csv|tsv|psv|txt|ecsv|vot|votable|xml|parquet|pq|dat)(\.gz|\.bz2|\.xz)?$")
#: Such files are tables and nothing else: one that cannot be read is remarked on.
SURELY = re.compile(r".+\.(ecsv|vot|votable|parquet|pq)(\.gz|\.bz2|\.xz)?$")
#: Columns of clusters; and those that only a catalogue of stars has.
GROUPS, CATALOGUE = ("CLUSTER", "NAME"), {"TEFF", "LOGG"}
#: Columns of ids whose name tells no kind, as Gaia's own tables and VizieR have them.
IDS = ("SOURCE_ID", "SOURCE", "GAIA", "GAIA_ID")


def list_remarks(root: Path, files: Sequence[str], tables: Sequence[Read]) -> list[Remark]:
    """What is wrong with lists, and how well each matches the catalogues of the tree.

    A file with no column of stars' ids, or none of clusters, is no list, and nothing is said of it.

    Args:
        root: of the tree.
        files: that may be lists.
        tables: catalogues among them.
    """
    remarks: list[Remark] = []
    for file in files:
        columns: list[str] = []
        known: list[str] = []

        def choose(
            names: Sequence[str], known: list[str] = known, columns: list[str] = columns
        ) -> tuple[list[str], list[str]]:
            known[:] = names
            ids = [name for name in names if kind_of_column(name)] or [name for name in IDS if name in names]
            groups = [name for name in GROUPS if name in names]
            if not ids or not groups or {*names} >= CATALOGUE:
                raise InputError("is no list of members")
            columns[:] = [ids[0], groups[0]]
            return columns, []

        try:
            table = read_columns(root / file, "members", choose)
            stars, groups = texts_of(root / file, table, columns[0]), as_text(table[columns[1]]).tolist()
        except InputError as error:
            if columns or (not known and SURELY.match(file)):
                remarks += remark(str(error), [file], cure="fetch or write the list again", matters=True)
            elif not known and "ReadMe" in str(error):
                remarks += remark("no ReadMe beside a table of fixed width, which cannot be read without", [file])
            continue
        remarks += _of_list(file, columns[0], stars, groups, tables)
    return remarks


def _of_list(file: str, column: str, stars: list[str], groups: list[str], tables: Sequence[Read]) -> list[Remark]:
    told: defaultdict[str, set[str]] = defaultdict(set)
    for star, group in zip(stars, groups, strict=True):
        if has_name(star) and star != "0" and has_name(group):
            told[star].add(re.sub(r"[\s_]+", " ", group.strip()))
    nobody = [str(row) for row, star in enumerate(stars) if not has_name(star) or star == "0"]
    remarks = remark(f"rows of {file} without an id", nobody, len(stars), "they are not used")
    several = [star for star, names in told.items() if len(names) > 1]
    cure = "survey.membership chooses; who is in two even so is left out"
    remarks += remark(f"stars in more than one cluster in {file}", several, len(told), cure)
    catalogues = [table for table in tables if table.is_catalogue]
    released = [table for table in catalogues if table.release]  # and no excerpt that lies beside
    for catalogue in released or catalogues:
        remarks += _match(file, column, told, catalogue)
    return remarks


def _match(file: str, column: str, told: dict[str, set[str]], catalogue: Read) -> list[Remark]:
    """How many are in the catalogue, by the kind of ids that the list's column tells, or else by the best."""
    kind, there = kind_of_column(column), catalogue.others()
    names = f"{Path(file).name} are not in {Path(catalogue.file).name}"
    if kind is not None and kind not in there:
        what = f"{Path(file).name} has ids of the kind {kind}, and {Path(catalogue.file).name} has {', '.join(there)}"
        return [Remark(what, len(told), cure="it cannot be a list of members for this catalogue")]
    found = {
        name: len(ids_meant(told, {*as_text(values).tolist()}, name))
        for name, values in there.items()
        if kind in (None, name)
    }
    best = max(found, key=lambda name: found[name])
    missing = len(told) - found[best]
    if not missing:
        return []
    fits = "" if kind else f" by {best}, which fits best"
    cure = (
        "is the list of this survey?" if not found[best] else "a list of the whole sky names stars that nobody observed"
    )
    return [Remark(f"stars on {names}{fits}", missing, len(told), cure=cure, matters=not found[best])]
