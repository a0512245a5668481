"""Survey files in, a store out: choose the stars, censor their bins, write."""

from __future__ import annotations

import csv
import ctypes
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from rsca_torch.errors import InputError
from rsca_torch.files.whole import beside, named_disk
from rsca_torch.parallel import Parallel
from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.chosen_stars import GROUPS, REPEATS, Chosen, choose_stars
from rsca_torch.survey.cuts import CutFlow
from rsca_torch.survey.interstellar import Feature, FoundCensoring
from rsca_torch.survey.members import lone_members
from rsca_torch.survey.read_block import BlockReader
from rsca_torch.survey.star_columns import require_storable
from rsca_torch.survey.store import PARTS, Store
from rsca_torch.survey.store_places import remove_folder, remove_partial, require_free
from rsca_torch.survey.store_writer import NO_VALID_BIN, Partial
from rsca_torch.survey.survey import Survey

__all__ = ["censor", "ingest"]

log = logging.getLogger(__name__)

BLOCKS_A_PROCESS = 4  # fewer are read faster than another process starts

Progress = Callable[[int, int], None]  # is told how many of how many are done


def ingest(
    survey: Survey,
    store: str | Path,
    block: int = 256,
    progress: Progress | None = None,
    found: Callable[[list[Feature]], None] | None = None,
    parallel: Parallel | None = None,
) -> Store:
    """Build a store from a survey's files: select and censor, then read, block by block.

    An interrupted call, repeated, goes on after the last finished block; a file that cannot be used is noted and left
    out. What the cuts removed is in the store's `selection`, what is in it in its manifest. Field and members are read
    first, then the stars of other groups, then further observations of all these, the store's `repeats`.

    With `FoundCensoring` the spectra are read once, into a store `<store>.uncensored`, and copied from there without
    the bins that were found.

    Args:
        survey: where the files are and which of them to use.
        store: the folder to make.
        block: stars read between two entries of the journal; bounds the memory, about 130 kB a star.
        progress: is told how many stars of how many are read.
        found: is told what `FoundCensoring` finds.
        parallel: where files are read; the store is the same, bit for bit. None: in this process.

    Raises:
        InputError: something given cannot be used, no star is left, or as `FoundCensoring.find`.
    """
    store = Path(store)
    require_free(store)
    if isinstance(survey.censoring, FoundCensoring):
        return _ingest_and_find(survey, survey.censoring, store, block, progress, found, parallel)
    grid = survey.reader.grid
    trusted = np.flatnonzero(survey.censoring.trusted_bins(grid)).astype(np.int64)
    chosen = choose_stars(survey)
    for table in (chosen.stars, chosen.groups, chosen.repeats):
        require_storable(table)
    fingerprint = _fingerprint(survey, chosen.stars, chosen.groups, chosen.repeats)
    partial = Partial(store, fingerprint, trusted, grid.wavelength[trusted], len(chosen.stars))
    tables = (chosen.stars, chosen.groups, chosen.repeats)
    _give_back_memory()
    _read_spectra(survey, tables, partial, block, parallel or Parallel(processes=1), progress)
    told = {"survey": survey.config(), "segments": grid.edges()}
    return _finished(chosen, partial, told, "spectrum missing or unreadable")


def _ingest_and_find(
    survey: Survey,
    rule: FoundCensoring,
    store: Path,
    block: int,
    progress: Progress | None,
    told: Callable[[list[Feature]], None] | None,
    parallel: Parallel | None,
) -> Store:
    path = beside(store, ".uncensored")
    survey = survey.with_censoring(rule.with_ranges([]))
    remove_partial(path)
    whole = Store.open(path) if path.exists() else ingest(survey, path, block, progress, parallel=parallel)
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
    remove_folder(path)
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
    partial = Partial(store, fingerprint, given.bins[trusted], given.wavelength[trusted], len(given))
    with (given.path / "errors.csv").open(newline="", encoding="utf-8") as file:
        faulty = {name: [int(count) for count in counts] for name, *counts in list(csv.reader(file))[1:]}
    everyone = np.arange(len(given) + len(given.groups) + len(given.repeats))
    for first in range(partial.done, len(everyone), block):
        rows = everyone[first : first + block]
        flux, error = given.observations(rows)
        flux, error = flux[:, trusted], error[:, trusted]
        partial.append(flux, error, censoring.valid(flux, error), {}, faulty)
    flow = CutFlow("", 0)
    flow.steps, flow.removed = given.selection[:-1], list(given.removed)  # the last step is taken anew
    told = given.manifest | {"survey": given.manifest["survey"] | {"censoring": rule}}
    parts = (given.stars, given.groups.stars, given.repeats.stars)
    return _finished(Chosen(*parts, flow, given.problems, given.manifest.get("listed", {})), partial, told)


def _finished(
    chosen: Chosen,
    partial: Partial,
    before: dict[str, Any],  # survey, segments and, where a store is its source, lone_members of the manifest
    step: str = "",
) -> Store:
    """The store of the spectra that were kept; the others are accounted for, unreadable ones under the step's name."""
    stars, groups, repeats, flow, problems, listed = chosen
    n, failed = len(stars), dict(sorted(partial.failed.items()))
    of_stars = {row: problem for row, problem in failed.items() if row < n}
    files = [*stars["FILE"], *groups["FILE"], *repeats["FILE"]]
    told = [(str(files[row]), problem) for row, problem in failed.items()]
    if len(of_stars) == n:
        remove_folder(partial.path)  # or the next try would remember that nothing was there
        raise InputError(f"none of the {n} spectra can be used; the first: {': '.join(told[0])}")
    left = n
    for name in (step, NO_VALID_BIN) if step else (NO_VALID_BIN,):
        why = {row: problem for row, problem in of_stars.items() if (problem == NO_VALID_BIN) == (name == NO_VALID_BIN)}
        left -= len(why)
        flow.record(name, left, [(str(stars.id[row]), f"{files[row]}: {problem}") for row, problem in why.items()])
    readable = ~np.isin(np.arange(len(files)), list(failed))
    of_field, of_groups, of_repeats = np.split(readable.copy(), [n, n + len(groups)])
    stars = stars[of_field]
    if len(groups):
        names, number = np.unique(groups.group, return_inverse=True)
        left_of = np.bincount(number[of_groups], minlength=len(names))[number]
        of_groups &= left_of > 1
    for row in np.flatnonzero(~of_groups).tolist():
        problem = failed.get(n + row, f"no other spectrum of {groups.group[row]} can be used")
        flow.removed.append((str(groups.id[row]), GROUPS, f"{files[n + row]}: {problem}"))
    groups = groups[of_groups]
    of_repeats &= np.isin(repeats.repeat_of, [*stars.id, *groups.id])
    for row in np.flatnonzero(~of_repeats).tolist():
        place = len(files) - len(repeats) + row
        problem = failed.get(place, f"the spectrum of {repeats.repeat_of[row]} cannot be used")
        flow.removed.append((str(repeats.id[row]), REPEATS, f"{files[place]}: {problem}"))
    lone = lone_members(stars.group) if stars.has("group") else []
    if lone:
        stars[stars.roles["group"]] = np.where(np.isin(stars.group, lone), "", stars.group)
    manifest = {"survey": before["survey"], "censoring": before["survey"]["censoring"], "segments": before["segments"]}
    manifest["listed"] = dict(listed)
    manifest["lone_members"] = sorted([*before.get("lone_members", ()), *lone])
    among_usable = np.cumsum(readable) - 1
    places = [np.flatnonzero(kept) + start for kept, start in ((of_groups, n), (of_repeats, n + len(of_groups)))]
    apart = {
        name: (table, among_usable[place].astype(np.int64))
        for name, table, place in zip(PARTS, (groups, repeats[of_repeats]), places, strict=True)
    }
    with named_disk(partial.store):
        partial.finish(stars, flow, [*problems, *told], manifest, apart)
    return Store.open(partial.store)


def _read_spectra(
    survey: Survey,
    tables: Sequence[Stars],
    partial: Partial,
    block: int,
    parallel: Parallel,
    progress: Progress | None,
) -> None:
    ends = np.cumsum([len(table) for table in tables])
    total = int(ends[-1])
    _require_room(partial, total)
    if partial.done:
        log.info("going on after %d of %d spectra", partial.done, total)
    starts = range(partial.done, total, block)

    def rows_from(first: int) -> list[Table]:
        spans = zip(tables, ends - [len(table) for table in tables], strict=True)
        parts = (table[max(0, first - start) : max(0, first + block - start)] for table, start in spans)
        return [Table(part, copy=False) for part in parts if len(part)]

    of_arm = {name: (partial.bins >= a) & (partial.bins < b) for name, (a, b) in survey.reader.grid.segments.items()}
    task = BlockReader(survey.reader, survey.censoring, partial.bins)
    for read in parallel.each(task, map(rows_from, starts), pieces=len(starts) // BLOCKS_A_PROCESS):
        partial.append(
            read.flux,
            read.error,
            read.valid,
            {partial.done + place: problem for place, problem in read.failed.items()},
            read.faulty,
            {
                name: int((read.valid.any(axis=1) & ~read.valid[:, bins].any(axis=1)).sum())
                for name, bins in of_arm.items()
                if bins.any()
            },
        )
        if progress is not None:
            progress(partial.done, total)
    log.info("%d spectra read", total)
    for name, number in partial.lacking.items():
        if number:
            log.warning("%d of %d spectra have no valid bin in %s: a missing or bad arm", number, total, name)
    if partial.errors:
        log.warning(
            "%d spectra have %d errors that are zero, negative or not finite in bins with a flux: "
            "treated as invalid (errors.csv)",
            len(partial.errors),
            sum(sum(counts) for counts in partial.errors.values()),
        )


def _require_room(partial: Partial, total: int) -> None:
    """Refuse to begin what the disk cannot hold: all spectra, and the store that is written beside them."""
    spectra = 8 * len(partial.bins)  # bytes of flux and error
    needed, free = spectra * (2 * total - partial.done), shutil.disk_usage(partial.path).free
    if needed > free:
        raise InputError(
            f"store={partial.store} takes up to {needed / 1e9:.1f} GB more while it is made "
            f"({spectra * total / 1e9:.1f} GB in the end), and {free / 1e9:.1f} GB are free there: make room, or "
            "choose another disk; what was read is kept for the same command"
        )


def _give_back_memory() -> None:
    """Have the system take back what choosing the stars took, four times the tables: the C library keeps it else."""
    with suppress(AttributeError, OSError, TypeError):  # not that of Linux
        ctypes.CDLL(None).malloc_trim(0)


def _fingerprint(survey: Survey, *tables: Stars) -> str:
    """One SHA-256 of the settings and of the observations they chose."""
    total = hashlib.sha256(json.dumps(survey.config(), sort_keys=True).encode())
    for stars in tables:
        for name in stars.colnames:
            total.update(name.encode() + np.ascontiguousarray(stars[name]).tobytes())
    return total.hexdigest()
