"""Survey files in, a store out: choose the stars, censor their bins, write."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import rich.table
from astropy.table import Table
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from rsca_torch.errors import InputError
from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.apogee import grid as apogee_grid
from rsca_torch.survey.apogee import read_spectrum
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.cuts import CutFlow
from rsca_torch.survey.fits_files import UnusableFileError
from rsca_torch.survey.grid import Grid
from rsca_torch.survey.members import lone_members
from rsca_torch.survey.store import Store
from rsca_torch.survey.store_writer import Partial, require_free
from rsca_torch.survey.survey import Survey, choose_stars

__all__ = ["censor", "ingest"]

log = logging.getLogger(__name__)

NO_VALID_BIN = "no valid bin"


def ingest(survey: Survey, store: str | Path, block: int = 256) -> Store:
    """Build a store from a survey's files: select and censor, then read, block by block.

    An interrupted call, repeated, goes on after the last finished block; a file that cannot be used is noted and left
    out. Prints the cut flow and a summary.

    Args:
        survey: where the files are and which of them to use.
        store: the folder to make.
        block: stars read between two entries of the journal; bounds the memory, about 130 kB a star.

    Raises:
        InputError: something given cannot be used, or no star is left.
    """
    store = Path(store)
    require_free(store)
    stars, flow, problems = choose_stars(survey)
    grid = apogee_grid()
    trusted = np.flatnonzero(survey.censoring.trusted_bins(grid)).astype(np.int64)
    stars = Stars(stars).playing({role: name for role, name in survey.roles.items() if name is not None})
    partial = Partial(store, _fingerprint(survey, stars), trusted, grid.wavelength[trusted])
    _read_spectra(survey, stars, partial, block)
    unread = sum(problem != NO_VALID_BIN for problem in partial.failed.values())
    if unread < len(stars):  # else none can be used, as will be said
        flow.record("spectrum missing or unreadable", len(stars) - unread)
    finished = _finished(stars, partial, flow, problems, _told(survey, grid))
    counts, lone = (finished.manifest[name] for name in ("counts", "lone_members"))
    _summarise(flow, counts, lone, store)
    return finished


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
        rows = np.arange(first, min(first + block, len(given)))
        flux, _, error = (tensor.numpy()[:, trusted] for tensor in given.read(rows))
        valid = censoring.valid(flux, error)
        usable = valid.any(axis=1)
        failed = dict.fromkeys(rows[~usable].tolist(), NO_VALID_BIN)
        partial.append(flux[usable], error[usable], valid[usable], failed, faulty)
    flow = CutFlow("", 0)
    flow.steps = given.selection[:-1]  # the last step is taken anew
    manifest = {name: given.manifest[name] for name in ("survey", "release", "segments")}
    manifest |= {"survey": manifest["survey"] | {"censoring": rule}, "censoring": rule}
    return _finished(given.stars.copy(), partial, flow, list(given.problems), manifest, given.manifest["lone_members"])


def _finished(
    stars: Table,
    partial: Partial,
    flow: CutFlow,
    problems: list[tuple[str, str]],
    manifest: Mapping[str, Any],
    lone_before: Sequence[str] = (),
) -> Store:
    """The store of the spectra that were kept."""
    stars = _usable(stars, partial, flow, problems)
    lone = lone_members(np.asarray(stars["CLUSTER"]))
    stars["CLUSTER"][np.isin(stars["CLUSTER"], lone)] = ""
    told = {**manifest, "lone_members": sorted([*lone_before, *lone])}
    partial.finish(stars, flow.steps, problems, told)
    return Store.open(partial.store)


def _read_spectra(survey: Survey, stars: Table, partial: Partial, block: int) -> None:
    files = [str(file) for file in stars["FILE"]]
    if partial.done:
        log.info("going on after %d of %d spectra", partial.done, len(files))
    console = Console(stderr=True)
    firsts = range(partial.done, len(files), block)
    for first in track(firsts, "reading spectra", console=console, disable=not console.is_terminal):
        partial.append(*_read_block(survey, files, range(first, min(first + block, len(files))), partial.bins))
    log.info("%d spectra read", len(files))
    if partial.errors:
        log.warning(
            "%d spectra have %d errors that are zero, negative or not finite in bins with a flux: "
            "treated as invalid (errors.csv)",
            len(partial.errors),
            sum(sum(counts) for counts in partial.errors.values()),
        )


def _read_block(
    survey: Survey, files: Sequence[str], rows: range, bins: NDArray[np.int64]
) -> tuple[
    NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], dict[int, str], dict[str, tuple[int, int, int]]
]:
    """Flux, error and validity (n, P) of the n usable spectra among the rows, why the others are not, faulty errors."""
    flux = np.empty((len(rows), len(bins)), dtype=np.float32)
    error, valid, failed = np.empty_like(flux), np.zeros(flux.shape, dtype=bool), dict[int, str]()
    faulty = dict[str, tuple[int, int, int]]()
    for place, row in enumerate(rows):
        try:
            flux[place], error[place] = (values[bins] for values in read_spectrum(survey.root / files[row]))
        except UnusableFileError as problem:
            failed[row] = str(problem)
            continue
        valid[place] = survey.censoring.valid(flux[place], error[place])
        if any(counts := survey.censoring.faulty_errors(flux[place], error[place])):
            faulty[files[row]] = counts
        if not valid[place].any():
            failed[row] = NO_VALID_BIN
    usable = valid.any(axis=1)
    return flux[usable], error[usable], valid[usable], failed, faulty


def _usable(stars: Table, partial: Partial, flow: CutFlow, problems: list[tuple[str, str]]) -> Table:
    """The stars whose spectra were kept; the others are accounted for."""
    failed = [(str(stars["FILE"][row]), problem) for row, problem in sorted(partial.failed.items())]
    if len(failed) == len(stars):
        partial.discard()  # or the next try would remember that nothing was there
        raise InputError(f"none of the {len(stars)} spectra can be used; the first: {': '.join(failed[0])}")
    problems += failed
    flow.record(NO_VALID_BIN, len(stars) - len(failed))
    return stars[~np.isin(np.arange(len(stars)), list(partial.failed))]


def _fingerprint(survey: Survey, stars: Table) -> str:
    """One SHA-256 of the settings and of the stars they chose."""
    total = hashlib.sha256(json.dumps(survey.config(), sort_keys=True).encode())
    for name in stars.colnames:
        total.update(name.encode() + np.ascontiguousarray(stars[name]).tobytes())
    return total.hexdigest()


def _told(survey: Survey, grid: Grid) -> dict[str, Any]:
    config = survey.config()
    return {"release": survey.release, "survey": config, "censoring": config["censoring"], "segments": grid.edges()}


def _summarise(flow: CutFlow, counts: Mapping[str, int], lone: Sequence[str], store: Path) -> None:
    console = Console()
    table = rich.table.Table("cut", box=None)
    for name in ("removed", "kept"):
        table.add_column(name, justify="right")
    for step in flow.steps:
        table.add_row(step["cut"], f"{step['removed']:,}", f"{step['kept']:,}")
    console.print(table)
    lines = [
        f"{counts['field']:,} field stars, {counts['members']:,} members in {counts['clusters']} clusters, "
        f"{counts['bins']:,} bins kept"
    ]
    if lone:
        lines.append(f"left out as clusters, one member each (the star stays in the field): {', '.join(lone)}")
    if counts["problems"]:
        lines.append(f"{counts['problems']:,} files could not be used: problems.csv in {store} lists them and why")
    console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)
