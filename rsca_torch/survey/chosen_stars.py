"""Which of a survey's observations are read: field stars, members, stars of other groups, repeats."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import as_labels, as_text
from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.cuts import CutFlow, main_rows, select
from rsca_torch.survey.grouped_stars import KIND, Grouped, grouped, kind_of
from rsca_torch.survey.id_kinds import catalogue_column
from rsca_torch.survey.member_ids import Wanted, found_in
from rsca_torch.survey.members import Memberships
from rsca_torch.survey.reader import Listing, Reader
from rsca_torch.survey.repeats import ALL_CUTS, REPEAT_OF, RepeatRule, numbered, observed_stars, take_back
from rsca_torch.survey.survey import Survey

__all__ = ["GROUPS", "REPEATS", "Chosen", "choose_stars"]

log = logging.getLogger(__name__)

Problems = list[tuple[str, str]]
REPEATS, GROUPS = "kept apart as repeats", "kept apart as groups"  # steps of the cut flow


class Chosen(NamedTuple):
    """Which spectra are to be read.

    Attributes:
        stars: one row a star of the field or a cluster, as the reader describes it, in the survey's roles.
        groups: likewise of stars of groups besides clusters; their role group is "KIND: NAME", their column KIND.
        repeats: further observations of all these; the role repeat_of names the star.
        flow: the cut flow so far.
        problems: (file, problem) of the files that are already known to be unusable.
        listed: what became of the list of members: text -> number.
    """

    stars: Stars
    groups: Stars
    repeats: Stars
    flow: CutFlow
    problems: Problems
    listed: Mapping[str, int]


def choose_stars(survey: Survey) -> Chosen:
    """Which spectra are to be read.

    Raises:
        InputError: the survey's files cannot be used, no star is left, a role names a column that is not there, or an
            observation repeats itself or a star that is not there.
    """
    reader, roles = survey.reader, survey.roles
    naming = {role: column for role, column in roles.items() if role in ("id", "repeat_of")}
    try:
        listed_members = memberships = survey.memberships()
    except InputError:
        reader.list_stars([*naming.values()])  # where there is no survey either, that is to be said first
        raise
    named_by, _ = _id_column(survey, listed_members)
    matched = [named_by, *(each.matches for each in survey.lists if each.matches)]
    listing = reader.list_stars(list(dict.fromkeys([*naming.values(), *(cut.column for cut in survey.cuts), *matched])))
    if reader.tells_groups and survey.members is None and "group" in roles:
        with suppress(InputError):  # where there is no such column, that is said of the role
            listing.stars[roles["group"]] = reader.list_stars([roles["id"], roles["group"]]).stars[roles["group"]]
    listed = Stars(listing.stars, copy=False).playing(naming)
    observed = observed_stars(listed)
    if survey.members is not None:
        wanted = Wanted(survey.members, named_by, listing.catalogue or str(survey.root), survey.most_missing)
        memberships = _found(survey, listing, listed.id, listed_members, wanted)
    flow = CutFlow(listing.called, len(listing.stars) + len(listing.problems) + len(listing.left_out))
    if listing.unusable:
        unusable = [("", f"{file}: {problem}") for file, problem in listing.problems]
        flow.record(listing.unusable, len(listing.stars), [*unusable, *listing.left_out])
    before = len(flow.steps)
    kept = select(listing.stars, survey.cuts, flow, roles["id"], survey.meant_for)
    _tell_columns(survey, listing, kept)
    stars = _described(survey, listing, kept)
    if survey.members is not None:
        stars[roles["group"]] = memberships.of(stars.id)
    stars = _labelled(stars)
    if memberships.ambiguous:
        unclear = np.isin(stars.id, list(memberships.ambiguous))
        claims = [(star, " and in ".join(memberships.ambiguous[star])) for star in stars.id[unclear].tolist()]
        flow.record("in two clusters", int((~unclear).sum()), claims)
        for star, clusters in sorted({*claims}):
            log.warning("%s is left out: in %s", star, clusters)
        stars, kept = stars[~unclear], kept[~unclear]
    claimed = _claims(survey, listing, stars, listed_members, memberships)
    found = grouped(survey.lists, listed, observed, survey.root, reader.id_length, claimed)
    beside = np.isin(observed[kept], list(found.beside))
    if beside.any():
        told = [(star, found.beside[of]) for star, of in zip(stars.id[beside], observed[kept[beside]], strict=True)]
        flow.record("in a group with a listed member", int((~beside).sum()), told)
        stars, kept = stars[~beside], kept[~beside]
    everyone, of = stars, observed[kept]
    stars, chosen = _one_row_a_star(stars, of, reader, survey.member_duplicates == "stay")
    again, repeats, untold = _repeats(survey, listing, observed, kept[chosen], stars)
    take_back(flow, listing.stars[np.setdiff1d(again, kept)], roles["id"], survey.cuts, before)
    gone = ~chosen & ~np.isin(kept, again)
    removed = zip(everyone.id[gone].tolist(), [str(file) for file in everyone["FILE"][gone]], strict=True)
    flow.record("duplicate observations", len(stars) + len(again), removed)
    if survey.repeats is not None:
        flow.record(REPEATS, len(stars))
    stars, groups = _apart(stars, found)
    if survey.lists:
        flow.record(GROUPS, len(stars), hint=": every star is in a group", option="survey.groups")
    if survey.members is not None:
        _require_field(stars, survey.members)
    counts = dict(memberships.counts)
    if counts:
        counts["in two clusters"] = len(memberships.ambiguous)
        counts["pass the cuts, in a cluster"] = int((stars.group != "").sum())
    return Chosen(stars, groups, repeats, flow, [*listing.problems, *untold], counts)


def _id_column(survey: Survey, listed: Memberships) -> tuple[str, str | None]:
    """The survey's column that has the ids of the list of members, and their kind."""
    if survey.members is None:
        return survey.roles["id"], None
    ids = [*listed.cluster, *listed.ambiguous]
    return catalogue_column(
        f"survey.members={survey.members}", listed.column, survey.listed.kind, ids, survey.ids, survey.roles["id"],
        "survey.listed.kind",
    )  # fmt: skip


def _found(survey: Survey, listing: Listing, ids: NDArray[np.str_], listed: Memberships, wanted: Wanted) -> Memberships:
    """The memberships under the survey's own ids; where too few are found, it is said which ids would fit."""
    try:
        return found_in(ids, listed, wanted, as_labels(listing.stars[wanted.column]))
    except InputError as error:
        fits = []
        for kind, column in survey.ids.items():
            if column == wanted.column:
                continue
            with suppress(InputError):  # a catalogue may lack a column that no cut looks at
                there = {*as_text(survey.reader.list_stars([survey.roles["id"], column]).stars[column]).tolist()}
                fits.append((sum(star in there for star in listed.cluster), kind, column))
        number, kind, column = max(fits, default=(0, "", ""))
        if 2 * number <= len(listed.cluster):
            raise
        raise InputError(
            f"{error}. But {number} of {len(listed.cluster)} are in {column}: survey.listed.kind={kind} takes them so"
        ) from error


def _described(survey: Survey, listing: Listing, rows: NDArray[np.intp]) -> Stars:
    return survey.described(listing.stars[rows], rows)


def _tell_columns(survey: Survey, listing: Listing, kept: NDArray[np.intp]) -> None:
    """Say which columns are to tell how good a repeat is and are not there: no cut of theirs holds for a repeat."""
    wanted = survey.repeats.columns if survey.repeats else None
    if wanted is None or not survey.cuts:
        return
    looked_at = sorted({cut.column for cut in survey.cuts})
    known = {*looked_at, *listing.stars.colnames}
    if others := [name for name in wanted if name not in known]:
        known |= {*survey.reader.describe(listing.stars[kept[:1]], kept[:1], others).colnames}
    if unknown := [name for name in wanted if name not in known]:
        log.warning(
            "survey.repeats.columns: the survey has no column %s, so that asks nothing of a repeat; the cuts look at "
            "%s, and those on %s hold for repeats too",
            " and ".join(unknown),
            ", ".join(looked_at),
            ", ".join(name for name in looked_at if name in wanted) or "none of them",
        )


def _repeats(
    survey: Survey, listing: Listing, observed: NDArray[np.str_], used: NDArray[np.intp], stars: Stars
) -> tuple[NDArray[np.intp], Stars, Problems]:
    """The rows of the listing that are repeats of stars that are kept, their star table, and files without use.

    Args:
        survey: says which further observations are used.
        listing: N observations.
        observed: (N,) the star that each is of.
        used: (n,) rows of `stars`.
        stars: those that are kept.
    """
    rule = survey.repeats or ALL_CUTS
    if rule.observations == "visits":
        return np.array([], dtype=np.intp), *_visits(survey, rule, stars)
    further = np.zeros(len(observed), dtype=bool) if len(used) == len(observed) else np.isin(observed, observed[used])
    further[used] = False
    rows = np.flatnonzero(further)
    rows = rows[rule.passed(listing.stars[rows], survey.cuts)] if survey.repeats else rows[:0]
    if not len(rows):
        return rows, numbered(stars[:0], np.array([], dtype=str), set()), []
    repeats = _described(survey, listing, rows)
    chosen = rule.chosen(repeats, np.asarray(stars["FILE"], dtype=str))
    return rows[chosen], numbered(repeats[chosen], observed[rows[chosen]], set(stars.id.tolist())), []


def _visits(survey: Survey, rule: RepeatRule, stars: Stars) -> tuple[Stars, Problems]:
    """The visits of the stars that are kept, as repeats."""
    visits = survey.reader.visits(stars)
    if visits is None:
        raise InputError("survey.repeats.observations=visits: this survey has no spectra of visits; coadds expected")
    if not len(visits.stars):
        first = f", the first: {': '.join(visits.problems[0])}" if visits.problems else ""
        raise InputError(
            f"survey.repeats.observations=visits: none of {len(stars)} stars has a visit that can be used{first}; "
            "fetch their files, or take coadds"
        )
    good = rule.passed(visits.stars, survey.cuts, visits.own)
    of, seen = np.asarray(stars.id)[visits.of[good]], Stars(visits.stars[good]).playing(stars.roles)
    chosen = rule.chosen(seen, np.asarray(stars["FILE"], dtype=str))
    return numbered(seen[chosen], of[chosen], set(stars.id.tolist())), list(visits.problems)


def _labelled(stars: Stars) -> Stars:
    """Groups without blanks around them, '' for every one that is none: -1, NaN, a mask. A file would keep these."""
    if stars.has("group"):
        column, labels = stars.roles["group"], np.char.strip(stars.group)
        nameless = (as_text(stars[column]) != "") & (labels == "")
        if nameless.any():
            log.info("%d of %d stars have no name in %s: of the field", int(nameless.sum()), len(stars), column)
        stars[column] = labels
    return stars


def _claims(survey: Survey, listing: Listing, stars: Stars, *listed: Memberships) -> Memberships:
    """Who is claimed by a cluster, under the list's ids and under the catalogue's."""
    if survey.members is None and stars.has("group"):  # the reader's own table tells, of stars that fail cuts too
        column = stars.roles["group"]
        every = listing.stars if column in listing.stars.colnames else stars
        named = (labels := as_labels(every[column])) != ""
        ids = as_text(every[survey.roles["id"]][named])
        return Memberships(dict(zip(ids.tolist(), labels[named].tolist(), strict=True)), {})
    one, other = listed
    return Memberships({**one.cluster, **other.cluster}, {**one.ambiguous, **other.ambiguous})


def _apart(stars: Stars, found: Grouped) -> tuple[Stars, Stars]:
    """The field and the members; and the stars of groups, two at least of each, with their groups.

    Of a group one star of which alone is there, that star stays in the field: it has no sibling, and is no worse a
    stranger than others.
    """
    labels = np.array([found.group.get(star, "") for star in stars.id.tolist()], dtype=str)
    if stars.has("group"):
        labels[stars.group != ""] = ""  # claimed by a column of the catalogue's own
    names, number, size = np.unique(labels, return_inverse=True, return_counts=True)
    labels = np.where(size[number] > 1, labels, "")
    groups = stars[labels != ""]
    if len(names) > 1 or found.group:
        groups[stars.roles["group"]] = labels[labels != ""]
        groups[KIND] = kind_of(labels[labels != ""])
    return (stars[labels == ""] if len(groups) else stars), groups  # no copy where there is nothing to leave out


def _require_field(stars: Stars, members: str) -> None:
    """Refuse a list that names every star; warn where it names none."""
    if (stars.group != "").all():
        raise InputError(
            f"survey.members={members} names all {len(stars)} stars that are left, so none is of the field, with which "
            "members are compared; give a list of the members of clusters alone"
        )
    if not (stars.group != "").any():
        log.warning("no cluster member passes the cuts: the store will hold field stars only")


def _one_row_a_star(
    stars: Stars, of: NDArray[np.str_], reader: Reader, members_stay: bool
) -> tuple[Stars, NDArray[np.bool_]]:
    """Each star's main row, and (N,) which rows these are.

    Args:
        stars: N observations.
        of: (N,) the star that each is of.
        reader: says which rows the survey marks as further ones.
        members_stay: keep a member's other rows too, as field stars of other names.
    """
    snr = stars.snr if stars.has("snr") else np.full(len(stars), np.nan)
    itself = of == stars.id
    main = main_rows(of, snr, reader.is_repeat(stars) | ~itself) & itself
    members_stay = members_stay and stars.has("group")
    kept = main | (stars.group != "") if members_stay else main
    stars, other = (stars if kept.all() else stars[kept]), ~main[kept]
    if not members_stay:
        return stars, kept
    ids, seen = stars.id.tolist(), dict[str, int]()
    stars[REPEAT_OF] = np.where(other, stars.id, "")
    for row in np.flatnonzero(other):
        seen[ids[row]] = seen.get(ids[row], 1) + 1
        ids[row] = f"{ids[row]}#{seen[ids[row]]}"
    stars[stars.roles["id"]] = ids
    stars[stars.roles["group"]] = np.where(other, "", stars.group)
    return stars.playing({**stars.roles, "repeat_of": REPEAT_OF}), kept
