"""What a run leaves for its page beside its results: report.json, and stars.fits with every star's features."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table, vstack
from torch import Tensor

from rsca_torch.comparison.representation import Representation
from rsca_torch.files.whole import write_json
from rsca_torch.report.ingest_summary import surprises
from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.store import Store

__all__ = ["RECORD", "STARS", "Said", "moment", "run_said", "star_features", "write_record"]

RECORD, STARS = "report.json", "stars.fits"
SCHEMA = 1
FEATURES = 4  # of each star: the most important ones
#: Columns of the star table that a map can be coloured by, where the survey has them.
LABELS = ("FE_H", "ALPHA_M", "TEFF", "LOGG")
ROLES = ("snr", "velocity", "extinction")


def moment(seconds: float) -> str:
    """A moment as the page tells it, of seconds since 1970.

    >>> moment(0)
    '1970-01-01 00:00 UTC'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


@dataclass
class Said:
    """What is known of a run besides its results: how it was asked for, when, and what it warned of."""

    command: str
    started: str = field(default_factory=lambda: moment(time.time()))
    problems: list[str] = field(default_factory=list)


@contextmanager
def run_said(command: str) -> Iterator[Said]:
    """Gathers what is warned of meanwhile, each sentence once."""
    said = Said(command)

    class Gather(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage().removeprefix("warning: ")
            if text not in said.problems:
                said.problems.append(text)

    handler, package = Gather(logging.WARNING), logging.getLogger("rsca_torch")
    package.addHandler(handler)
    try:
        yield said
    finally:
        package.removeHandler(handler)


def write_record(path: Path, said: Said, store: Store | None, **further: Any) -> None:
    """report.json.

    Args:
        path: of the file.
        said: how it was asked for, and what it warned of.
        store: of the spectra. None: there is none, or there are several.
        further: what else the page says: of a run the `history` of step 1, nats a bin after each iteration.
    """
    told: dict[str, Any] = {"schema": SCHEMA, **asdict(said), **further}
    if store is not None:
        published = store.manifest["survey"].get("published") or {}
        told |= {
            "simulated": store.origin["simulated"],
            "survey": store.origin["survey"],
            "cut_flow": store.selection,
            "published": {name: published[name] for name in ("field", "members", "clusters") if name in published},
            "why": surprises(store),
            "files_not_used": store.manifest["counts"]["problems"],
        }
    write_json(path, told)


def star_features(on: Representation, of_field: Tensor, of_members: Tensor) -> Table:
    """Every star's most important features, with what the star table says of it.

    Args:
        on: whose star tables these are.
        of_field: (F, D) features of its field stars.
        of_members: (M, D) features of its members.

    Returns:
        A row a star: STAR, GROUP ("": in no cluster), FEATURE_1 and so on, and columns of the star table.
    """
    parts = [_part(on.field_stars, of_field), _part(on.member_stars, of_members)]
    return vstack(parts, join_type="outer", metadata_conflicts="silent")


def _part(stars: Stars, features: Tensor) -> Table:
    group = stars.group if stars.has("group") else np.full(len(stars), "")
    columns: dict[str, Any] = {"STAR": stars.id.astype(str), "GROUP": np.asarray(group).astype(str)}
    for number, values in enumerate(features[:, :FEATURES].T.numpy(), start=1):
        columns[f"FEATURE_{number}"] = values.astype(np.float32)
    for role in ROLES:
        if stars.has(role):
            columns[stars.roles[role]] = np.asarray(stars.values(role), dtype=np.float32)
    for name in LABELS:
        if name in stars.colnames and name not in columns:
            columns[name] = np.asarray(stars.values(name), dtype=np.float32)
    return Table(columns)
