"""What is wrong with a store."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rsca_torch.errors import InputError
from rsca_torch.survey.doctor.remarks import Remark, remark
from rsca_torch.survey.store import Store

__all__ = ["examine_store"]

BLOCK = 1000  # stars


def examine_store(path: Path, progress: Callable[[int, int], None] = lambda *_: None) -> list[Remark]:
    """Look at a store, every byte of it, and change nothing.

    Args:
        path: the folder.
        progress: is told how many of how many stars were looked at.

    Returns:
        Remarks, those that matter first.
    """
    try:
        store = Store.open(path)
        store.verify()
    except InputError as error:
        return [Remark(str(error), 1, matters=True)]
    remarks: list[Remark] = []
    ids = store.stars.id
    empty, not_finite = [], []
    for start in range(0, len(store), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(store)))
        flux, valid, _ = (part.numpy() for part in store.read(rows))
        empty += ids[rows[~valid.any(1)]].tolist()
        not_finite += ids[rows[(~np.isfinite(flux)).any(1)]].tolist()
        progress(int(rows[-1]) + 1, len(store))
    cure = "leave them out with a cut, or mend the files and ingest again"
    remarks += remark("stars have no valid bin", empty, len(store), cure, True)
    remarks += remark("stars have a flux that is NaN or infinite, in bins that are not used", not_finite, len(store))
    for role in ("velocity", "extinction", "snr"):
        if store.stars.has(role):
            unknown = ids[~np.isfinite(np.asarray(getattr(store.stars, role), dtype=float))].tolist()
            cure = "pairs with them are not compared where pairs look at it" if role != "snr" else ""
            remarks += remark(f"stars have no {role}", unknown, len(store), cure)
    groups = store.stars.group[store.is_member] if store.is_member.any() else np.array([], dtype=str)
    _, sizes = np.unique(groups, return_counts=True)
    if (sizes > 1).sum() < 2:
        what = f"{(sizes > 1).sum()} clusters have two members or more; learning needs two such clusters"
        remarks.append(Remark(what, 1, cure="ingest with a list of members", matters=True))
    remarks += remark("listed clusters have one member, which stays in the field", store.manifest["lone_members"])
    files = [f"{file}: {problem}" for file, problem in store.problems]
    remarks += remark("files could not be used when the survey was read", files, cure="problems.csv lists them")
    with (path / "errors.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        faulty = [row["file"] for row in csv.DictReader(file)]
    remarks += remark("files have errors of zero, below zero or not finite", faulty, cure="errors.csv counts them")
    return sorted(remarks, key=lambda each: not each.matters)
