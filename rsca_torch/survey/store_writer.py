"""A store in the making: blocks of spectra and a journal, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.files.checked import read_json, sealed, unsealed
from rsca_torch.files.whole import move_into, named_disk
from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.cuts import CutFlow
from rsca_torch.survey.grouped_stars import counts_of
from rsca_torch.survey.repeats import numbered
from rsca_torch.survey.star_columns import write_stars
from rsca_torch.survey.store import FILES, OF_GROUPS, SCHEMA
from rsca_torch.survey.store_places import OURS, partial_path
from rsca_torch.survey.store_sums import checksum, digest

__all__ = ["NO_VALID_BIN", "Partial"]

log = logging.getLogger(__name__)

FLOAT = np.dtype("<f4")
NO_VALID_BIN = "no valid bin"


class Partial:
    """``<store>.partial``: the usable spectra so far, row after row, and a journal of what was read.

    The journal is replaced in one step after the data are on the disk, so whatever the moment of an interruption, the
    rows it counts are there and what comes after them is overwritten.

    Args:
        store: the folder to make.
        fingerprint: of the settings and the stars; an interrupted run goes on where it is the same.
        bins: (P,) the pixels that may be stored.
        wavelength: (P,) Angstrom.
        n_stars: how many stars of field and clusters are read first. None: there are no others.

    Attributes:
        done: stars read, usable or not.
        failed: number of the star -> why its spectrum is not used.
        errors: file -> how many of its errors are zero, negative and not finite, where any is.
        seen: (P,) True for the bins that are valid in at least one star; repeats do not count.
        n_valid: measurements that are valid, those of repeats not counted.
        lacking: detector -> usable spectra of which no bin of it is valid.

    Raises:
        InputError: the partial belongs to a run with other settings or data or of an older program, or cannot be
            written.
    """

    def __init__(
        self,
        store: Path,
        fingerprint: str,
        bins: NDArray[np.int64],
        wavelength: NDArray[np.float64],
        n_stars: int | None = None,
    ) -> None:
        self.n_stars = n_stars
        self.store, self.path, self.bins, self.wavelength = store, partial_path(store), bins, wavelength
        self.fingerprint = fingerprint
        self.done = 0
        self.failed: dict[int, str] = {}
        self.errors: dict[str, Sequence[int]] = {}
        self.seen = np.zeros(len(bins), dtype=bool)
        self.n_valid = 0
        self.lacking: Counter[str] = Counter()
        self._blocks: list[tuple[int, str]] = []  # rows that are kept of each block, and a checksum of them
        self._journal = self.path / "journal.json"
        if not (self._journal.exists() and self._resumed()):
            self._begin()

    def _begin(self) -> None:
        if self.path.exists() and not {entry.name for entry in self.path.iterdir()} <= OURS:
            raise InputError(f"{self.path} is in the way and not this program's own; move it, or choose another store")
        try:
            shutil.rmtree(self.path, ignore_errors=True)  # stopped before its first block: nothing to keep
            self.path.mkdir(parents=True)
            for name in ("flux", "error"):
                (self.path / f"{name}.raw").touch()
        except OSError as error:
            raise InputError(f"store={self.store} cannot be written: {error.strerror}; choose another place") from error

    def _resumed(self) -> bool:
        """Whether it goes on after what is there: journal and blocks are as they were written."""
        try:
            journal = read_json(self._journal)
            older = "blocks" not in journal
            journal = journal if older else unsealed(journal)
            fingerprint, done, failed = journal["fingerprint"], int(journal["done"]), dict(journal["failed"])
            blocks = [(int(rows), str(digest)) for rows, digest in journal.get("blocks", ())]
            packed = np.frombuffer(bytes.fromhex(journal["seen"]), dtype=np.uint8)
            seen = np.unpackbits(packed, count=len(self.bins)).astype(bool)
            told = {int(star): str(problem) for star, problem in failed.items()}
            self.errors, self.n_valid = dict(journal["errors"]), int(journal.get("n_valid", 0))
            self.lacking = Counter(journal["lacking"])
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            log.warning("warning: %s is damaged (%s): all spectra are read anew", self._journal, error)
            return False
        if older or fingerprint != self.fingerprint:
            raise InputError(
                f"{self.path} was begun with other settings or another catalogue, or by an older program; "
                "remove it, choose another store, or go back to those settings"
            )
        if sum(rows for rows, _ in blocks) != done - len(failed) or not self._are_there(blocks):
            log.warning("warning: %s is damaged (spectra changed or lacking): all are read anew", self.path)
            return False
        self.done, self._blocks, self.failed, self.seen = done, blocks, told, seen
        return True

    def _are_there(self, blocks: Sequence[tuple[int, str]]) -> bool:
        try:
            with (self.path / "flux.raw").open("rb") as flux, (self.path / "error.raw").open("rb") as error:
                sizes = [(rows * len(self.bins) * FLOAT.itemsize, digest) for rows, digest in blocks]
                return all(_digest(flux.read(size), error.read(size)) == digest for size, digest in sizes)
        except FileNotFoundError:
            return False

    def append(
        self,
        flux: NDArray[np.float32],
        error: NDArray[np.float32],
        valid: NDArray[np.bool_],
        failed: Mapping[int, str],
        errors: Mapping[str, Sequence[int]] | None = None,
        lacking: Mapping[str, int] | None = None,
    ) -> None:
        """Add the next block of n observations; those without a valid bin are left out.

        Args:
            flux: (n, P) as it will be stored.
            error: (n, P) likewise.
            valid: (n, P) which measurements are used.
            failed: number of a star -> why it cannot be used, where the reason is not that no bin is valid.
            errors: file -> as in the attribute.
            lacking: as in the attribute, of this block.
        """
        usable = valid.any(axis=1)
        unusable = (self.done + np.flatnonzero(~usable)).tolist()
        start = (self.done - len(self.failed)) * len(self.bins) * FLOAT.itemsize
        content = {name: block[usable].astype(FLOAT).tobytes() for name, block in (("flux", flux), ("error", error))}
        with named_disk(self.store):
            for name, block in content.items():
                with (self.path / f"{name}.raw").open("r+b") as file:
                    file.seek(start)
                    file.write(block)
                    _flush(file)
        self._blocks.append((int(usable.sum()), _digest(content["flux"], content["error"])))
        stars = slice(None) if self.n_stars is None else slice(max(0, self.n_stars - self.done))
        self.done += len(flux)
        self.failed.update({star: failed.get(star, NO_VALID_BIN) for star in unusable})
        self.errors.update(errors or {})
        self.lacking.update(lacking or {})
        self.seen |= valid[stars].any(axis=0)
        self.n_valid += int(valid[stars].sum())
        with named_disk(self.store):
            self._note()

    def _note(self) -> None:
        """The journal says what there is now."""
        state = {
            name: getattr(self, name) for name in ("fingerprint", "done", "failed", "errors", "n_valid", "lacking")
        }
        state |= {"seen": np.packbits(self.seen).tobytes().hex(), "blocks": [list(each) for each in self._blocks]}
        _write_json(self._journal, sealed(json.loads(json.dumps(state))))  # as JSON gives it back

    def finish(
        self,
        stars: Stars,
        flow: CutFlow,
        problems: Sequence[tuple[str, str]],
        manifest: Mapping[str, Any],
        apart: Mapping[str, tuple[Stars, NDArray[np.int64]]] | None = None,
    ) -> None:
        """Write the whole store beside the blocks, then move it into place in one step.

        Args:
            stars: one row a usable spectrum, in their order.
            flow: what each step removed.
            problems: (file, problem) of what was not used.
            manifest: what is to be told besides schema, roles, counts and checksums; must hold ``censoring``, the
                rule of validity, and ``segments``, the name of each detector -> [first, last] wavelength.
            apart: of "groups", stars of groups besides clusters, and of "repeats", further observations of all these
                with the role repeat_of: their star tables, and their numbers among the usable spectra. None: there are
                none.

        Raises:
            InputError: a repeat is of a star that is not there, or of itself.
        """
        none = np.array([], dtype=np.int64)
        groups, of_groups = (apart or {}).get("groups", (stars[:0], none))
        repeats, again = (apart or {}).get("repeats", (numbered(stars[:0], none.astype(str), set()), none))
        repeats.require_repeats(np.concatenate([stars.id, groups.id]))
        whole = self.path / "store"
        shutil.rmtree(whole, ignore_errors=True)
        whole.mkdir()
        for name in ("flux", "error"):
            self._write_array(whole / f"{name}.npy", name, np.arange(len(stars)))
            self._write_array(whole / f"repeats_{name}.npy", name, again)
            if len(groups):
                self._write_array(whole / f"groups_{name}.npy", name, of_groups)
        np.save(whole / "wavelength.npy", self.wavelength[self.seen], allow_pickle=False)
        np.save(whole / "bins.npy", self.bins[self.seen], allow_pickle=False)
        write_stars(whole / "stars.fits", stars)
        write_stars(whole / "repeats.fits", repeats)
        if len(groups):
            write_stars(whole / "groups.fits", groups)
        written = (*FILES, *(OF_GROUPS if len(groups) else ()))
        _write_json(whole / "selection.json", flow.steps)
        _write_csv(whole / "removed.csv", [("id", "cut", "value"), *flow.removed])
        _write_csv(whole / "problems.csv", [("file", "problem"), *problems])
        faulty = [(file, *counts) for file, counts in self.errors.items()]
        _write_csv(whole / "errors.csv", [("file", "zero", "negative", "not_finite"), *faulty])
        files = {name: {"bytes": (whole / name).stat().st_size, "sha256": digest(whole / name)} for name in written}
        counts = self._counts(stars, len(problems)) | {"repeats": len(repeats)} | counts_of(groups)
        told = {**manifest, "roles": stars.roles, "counts": counts, "files": files}
        told = json.loads(json.dumps({"schema": SCHEMA, "checksum": checksum(told), **told}))
        _write_json(whole / "manifest.json", sealed(told))
        for name in written:
            with (whole / name).open("rb") as file:
                _flush(file)
        store = self.store.resolve()
        if store.is_dir():  # a link or a disk of its own, maybe: it stays
            move_into(store, whole, "manifest.json")
        else:
            whole.rename(store)
        shutil.rmtree(self.path, ignore_errors=True)  # what stays goes with the next run: the store is there

    def _counts(self, stars: Stars, problems: int) -> dict[str, float]:
        groups = stars.group[stars.group != ""] if stars.has("group") else np.array([], dtype=str)
        bins = int(self.seen.sum())
        return {
            "stars": len(stars),
            "field": len(stars) - len(groups),
            "members": len(groups),
            "clusters": len(np.unique(groups)),
            "bins": bins,
            "problems": problems,
            "valid_share": self.n_valid / (len(stars) * bins),
        }

    def _write_array(self, path: Path, name: str, rows: NDArray[np.int64], block: int = 256) -> None:
        """Some of the usable spectra, on the bins that some star has."""
        raw = np.memmap(self.path / f"{name}.raw", FLOAT, mode="r").reshape(-1, len(self.bins))
        header = {"descr": FLOAT.str, "fortran_order": False, "shape": (len(rows), int(self.seen.sum()))}
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for first in range(0, len(rows), block):
                file.write(raw[rows[first : first + block]][:, self.seen].tobytes())


def _digest(flux: bytes, error: bytes) -> str:
    return hashlib.sha256(flux + error).hexdigest()


def _flush(file: Any) -> None:  # noqa: ANN401  (an open file of either kind)
    file.flush()
    os.fsync(file.fileno())


def _write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:  # a path may be any bytes
        csv.writer(file, lineterminator="\n").writerows(rows)


def _write_json(path: Path, content: Any) -> None:  # noqa: ANN401  (whatever JSON can hold)
    """Replace a JSON file in one step, after the new one is on the disk."""
    new = path.with_suffix(".new")
    with new.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        _flush(file)
    new.replace(path)
