"""Which files a survey needs: its catalogue and list of members first, which tell what spectra."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from rsca_torch.survey.chosen_stars import choose_stars
from rsca_torch.survey.fits_files import COMPRESSED
from rsca_torch.survey.survey import Survey

__all__ = ["Needed", "first_needed", "lies_below", "spectra_needed"]


class Needed(NamedTuple):
    """Files of which one is needed.

    Attributes:
        what: it is.
        candidates: paths below root; the first that there is counts.
    """

    what: str
    candidates: Sequence[str]


def first_needed(survey: Survey) -> list[Needed]:
    """What must be there before it is known which spectra are needed: the catalogue, the list of members.

    A catalogue may be compressed; a list that lies elsewhere than below root is the user's own.
    """
    told = getattr(survey.reader, "catalogue", ())
    catalogue = (told,) if isinstance(told, str) else tuple(told)
    every = [f"{path}{suffix}" for path in catalogue for suffix in ("", *COMPRESSED)]
    needed = [Needed("catalogue", every)] if every else []
    if survey.members is not None and not Path(survey.members).is_absolute():
        needed.append(Needed("list of members", [survey.members]))
    return needed


def spectra_needed(survey: Survey) -> tuple[list[str], list[tuple[str, str]]]:
    """The spectra of all stars that pass the survey's cuts, and of their repeats and groups.

    Returns:
        Paths below root, each once; and (path, reason) of those that lie elsewhere, which nobody fetches.

    Raises:
        InputError: the catalogue or the list of members cannot be used.
    """
    chosen = choose_stars(survey)
    parts = (chosen.stars, chosen.groups, chosen.repeats)
    paths = list(dict.fromkeys(chain.from_iterable(survey.reader.files(part) for part in parts if len(part))))
    elsewhere = [(path, "path leads out of root: the catalogue's row is not used") for path in paths]
    return [path for path in paths if lies_below(path)], [each for each in elsewhere if not lies_below(each[0])]


def lies_below(path: str) -> bool:
    r"""Whether a path starts at root and stays there.

    >>> [lies_below(path) for path in ("dr16/a+b/c.fits", "../c.fits", "a/../../c.fits", "/c.fits", "a\0.fits", "")]
    [True, False, False, False, False, False]
    """
    pure = PurePosixPath(path)
    return bool(path) and path.isprintable() and not pure.is_absolute() and ".." not in pure.parts and "\\" not in path
