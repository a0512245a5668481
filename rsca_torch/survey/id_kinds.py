"""Kinds of star ids: APOGEE's 2MASS names, sdss_id, Gaia DR2's and DR3's; a number of one says nothing of another."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rsca_torch.errors import InputError

__all__ = ["KINDS", "catalogue_column", "kind_of_column", "require_kind", "require_kinds"]

KINDS = ("apogee", "sdss_id", "gaia_dr2", "gaia_dr3")
GAIA, TWO_MASS = r"(gaia *e?dr\d *)?\d{16,19}", r"(2mass *|2m)?j?\d{8}[+-]\d{7}"


def kind_of_column(name: str) -> str | None:
    """The kind that the name of a column tells; None where it tells none.

    >>> [kind_of_column(name) for name in ("GaiaDR2", "GAIAEDR3_SOURCE_ID", "SDSS_ID", "APOGEE_ID", "source_id")]
    ['gaia_dr2', 'gaia_dr3', 'sdss_id', 'apogee', None]
    """
    bare = re.sub("[^A-Z0-9]", "", name.upper())
    for kind, form in {
        "gaia_dr2": "DR2",
        "gaia_dr3": "DR3",
        "sdss_id": "^SDSSID$",
        "apogee": "APOGEEID|[2T]MASS",
    }.items():
        if re.search(form, bare):
            return kind
    return None


def require_kind(option: str, kind: str | None) -> None:
    """Raises InputError where it is none of `KINDS`, nor None."""
    if kind is not None and kind not in KINDS:
        raise InputError(f"{option} must be one of {', '.join(KINDS)}, got {kind!r}")


def require_kinds(ids: Mapping[str, str | None] | None) -> dict[str, str]:
    """Kind -> the survey's column of such ids.

    Raises:
        InputError: a key is no kind.
    """
    for kind in ids or {}:
        require_kind("a key of survey.ids", kind)
    return {kind: column for kind, column in (ids or {}).items() if column is not None}


def catalogue_column(
    of: str,
    column: str,
    kind: str | None,
    listed: Sequence[str],
    ids: Mapping[str, str],
    id: str,  # noqa: A002  (the role's name)
    option: str,
) -> tuple[str, str | None]:
    """Which column of a survey has the ids of a list, and their kind, as far as it is known.

    Args:
        of: the list, for messages.
        column: its column of ids.
        kind: as was said; None: the name of the column and the ids themselves tell.
        listed: some of the ids.
        ids: as `require_kinds` gives them.
        id: the column of the role id.
        option: that says the kind.

    Raises:
        InputError: the survey has no ids of the list's kind, or Gaia's release is not told and it has those of two.
    """
    if kind is None and column.upper() == id.upper():
        return id, next((known for known, there in ids.items() if there == id), None)
    kind = kind or kind_of_column(column)
    if kind is None:
        texts = [text.strip().lower() for text in listed[:1000]]
        if texts and all(re.fullmatch(TWO_MASS, text) for text in texts):
            kind = "apogee"
        elif texts and all(re.fullmatch(GAIA, text) for text in texts):
            gaia = [known for known in ids if known.startswith("gaia")]
            if len(gaia) > 1 or (not gaia and ids):
                raise InputError(
                    f"{of}: {column} holds ids of Gaia, of which release is not told; the survey has "
                    f"{_told(ids)}: {option}=gaia_dr2 or gaia_dr3 says it"
                )
            kind = gaia[0] if gaia else None
    if kind is None or not ids:
        return id, kind
    if kind not in ids:
        raise InputError(
            f"{of}: {column} has ids of the kind {kind}, and the survey has {_told(ids)}; {_cure(kind, ids)}"
        )
    return ids[kind], kind


def _told(ids: Mapping[str, str]) -> str:
    return ", ".join(f"{kind} ({column})" for kind, column in ids.items())


def _cure(kind: str, ids: Mapping[str, str]) -> str:
    other = {"gaia_dr2": "gaia_dr3", "gaia_dr3": "gaia_dr2"}.get(kind)
    if other in ids:
        return (
            f"a number of Gaia's means a star in one release only: take a list of {other}, or translate this one by "
            "Gaia's table dr2_neighbourhood"
        )
    return f"take a list of {' or '.join(ids)}, or say by survey.ids which column of the survey has {kind}"
