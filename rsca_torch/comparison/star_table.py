"""A table of stars with abundances and no spectra: there is no step 1, and the abundances are what learners see."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from omegaconf import DictConfig

from rsca_torch.comparison.abundances import abundances
from rsca_torch.comparison.comparison import Comparison, compare
from rsca_torch.comparison.merits import Merits
from rsca_torch.comparison.pair_rules import possible_pairs
from rsca_torch.comparison.progress import Progress
from rsca_torch.comparison.representation import Representation
from rsca_torch.comparison.training_options import TrainingOptions
from rsca_torch.errors import InputError
from rsca_torch.files.tables import read_table
from rsca_torch.learners.registry import maker
from rsca_torch.spectra.stars import Stars, abundance_column
from rsca_torch.survey.cuts import Cut, CutFlow, cuts_of, select

__all__ = ["compare_table", "members_and_field", "read_stars"]

log = logging.getLogger(__name__)

OF_ALL = "M_H"  # ends as the column of an element does, but is none


def read_stars(path: Path, roles: dict[str, str | None]) -> Stars:
    """A star table of any format that astropy reads, what is missing as NaN or ''.

    Args:
        path: of the file.
        roles: which column plays which; velocity, extinction and the like are left out where there is no such column.

    Raises:
        InputError: where it cannot be read, lacks the id or the group, or has several rows of one star.
    """
    try:
        table = read_table(path)
    except Exception as error:  # whatever a reader of a format raises
        raise InputError(f"stars={path}: no table that astropy reads ({type(error).__name__}: {error})") from error
    there = {role: name for role, name in roles.items() if name in table.colnames or role in ("id", "group")}
    stars = Stars.of(table, **there)
    for role in ("id", "group"):
        if not stars.has(role):
            raise InputError(f"stars={path} has no column in the role {role}; there are {', '.join(table.colnames)}")
    plain = {name: stars.values(name) for name in table.colnames if stars[name].ndim == 1}
    plain[stars.roles["group"]] = np.char.strip(stars.group)
    plain[stars.roles["id"]] = stars.id
    names, counts = np.unique(stars.id, return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"stars={path}: {int((counts > 1).sum())} ids stand in several rows, first {names[counts > 1][0]}; "
            "a star would be its own sibling: give one row a star"
        )
    return Stars.of(Table(plain), **stars.roles)


def members_and_field(stars: Stars, cuts: dict[str, Any] | list[dict[str, Any]] | None) -> tuple[Stars, Stars]:
    """(field, members): what passes the cuts whose columns are there; a star in a cluster by itself is in the field.

    Raises:
        InputError: where a cut leaves no star.
    """
    able: list[Cut] = []
    unable: list[Cut] = []
    for cut in cuts_of(cuts):
        columns = [cut.column] if cut.defined is None else [abundance_column(element) for element in cut.defined]
        (able if all(name in stars.colnames for name in columns) else unable).append(cut)
    flow = CutFlow("rows", len(stars))
    kept = stars[select(stars, able, flow)]
    for step in flow.steps:
        log.info("%-28s %6d removed %8d left", step["cut"], step["removed"], step["kept"])
    if unable:
        unmade = ", ".join(cut.name for cut in unable)
        log.warning("warning: cuts that are not made, as the table lacks their columns: %s", unmade)
    names, counts = np.unique(kept.group[kept.group != ""], return_counts=True)
    is_member: NDArray[np.bool_] = np.isin(kept.group, names[counts > 1])
    field, members = kept[~is_member], kept[is_member]
    said = "%d field stars, %d members in %d clusters of two or more; no spectra, so no step 1"
    log.info(said, len(field), len(members), int((counts > 1).sum()))
    return field, members


def compare_table(config: DictConfig, folder: Path, progress: Progress) -> tuple[Comparison, dict[str, Any]]:
    """Learners on the abundances of a star table, and what results.json says of the table.

    Args:
        config: of the command.
        folder: where trainings are logged.
        progress: is told what is done.

    Raises:
        InputError: as `read_stars`, `members_and_field` and `compare` do, and where no abundances can be used.
    """
    path = Path(config.stars)
    survey = config.survey
    stars = read_stars(path, {**survey.roles, "id": config.id, "group": config.group})
    field, members = members_and_field(stars, hydra.utils.instantiate(survey.get("cuts"), _convert_="all"))
    given: list[Representation] = []
    for name, options in config.abundances.items():
        elements = list(options.elements or _elements_of(stars))
        try:
            given.append(abundances(str(name), field, members, elements, options.relative_to_iron))
        except InputError as error:
            log.warning("warning: %s left out: %s", str(name).replace("_", " "), error)
    if not given:
        raise InputError(
            f"stars={path} has no abundances that can be judged: columns <ELEMENT>_H are expected, and two clusters "
            "with two members or more that have them all"
        )
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    learners = [maker(config.learner), *(maker(each) for each in config.baselines.values())]
    names = [each().name for each in learners]
    learners = [make for place, make in enumerate(learners) if names[place] not in names[:place]]
    merits = Merits.of(config)
    training = TrainingOptions.of(config, checksum, folder)
    pairs = possible_pairs(hydra.utils.instantiate(config.pairs), stars)
    comparison = compare(given, learners, pairs, config.seed, progress.step, training, merits)
    training.forget()
    counts = {"field": len(field), "members": len(members), "clusters": len(np.unique(members.group))}
    return comparison, {"path": str(path.resolve()), "checksum": checksum, **counts}


def _elements_of(stars: Stars) -> list[str]:
    """Those that have a column [X/H]."""
    return [name[:-2].capitalize() for name in stars.colnames if name.endswith("_H") and name != OF_ALL]
