"""What `rsca ingest` tells of the store that it made."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rsca_torch.report.terminal import PlainTable, plain_table
from rsca_torch.survey.interstellar import Feature
from rsca_torch.survey.store import Store

__all__ = ["cut_flow_table", "features_table", "members_table", "print_summary", "repeats_table", "surprises"]

EDGES = (30, 50, 75, 100, 150, 200, 300)  # S/N


def print_summary(store: Store) -> None:
    """The cut flow, and what is in the store."""
    console, counts = Console(), store.manifest["counts"]
    if store.manifest["listed"]:
        console.print(members_table(store))
    console.print(cut_flow_table(store))
    console.print(*surprises(store), sep="\n", soft_wrap=True, highlight=False, markup=False)
    if counts["repeats"]:
        console.print(repeats_table(store))
    lines = [
        f"{counts['field']:,} field stars, {counts['members']:,} members in {counts['clusters']} clusters, "
        f"{counts['bins']:,} bins kept"
    ]
    lines += [
        f"{number['stars']:,} stars in {number['groups']:,} {kind.replace('_', ' ')}, which teach and do not judge"
        for kind, number in counts.get("groups", {}).items()
    ]
    if lone := store.manifest["lone_members"]:
        lines.append(f"left out as clusters, one member each (the star stays in the field): {', '.join(lone)}")
    if counts["problems"]:
        why = Counter(re.split(r"[(:;]", problem)[0].strip() for _, problem in store.problems)
        most = ", ".join(f"{number:,} {reason}" for reason, number in why.most_common(3))
        lines.append(
            f"{counts['problems']:,} files could not be used ({most}{', ...' if len(why) > 3 else ''}): "
            f"problems.csv in {store.path} lists them and why"
        )
    console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def cut_flow_table(store: Store) -> Table:
    """What each step removed, and what is left beside what was published, where the survey knows of it."""
    counts = store.manifest["counts"]
    known = {name: number for name, number in _published(store).items() if name in ("field", "members", "clusters")}
    table = PlainTable("cut", box=None)
    for name in ("removed", "kept", *(("published",) if known else ())):
        table.add_column(name, justify="right")
    rows = [(step["cut"], f"{step['removed']:,}", step["kept"]) for step in store.selection]
    rows += [(name, "", counts[name]) for name in known]
    for name, removed, kept in rows:
        told = [] if not known else [f"{known[name]:,}" if name in known else "-"]
        table.add_row(name, removed, f"{kept:,}", *told)
    return table


def surprises(store: Store) -> list[str]:
    """Why a step removed more than its name says, where it did remove stars and the survey knows."""
    reasons = _published(store).get("why") or {}
    return [
        f"{step['cut']}: {reasons[step['cut']]}"
        for step in store.selection
        if step["removed"] and step["cut"] in reasons
    ]


def _published(store: Store) -> dict[str, Any]:
    return store.manifest["survey"]["published"] or {}


def members_table(store: Store) -> Table:
    """What became of the rows of the list of members."""
    table = PlainTable("list of members", box=None)
    table.add_column("number", justify="right")
    for name, number in store.manifest["listed"].items():
        table.add_row(name, f"{number:,}")
    return table


def repeats_table(store: Store) -> Table:
    """How many repeats there are, by the S/N of the fainter of the two observations of their star."""
    again, of = store.repeats.stars, (store.stars, store.groups.stars)
    snr = np.full(len(again), np.nan)
    if store.stars.has("snr"):
        ids, of_star = (np.concatenate([getattr(part, role) for part in of]) for role in ("id", "snr"))
        order = np.argsort(ids)
        star = order[np.searchsorted(ids, again.repeat_of, sorter=order)]
        snr = np.fmin(of_star[star], again.snr)
    bounds = [-np.inf, *EDGES, np.inf]
    names = [f"below {EDGES[0]}", *(f"{low} to {high}" for low, high in pairwise(EDGES)), f"above {EDGES[-1]}"]
    rows = list(zip(names, np.histogram(snr[np.isfinite(snr)], bounds)[0].tolist(), strict=True))
    if unknown := int(np.isnan(snr).sum()):
        rows.append(("not known", unknown))
    table = PlainTable("repeats, by S/N of the pair's fainter", box=None)
    table.add_column("number", justify="right")
    for name, number in [row for row in rows if row[1]] + [("all", len(again))]:
        table.add_row(name, f"{number:,}")
    return table


def features_table(found: Sequence[Feature]) -> Table:
    """The intervals that `censoring=found` leaves out."""
    names = ("first, A", "end, A", "deepest, A", "depth", "in standard errors", "nearest known band, A")
    table = plain_table((), names)
    for one in found:
        numbers = (f"{one.first:.2f}", f"{one.end:.2f}", f"{one.deepest:.2f}", f"{one.depth:.4f}")
        table.add_row(*numbers, f"{one.significance:.1f}", f"{one.band:.2f} ({one.deepest - one.band:+.2f})")
    return table
