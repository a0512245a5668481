"""Interstellar ranges that the survey's own spectra tell: read, find, censor (`rsca ingest censoring=found`)."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from rsca_torch.errors import InputError
from rsca_torch.ppca.fit import fit_source
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.ingest import censor
from rsca_torch.survey.ingest import ingest as ingest_survey
from rsca_torch.survey.interstellar import Feature, InterstellarFinder, residuals
from rsca_torch.survey.store import Store
from rsca_torch.survey.store_writer import require_free
from rsca_torch.survey.survey import Survey

__all__ = ["FoundCensoring", "ingest"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundCensoring(Censoring):
    """A rule some of whose interstellar ranges are yet to be found.

    Attributes:
        interstellar_pixels: ranges that are never used, besides those that will be found.
        interstellar_angstrom: likewise.
        finder: finds them.
        ppca: n_components, noise and further options of `fit_source`, for the plane of stars of low extinction.
    """

    interstellar_pixels: Sequence[Sequence[int]] = ()
    finder: InterstellarFinder = None  # type: ignore[assignment]  # given, but Censoring's defaults come before
    ppca: Mapping[str, Any] = field(default_factory=dict)

    def with_ranges(self, found: Sequence[Feature]) -> Censoring:
        """The rule that a store can hold: what was given, and what was found."""
        ranges = [*self.interstellar_angstrom, *([feature.first, feature.end] for feature in found)]
        return Censoring(self.max_error, self.min_flux, self.interstellar_pixels, ranges)

    def find(self, store: Store) -> list[Feature]:
        """The intervals to censor.

        Args:
            store: of the survey, censored but for what is to be found.

        Raises:
            InputError: too few stars of low or of high extinction, or of whom it is known.
        """
        spectra = store.select(~store.is_member)
        low, high = self.finder.sides(spectra.stars)
        log.info("interstellar features: a plane of %s, residuals of %s", low.said, high.said)
        fields = spectra.take(low.rows), spectra.take(high.rows)
        plane = fit_source(fields[0], **self.ppca, wavelength=spectra.wavelength)
        found = residuals(plane, fields[1], spectra.wavelength, self.finder.width)
        return self.finder.features(found, spectra.wavelength)


def ingest(survey: Survey, store: str | Path) -> Store:
    """Build a store from a survey's files as `survey.ingest.ingest`; interstellar ranges are found first if need be.

    For that the spectra are read once, into a store `<store>.uncensored`, and copied from there without the bins
    that were found. An interrupted call, repeated, goes on where it stopped.

    Raises:
        InputError: as `survey.ingest.ingest`, and as `FoundCensoring.find`.
    """
    store = Path(store)
    rule = survey.censoring
    if not isinstance(rule, FoundCensoring):
        return ingest_survey(survey, store)
    require_free(store)
    whole = _uncensored(replace(survey, censoring=rule.with_ranges([])), store.with_name(f"{store.name}.uncensored"))
    try:
        found = rule.find(whole)
    except InputError as error:
        raise InputError(f"{error} (what was read stays in {whole.path} for another try)") from error
    if found:
        Console(width=200).print(features_table(found))
    else:
        log.warning("no interstellar feature is deep and significant enough: none is censored")
    censored = censor(whole, rule.with_ranges(found), store)
    log.info("%d of %d bins kept, %d intervals left out", len(censored.bins), len(whole.bins), len(found))
    shutil.rmtree(whole.path)
    return censored


def _uncensored(survey: Survey, path: Path) -> Store:
    """Read, as far as it was not read before."""
    if not path.exists():
        return ingest_survey(survey, path)
    whole = Store.open(path)
    if whole.manifest["survey"] != survey.config():
        raise InputError(f"{path} holds a survey that was read otherwise: remove it, or choose another store")
    return whole


def features_table(found: Sequence[Feature]) -> RichTable:
    """The intervals, for the terminal."""
    table = RichTable(box=None, padding=(0, 2, 0, 0))
    for name in ("first, A", "end, A", "deepest, A", "depth", "in standard errors", "nearest known band, A"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        numbers = (f"{one.first:.2f}", f"{one.end:.2f}", f"{one.deepest:.2f}", f"{one.depth:.4f}")
        table.add_row(*numbers, f"{one.significance:.1f}", f"{one.band:.2f} ({one.deepest - one.band:+.2f})")
    return table
