"""Survey files in, a store out: choose the stars, censor their bins, write."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rsca_torch.errors import InputError
from rsca_torch.files import beside
from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.cuts import CutFlow
from rsca_torch.survey.fits_files import UnusableFileError
from rsca_torch.survey.interstellar import Feature, FoundCensoring
from rsca_torch.survey.members import lone_members
from rsca_torch.survey.store import Store
from rsca_torch.survey.store_writer import NO_VALID_BIN, Partial, require_free, require_storable
from rsca_torch.survey.survey import Survey, choose_stars

__all__ = ["censor", "ingest"]

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # is told how many of how many are done


def ingest(
    survey: Survey,
    store: str | Path,
    block: int = 256,
    progress: Progress | None = None,
    found: Callable[[list[Feature]], None] | None = None,
) -> Store:
    """Build a store from a survey's files: select and censor, then read, block by block.

    An interrupted call, repeated, goes on after the last finished block; a file that cannot be used is noted and left
    out. What the cuts removed is in the store's `selection`, what is in it in its manifest.

    With `FoundCensoring` the spectra are read once, into a store `<store>.uncensored`, and copied from there without
    the bins that were found.

    Args:
        survey: where the files are and which of them to use.
        store: the folder to make.
        block: stars read between two entries of the journal; bounds the memory, about 130 kB a star.
        progress: is told how many stars of how many are read.
        found: is told what `FoundCensoring` finds.

    Raises:
        InputError: something given cannot be used, no star is left, or as `FoundCensoring.find`.
    """
    store = Path(store)
    require_free(store)
    if isinstance(survey.censoring, FoundCensoring):
        return _ingest_and_find(survey, survey.censoring, store, block, progress, found)
    grid = survey.reader.grid
    trusted = np.flatnonzero(survey.censoring.trusted_bins(grid)).astype(np.int64)
    stars, flow, problems = choose_stars(survey)
    require_storable(stars)
    partial = Partial(store, _fingerprint(survey, stars), trusted, grid.wavelength[trusted])
    _read_spectra(survey, stars, partial, block, progress)
    unread = {row: problem for row, problem in partial.failed.items() if problem != NO_VALID_BIN}
    if len(unread) < len(stars):  # else none can be used, as will be said
        flow.record("spectrum missing or unreadable", len(stars) - len(unread), _told(stars, unread))
    return _finished(stars, partial, flow, problems, {"survey": survey.config(), "segments": grid.edges()})


def _ingest_and_find(
    survey: Survey,
    rule: FoundCensoring,
    store: Path,
    block: int,
    progress: Progress | None,
    told: Callable[[list[Feature]], None] | None,
) -> Store:
    path = beside(store, ".uncensored")
    survey = survey.with_censoring(rule.with_ranges([]))
    whole = Store.open(path) if path.exists() else ingest(survey, path, block, progress)
    if whole.manifest["survey"] != survey.config():
        raise InputError(f"{path} holds a survey that was read otherwise: remove it, or choose another store")
    try:
        found = rule.find(whole)
    except InputError as error:
        raise InputError(f"{error} (what was read stays in {path} for another try)") from error
    if not found:
        log.warning("no interstellar feature is deep and significant enough: none is censored")
    elif told is not None:
        told(found)
    censored = censor(whole, rule.with_ranges(found), store)
    log.info("%d of %d bins kept, %d intervals left out", len(censored.bins), len(whole.bins), len(found))
    shutil.rmtree(path)
    return censored


def censor(given: Store, censoring: Censoring, store: str | Path, block: int = 256) -> Store:
    """The same survey with fewer trusted bins, from a store that has them, block by block.

    It is what `ingest` would make of the survey's files with that rule, but for errors.csv, which stays as it is. An
    interrupted call, repeated, goes on after the last finished block.

    Args:
        given: the store.
        censoring: a stricter rule; bins that `given` lacks do not come back.
        store: the folder to make.
        block: as in `ingest`.

    Raises:
        InputError: something is there already, or no valid bin is left.
    """
    store = Path(store)
    require_free(store)
    trusted = censoring.outside_ranges(given.bins, given.wavelength)
    rule = json.loads(json.dumps(asdict(censoring)))
    fingerprint = hashlib.sha256(json.dumps([given.checksum, rule], sort_keys=True).encode()).hexdigest()
    partial = Partial(store, fingerprint, given.bins[trusted], given.wavelength[trusted])
    with (given.path / "errors.csv").open(newline="", encoding="utf-8") as file:
        faulty = {name: [int(count) for count in counts] for name, *counts in list(csv.reader(file))[1:]}
    for first in range(partial.done, len(given), block):
        rows = np.arange(len(given))[first : first + block]
        flux, _, error = (tensor.numpy()[:, trusted] for tensor in given.read(rows))
        partial.append(flux, error, censoring.valid(flux, error), {}, faulty)
    flow = CutFlow("", 0)
    flow.steps, flow.removed = given.selection[:-1], list(given.removed)  # the last step is taken anew
    told = given.manifest | {"survey": given.manifest["survey"] | {"censoring": rule}}
    return _finished(given.stars, partial, flow, given.problems, told)


def _finished(
    stars: Stars,
    partial: Partial,
    flow: CutFlow,
    problems: Sequence[tuple[str, str]],
    before: dict[str, Any],  # survey, segments and, where a store is its source, lone_members of the manifest
) -> Store:
    """The store of the spectra that were kept; the others are accounted for."""
    failed = [(str(stars["FILE"][row]), problem) for row, problem in sorted(partial.failed.items())]
    if len(failed) == len(stars):
        shutil.rmtree(partial.path)  # or the next try would remember that nothing was there
        raise InputError(f"none of the {len(stars)} spectra can be used; the first: {': '.join(failed[0])}")
    invalid = {row: problem for row, problem in partial.failed.items() if problem == NO_VALID_BIN}
    flow.record(NO_VALID_BIN, len(stars) - len(failed), _told(stars, invalid))
    stars = stars[~np.isin(np.arange(len(stars)), list(partial.failed))]
    lone = lone_members(stars.group) if stars.has("group") else []
    if lone:
        stars[stars.roles["group"]] = np.where(np.isin(stars.group, lone), "", stars.group)
    told = {"survey": before["survey"], "censoring": before["survey"]["censoring"], "segments": before["segments"]}
    told["lone_members"] = sorted([*before.get("lone_members", ()), *lone])
    partial.finish(stars, flow, [*problems, *failed], told)
    return Store.open(partial.store)


def _told(stars: Stars, failed: Mapping[int, str]) -> list[tuple[str, str]]:
    """(id, file and problem) of spectra that are not used."""
    return [(str(stars.id[row]), f"{stars['FILE'][row]}: {problem}") for row, problem in sorted(failed.items())]


def _read_spectra(survey: Survey, stars: Stars, partial: Partial, block: int, progress: Progress | None) -> None:
    if partial.done:
        log.info("going on after %d of %d spectra", partial.done, len(stars))
    for first in range(partial.done, len(stars), block):
        rows = range(len(stars))[first : first + block]
        _read_block(survey, stars, rows, partial)
        if progress is not None:
            progress(rows.stop, len(stars))
    log.info("%d spectra read", len(stars))
    if partial.errors:
        log.warning(
            "%d spectra have %d errors that are zero, negative or not finite in bins with a flux: "
            "treated as invalid (errors.csv)",
            len(partial.errors),
            sum(sum(counts) for counts in partial.errors.values()),
        )


def _read_block(survey: Survey, stars: Stars, rows: range, partial: Partial) -> None:
    bins = partial.bins
    flux, error = np.zeros((2, len(rows), len(bins)), dtype=np.float32)
    valid = np.zeros(flux.shape, dtype=bool)
    failed, faulty = dict[int, str](), dict[str, tuple[int, int, int]]()
    for place, row in enumerate(rows):
        try:
            read = survey.reader.read(stars[row])
        except UnusableFileError as problem:
            failed[row] = str(problem)
            continue
        flux[place], error[place] = read.flux[bins], read.error[bins]
        masked = slice(0) if read.valid is None else ~read.valid[bins]
        counted = flux[place].copy()
        counted[masked] = 0  # what the survey's own mask leaves out is not faulty
        if any(counts := survey.censoring.faulty_errors(counted, error[place])):
            faulty[str(stars["FILE"][row])] = counts
        error[place, masked] = np.inf
        valid[place] = survey.censoring.valid(flux[place], error[place])
    partial.append(flux, error, valid, failed, faulty)


def _fingerprint(survey: Survey, stars: Stars) -> str:
    """One SHA-256 of the settings and of the stars they chose."""
    total = hashlib.sha256(json.dumps(survey.config(), sort_keys=True).encode())
    for name in stars.colnames:
        total.update(name.encode() + np.ascontiguousarray(stars[name]).tobytes())
    return total.hexdigest()
