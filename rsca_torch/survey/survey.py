"""The sample: where a survey's files lie, and which of its stars become field stars and members."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
from astropy.table import Table

from rsca_torch.errors import InputError
from rsca_torch.survey.apogee import STAR_COLUMNS, find_catalogue, read_catalogue, spectrum_files
from rsca_torch.survey.aspcapstar_folder import read_folder
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.cuts import Cut, CutFlow, main_rows, select
from rsca_torch.survey.members import Memberships, read_memberships
from rsca_torch.survey.visits import MEAN_FIBRE, mean_fibres

ROLES_OF_APOGEE = {
    "id": "APOGEE_ID",
    "group": "CLUSTER",
    "velocity": "VHELIO_AVG",
    "extinction": "AK_TARG",
    "snr": "SNR",
}

__all__ = ["Survey", "choose_stars"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Survey:
    """Where a survey's files lie and which stars and bins of it are used: one file of conf/survey.

    Attributes:
        root: the folder that all other paths start from.
        release: dr13, dr14, dr16 or dr17; None only without a catalogue (told from each file's name then).
        catalogue: paths of allStar below root, of which the first that exists is read; None: no catalogue, the spectra
            bring their own star tables.
        spectrum: path of a spectrum below root, with {TELESCOPE}, {FIELD}, {LOCATION_ID}, {APOGEE_ID}; without a
            catalogue the pattern of the file names.
        members: list of cluster members, below root or absolute; None: no clusters.
        membership: who on that list is a member, ``{column, above}``; None: everyone.
        cuts: which stars are used, in order; each a `Cut` or the mapping of one.
        censoring: which bins are used.
        member_duplicates: what becomes of further observations of a member: "leave" the field, or "stay" in it as the
            authors' program had it, under the ids ``<id>#2``, ``<id>#3``.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    root: Path
    spectrum: str
    catalogue: Sequence[str] | None = None
    release: str | None = None
    members: str | None = None
    membership: Mapping[str, Any] | None = None
    cuts: Sequence[Cut] = ()
    censoring: Censoring = field(default_factory=Censoring)
    member_duplicates: str = "leave"
    roles: Mapping[str, str | None] = field(default_factory=lambda: dict(ROLES_OF_APOGEE))

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        object.__setattr__(self, "cuts", tuple(Cut.of(cut) for cut in self.cuts))
        if isinstance(self.catalogue, str):
            object.__setattr__(self, "catalogue", (self.catalogue,))
        if self.catalogue is not None and self.release is None:
            raise InputError("survey.release must be dr13, dr14, dr16 or dr17 where there is a catalogue, got null")
        if self.member_duplicates not in ("leave", "stay"):
            raise InputError(f"survey.member_duplicates must be leave or stay, got {self.member_duplicates!r}")

    def memberships(self) -> Memberships:
        """Who is a member of which cluster.

        Raises:
            InputError: the list cannot be used.
        """
        if self.members is None:
            return Memberships({}, {})
        who = None if self.membership is None else Cut.of({"name": "membership", **self.membership})
        return read_memberships(self.root / self.members, who)

    def config(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return json.loads(json.dumps(asdict(self), default=str))  # type: ignore[no-any-return]


def choose_stars(survey: Survey) -> tuple[Table, CutFlow, list[tuple[str, str]]]:
    """Which spectra are to be read.

    Returns:
        One row a star (`STAR_COLUMNS`, EXTRATARG, the abundances, FILE relative to root, CLUSTER); the cut flow so far;
        (file, problem) of the files that are already known to be unusable.

    Raises:
        InputError: the survey's files cannot be used, or no star is left.
    """
    path = None if survey.catalogue is None else find_catalogue(survey.root, survey.catalogue)
    memberships = survey.memberships()
    stars, flow, problems = _from_folder(survey) if path is None else _from_catalogue(survey, path, memberships)
    ids = np.asarray(stars["APOGEE_ID"])
    if memberships.ambiguous:
        unclear = np.isin(ids, list(memberships.ambiguous))
        flow.record("in two clusters", int((~unclear).sum()))
        for star in np.unique(ids[unclear]):
            log.warning("%s is left out: in %s", star, " and in ".join(memberships.ambiguous[str(star)]))
        stars = stars[~unclear]
    if "VISITS" in stars.colnames:
        stars[MEAN_FIBRE] = mean_fibres(stars)
    stars["CLUSTER"] = memberships.of(np.asarray(stars["APOGEE_ID"]))
    stars = _one_row_a_star(stars, survey.member_duplicates == "stay")
    flow.record("duplicate observations", len(stars))
    if survey.members is not None and not (stars["CLUSTER"] != "").any():
        log.warning("no cluster member passes the cuts: the store will hold field stars only")
    return stars, flow, problems


def _from_folder(survey: Survey) -> tuple[Table, CutFlow, list[tuple[str, str]]]:
    stars, problems = read_folder(survey.root, survey.spectrum, survey.release)
    flow = CutFlow("files", len(stars) + len(problems))
    flow.record("star table unusable or double", len(stars))
    kept = select(stars, survey.cuts, flow)
    return stars[kept], flow, problems


def _from_catalogue(
    survey: Survey, path: Path, memberships: Memberships
) -> tuple[Table, CutFlow, list[tuple[str, str]]]:
    """Two passes over the catalogue: the columns that decide, then those that describe the stars that are kept."""
    release = str(survey.release)
    deciding = dict.fromkeys(["APOGEE_ID", *(cut.column for cut in survey.cuts)])
    stars = read_catalogue(path, release, deciding)
    ids = {*memberships.cluster, *memberships.ambiguous}
    if survey.members is not None and not np.isin(stars["APOGEE_ID"], list(ids)).any():
        raise InputError(
            f"none of the {len(ids)} members in survey.members={survey.members} is in {path.name}; "
            "are both of the same survey, and is the id the APOGEE_ID (2M...)?"
        )
    flow = CutFlow("catalogue", len(stars))
    kept = select(stars, survey.cuts, flow)
    places = {name for _, name, _, _ in Formatter().parse(survey.spectrum) if name in STAR_COLUMNS}
    optional = {"LOCATION_ID", "VISITS"} - places
    describing = [*(name for name in STAR_COLUMNS if name not in optional), "EXTRATARG", "X_H"]
    stars = read_catalogue(path, release, describing, sorted(optional), kept)
    if "LOCATION_ID" not in stars.colnames:
        stars["LOCATION_ID"] = STAR_COLUMNS["LOCATION_ID"]
    stars["FILE"] = spectrum_files(survey.spectrum, stars)
    return stars, flow, []


def _one_row_a_star(stars: Table, members_stay: bool) -> Table:
    """Keep each star's main row; with ``members_stay`` a member's other rows too, as field stars of other names."""
    main = main_rows(stars)
    if not members_stay:
        return stars[main]
    stars = stars[main | (stars["CLUSTER"] != "")]
    main = main_rows(stars)
    ids, seen = [str(star) for star in stars["APOGEE_ID"]], dict[str, int]()
    for row in np.flatnonzero(~main):
        seen[ids[row]] = seen.get(ids[row], 1) + 1
        ids[row] = f"{ids[row]}#{seen[ids[row]]}"
    stars["APOGEE_ID"] = ids
    stars["CLUSTER"][~main] = ""
    return stars
